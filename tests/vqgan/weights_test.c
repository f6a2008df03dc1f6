#include "tests/vqgan/tools.h"

#include "tests/scratch.h"

#include "formats/formats.h"

#include <math.h>

/* Loading must fail with one line that contains all three words. */
static void refuse(const char *directory, const char *first, const char *second, const char *third) {
    limn_error error = {0};
    if (vqgan_load(directory, false, &error)) fail_msg("%s was loaded although its %s is wrong", directory, second);
    assert_contains(error.message, first);
    assert_contains(error.message, second);
    assert_contains(error.message, third);
    assert_null(strchr(error.message, '\n'));
}

/* The path of a folder in the scratch folder; the text lives until the next call. */
static const char *folder(const char *name) {
    static char path[1024];
    snprintf(path, sizeof path, "%s", scratch_path(name));
    return path;
}

/* A folder with the tiny model in it. */
static const char *saved_folder(const char *name) {
    limn_error error = {0};
    const char *directory = folder(name);
    vqgan *model = tiny_model(NULL, false);
    if (vqgan_save(model, directory, &error) != 0) fail_msg("%s", error.message);
    vqgan_free(model);
    return directory;
}

/* Replaces a folder's config.json by the tiny one with a change. */
static void write_config(const char *directory, const char *assignment) {
    limn_error error = {0};
    char path[4096];
    json_t *json = tiny_json(assignment);
    assert_int_equal(limn_path_join(path, sizeof path, directory, "config.json", &error), 0);
    assert_int_equal(limn_json_save(json, path, &error), 0);
    json_decref(json);
}

static void a_saved_model_comes_back_bit_for_bit(void **state) {
    (void)state;
    limn_error error = {0};
    char again[4096], path[4096], path_again[4096], sha256[65];
    vqgan *model = tiny_model(NULL, false);
    const char *directory = saved_folder("round/trip");
    vqgan *loaded = vqgan_load(directory, true, &error);
    if (!loaded) fail_msg("%s", error.message);
    parameters *one = vqgan_get_parameters(model), *other = vqgan_get_parameters(loaded);
    assert_int_equal(one->count, other->count);
    for (size_t i = 0; i < one->count; i++) {
        assert_string_equal(one->list[i].name, other->list[i].name);
        assert_memory_equal(one->list[i].value, other->list[i].value, one->list[i].size * sizeof(float));
        assert_non_null(other->list[i].grad);
    }
    assert_int_equal(limn_path_join(path, sizeof path, directory, "model.safetensors", &error), 0);
    assert_int_equal(limn_sha256_file(path, sha256, &error), 0);
    assert_string_equal(vqgan_get_sha256(loaded), sha256);
    assert_string_equal(vqgan_get_sha256(model), "");
    assert_true(vqgan_get_config(loaded)->pixel_min == -1);

    /* and writing what was read gives the same files */
    snprintf(again, sizeof again, "%s", scratch_path("again"));
    assert_int_equal(vqgan_save(loaded, again, &error), 0);
    assert_int_equal(limn_path_join(path_again, sizeof path_again, again, "model.safetensors", &error), 0);
    assert_same_file(path, path_again);
    vqgan_free(model);
    vqgan_free(loaded);
}

static void files_have_the_original_names_and_shapes(void **state) {
    (void)state;
    limn_error error = {0};
    char path[4096];
    assert_int_equal(limn_path_join(path, sizeof path, saved_folder("names"), "model.safetensors", &error), 0);
    tensor_file *file = safetensors_open(path, &error);
    assert_non_null(file);
    assert_non_null(
        tensor_file_need(file, "encoder.down.1.block.0.nin_shortcut.weight", 4, (const size_t[]){64, 32, 1, 1}, &error));
    assert_non_null(tensor_file_need(file, "encoder.down.0.downsample.conv.weight", 4, (const size_t[]){32, 32, 3, 3}, &error));
    assert_non_null(tensor_file_need(file, "encoder.conv_in.weight", 4, (const size_t[]){32, 3, 3, 3}, &error));
    assert_non_null(tensor_file_need(file, "decoder.up.2.upsample.conv.bias", 1, (const size_t[]){32}, &error));
    assert_non_null(tensor_file_need(file, "decoder.up.1.attn.1.proj_out.weight", 4, (const size_t[]){64, 64, 1, 1}, &error));
    assert_non_null(tensor_file_need(file, "decoder.norm_out.weight", 1, (const size_t[]){32}, &error));
    assert_non_null(tensor_file_need(file, "quantize.embedding.weight", 2, (const size_t[]){20, 8}, &error));
    assert_non_null(tensor_file_need(file, "quant_conv.weight", 4, (const size_t[]){8, 24, 1, 1}, &error));
    assert_non_null(tensor_file_need(file, "post_quant_conv.weight", 4, (const size_t[]){24, 8, 1, 1}, &error));

    /* element (o, i, y, x) of the file is element (o, y, x, i) in memory */
    vqgan *model = tiny_model(NULL, false);
    const parameter *here = parameters_find(vqgan_get_parameters(model), "encoder.conv_in.weight");
    float value;
    tensor_to_float(tensor_file_find(file, here->name), ((5 * 3 + 2) * 3 + 1) * 3 + 0, 1, &value);
    assert_true(value == here->value[((5 * 3 + 1) * 3 + 0) * 3 + 2]);
    vqgan_free(model);
    tensor_file_close(file);
}

static void first_values_make_a_chain_of_plain_convolutions(void **state) {
    (void)state;
    limn_error error = {0};
    vqgan_config config = tiny_config(NULL);
    vqgan *model = vqgan_create(&config, 3, false, &error), *same = vqgan_create(&config, 3, false, &error);
    vqgan *other = vqgan_create(&config, 4, false, &error);
    parameters *set = vqgan_get_parameters(model);
    assert_memory_equal(set->storage, vqgan_get_parameters(same)->storage, set->size * sizeof(float));
    for (size_t i = 0; i < set->count; i++) {
        const parameter *here = &set->list[i];
        double largest = 0, squares = sum_of_squares(here->value, here->size);
        for (size_t k = 0; k < here->size; k++) largest = fmax(largest, fabs((double)here->value[k]));
        if (strstr(here->name, ".conv2.weight") || strstr(here->name, ".proj_out.weight")) {
            assert_true(squares == 0); /* the ends of residual branches */
        } else if (here->layout == PARAMETER_CONVOLUTION || here->rank == 2) {
            double bound = here->rank == 2 ? 1.0 / 20 : sqrt(3 / (double)(here->size / here->shape[0]));
            assert_true(largest <= bound * 1.000001 && largest > 0.8 * bound);
            /* a uniform distribution's variance */
            if (here->size > 500) assert_true(fabs(squares / (double)here->size / (bound * bound / 3) - 1) < 0.2);
            assert_memory_not_equal(here->value, vqgan_get_parameters(other)->list[i].value, here->size * sizeof(float));
        } else if (strstr(here->name, "norm")) {
            assert_true(squares == (strstr(here->name, "weight") ? (double)here->size : 0));
        } else {
            assert_true(squares == 0); /* convolutions' biases */
        }
    }
    vqgan_free(model);
    vqgan_free(same);
    vqgan_free(other);
    vqgan_config_free(&config);
}

static void weights_of_another_shape_are_refused(void **state) {
    (void)state;
    const char *directory = saved_folder("shape");
    write_config(directory, "n_embed=21");
    refuse(directory, "model.safetensors", "quantize.embedding.weight", "21");
    write_config(directory, "num_res_blocks=2");
    refuse(directory, "model.safetensors", "encoder.down.0.block.1", "");
    /* far more than memory: found in the shapes, not by asking for it */
    write_config(directory, "ch_mult=[1,64,64]");
    refuse(directory, "model.safetensors", "encoder.down.1.block.0", "2048");
}

static void broken_files_are_refused(void **state) {
    (void)state;
    limn_error error = {0};
    char path[4096];
    refuse(scratch_path("nowhere"), "nowhere", "model.safetensors", "flax_model.msgpack");
    const char *directory = saved_folder("broken");
    assert_int_equal(limn_path_join(path, sizeof path, directory, "model.safetensors", &error), 0);
    assert_int_equal(truncate(path, 100000), 0);
    refuse(directory, "model.safetensors", "", "");
    assert_int_equal(truncate(path, 0), 0);
    refuse(directory, "model.safetensors", "", "");
    directory = saved_folder("unconfigured");
    assert_int_equal(limn_path_join(path, sizeof path, directory, "config.json", &error), 0);
    assert_int_equal(unlink(path), 0);
    refuse(directory, "config.json", "YAML", "");
}

/* ---------------------------------------------------------------- Flax */

static void append(limn_buffer *buffer, const void *data, size_t size) {
    assert_int_equal(limn_buffer_append(buffer, data, size, NULL), 0);
}

/* A msgpack head: a type byte and a 32-bit size. */
static void append_head(limn_buffer *buffer, unsigned char type, size_t size) {
    unsigned char head[5] = {type, (unsigned char)(size >> 24), (unsigned char)(size >> 16), (unsigned char)(size >> 8),
                             (unsigned char)size};
    append(buffer, head, sizeof head);
}

enum { MAP = 0xdf, STRING = 0xdb, EXTENSION = 0xc9, BINARY = 0xc6, NUMBER = 0xce };

static void append_string(limn_buffer *buffer, const char *text) {
    append_head(buffer, STRING, strlen(text));
    append(buffer, text, strlen(text));
}

static void append_array(limn_buffer *buffer, const float *values, size_t rank, const size_t *shape) {
    limn_buffer array = {0};
    size_t count = 1;
    unsigned char head[2] = {0x93, (unsigned char)(0x90 | rank)};
    append(&array, head, 2);
    for (size_t i = 0; i < rank; i++) {
        append_head(&array, NUMBER, shape[i]);
        count *= shape[i];
    }
    append_string(&array, "float32");
    append_head(&array, BINARY, count * sizeof *values);
    append(&array, values, count * sizeof *values);
    append_head(buffer, EXTENSION, array.size);
    append(buffer, "\x01", 1);
    append(buffer, array.data, array.size);
    limn_buffer_free(&array);
}

/* vqgan-jax's names and shapes: encoder/down_0/block_1/conv1/kernel, (Y,X,I,O). Maps are flat here: keys hold the slashes. */
static limn_buffer flax_file(vqgan *model) {
    limn_buffer file = {0};
    const parameters *set = vqgan_get_parameters(model);
    append_head(&file, MAP, set->count);
    for (size_t i = 0; i < set->count; i++) {
        const parameter *here = &set->list[i];
        char name[256] = {0};
        size_t O = here->shape[0], rest = here->size / O, length = strlen(here->name) - strlen("weight");
        bool weight = strcmp(here->name + length, "weight") == 0;
        for (size_t k = 0; here->name[k]; k++)
            name[k] = here->name[k] != '.' ? here->name[k] : here->name[k + 1] >= '0' && here->name[k + 1] <= '9' ? '_' : '/';
        if (weight)
            snprintf(name + length, sizeof name - length, "%s",
                     here->rank == 4   ? "kernel"
                     : here->rank == 2 ? "embedding"
                                       : "scale");
        append_string(&file, name);
        if (here->rank < 4) {
            append_array(&file, here->value, here->rank, here->shape);
            continue;
        }
        float *turned = zeroed(here->size, sizeof *turned);
        for (size_t o = 0; o < O; o++)
            for (size_t k = 0; k < rest; k++) turned[k * O + o] = here->value[o * rest + k];
        append_array(&file, turned, 4, (const size_t[]){here->shape[1], here->shape[2], here->shape[3], O});
        free(turned);
    }
    return file;
}

static void flax_weights_are_read(void **state) {
    (void)state;
    limn_error error = {0};
    char sha256[65];
    vqgan *model = tiny_model(NULL, false);
    limn_buffer file = flax_file(model);
    const char *directory = folder("flax");
    assert_int_equal(limn_make_directories(directory, &error), 0);
    write_config(directory, NULL);
    scratch_write("flax/flax_model.msgpack", file.data, file.size);
    vqgan *loaded = vqgan_load(directory, false, &error);
    if (!loaded) fail_msg("%s", error.message);
    parameters *set = vqgan_get_parameters(model);
    assert_memory_equal(set->storage, vqgan_get_parameters(loaded)->storage, set->size * sizeof(float));
    limn_sha256(file.data, file.size, sha256);
    assert_string_equal(vqgan_get_sha256(loaded), sha256);
    assert_true(vqgan_get_config(loaded)->pixel_min == 0 && vqgan_get_config(loaded)->pixel_max == 1);

    /* saved as safetensors it keeps its range */
    assert_int_equal(vqgan_save(loaded, scratch_path("from-flax"), &error), 0);
    vqgan *again = vqgan_load(scratch_path("from-flax"), false, &error);
    assert_non_null(again);
    assert_true(vqgan_get_config(again)->pixel_min == 0);
    vqgan_free(again);
    vqgan_free(loaded);

    write_config(directory, "pixel_range=[-1,1]");
    loaded = vqgan_load(directory, false, &error);
    assert_true(vqgan_get_config(loaded)->pixel_min == -1);
    vqgan_free(loaded);
    vqgan_free(model);
    limn_buffer_free(&file);
}

static void broken_flax_weights_are_refused(void **state) {
    (void)state;
    limn_error error = {0};
    vqgan *model = tiny_model(NULL, false);
    limn_buffer file = flax_file(model);
    const char *directory = folder("flax-broken");
    assert_int_equal(limn_make_directories(directory, &error), 0);
    write_config(directory, NULL);
    const size_t sizes[] = {0, 1, 4, 5, 20, 60, 1000, file.size / 2, file.size - 1};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        scratch_write("flax-broken/flax_model.msgpack", file.data, sizes[i]);
        refuse(directory, "flax_model.msgpack", "", "");
    }
    scratch_write("flax-broken/flax_model.msgpack", file.data, file.size);
    write_config(directory, "z_channels=25");
    refuse(directory, "flax_model.msgpack", "encoder/conv_out/kernel", "25");
    vqgan_free(model);
    limn_buffer_free(&file);
}

static void a_full_disk_is_one_line(void **state) {
    (void)state;
    limn_error error = {0};
    char path[4096];
    vqgan *model = tiny_model(NULL, false);
    const char *directory = folder("full");
    scratch_limit_files(100000);
    int status = vqgan_save(model, directory, &error);
    scratch_limit_files(RLIM_INFINITY);
    assert_int_equal(status, -1);
    assert_contains(error.message, "model.safetensors");
    assert_int_equal(limn_path_join(path, sizeof path, directory, "model.safetensors", &error), 0);
    assert_false(limn_file_exists(path));
    vqgan_free(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_saved_model_comes_back_bit_for_bit),
        cmocka_unit_test(files_have_the_original_names_and_shapes),
        cmocka_unit_test(first_values_make_a_chain_of_plain_convolutions),
        cmocka_unit_test(weights_of_another_shape_are_refused),
        cmocka_unit_test(broken_files_are_refused),
        cmocka_unit_test(flax_weights_are_read),
        cmocka_unit_test(broken_flax_weights_are_refused),
        cmocka_unit_test(a_full_disk_is_one_line),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
