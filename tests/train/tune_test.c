/* limn-vqgan train from a trained model: its configuration, the parts that are trained, its codebook; and the perceptual loss.
 */
#include "pictures/pictures.h"
#include "tests/scratch.h"
#include "tests/vqgan/tools.h"
#include "train/picture_set.h"
#include "train/train.h"

#include <math.h>

static const char BASE[] =
    "{\"vqgan\": {\"ch\": 32, \"ch_mult\": [1, 1], \"num_res_blocks\": 1, \"attn_resolutions\": [], \"resolution\": 16,"
    "  \"z_channels\": 16, \"n_embed\": 12, \"embed_dim\": 8, \"pixel_range\": [0, 1]},"
    " \"train\": {\"vqgan\": {\"batch_size\": 2, \"steps\": 3, \"discriminator_layers\": 1, \"discriminator_width\": 8,"
    "  \"log_every\": 1, \"learning_rate\": 1e-3, \"weight_decay\": 0.1}}}";
/* As a user's for fine-tuning: no section vqgan; what a preset for training from nothing says of the codebook is still there.
 */
static const char TUNE[] =
    "{\"train\": {\"vqgan\": {\"batch_size\": 2, \"steps\": 4, \"discriminator_layers\": 1, \"discriminator_width\": 8,"
    "  \"log_every\": 1, \"learning_rate\": 1e-3, \"weight_decay\": 0.1, \"codebook_start\": 0.5, \"revive_every\": 1,"
    "  \"revive_threshold\": 1}}}";

static void write_pictures(void) {
    limn_error error = {0};
    tar_writer *writer = tar_writer_open(scratch_path("pictures.tar"), &error);
    for (size_t n = 0; n < 6; n++) {
        picture made;
        limn_buffer bytes = {0};
        char name[32];
        snprintf(name, sizeof name, "%zu.png", n);
        assert_int_equal(picture_create(&made, 16, 16, &error), 0);
        for (size_t i = 0; i < 16 * 16 * 3; i++) made.pixels[i] = (unsigned char)(n * 40 + i / 48 * (1 + i % 3) * 4);
        assert_int_equal(picture_encode_png(&made, &bytes, &error), 0);
        assert_int_equal(tar_writer_add(writer, name, bytes.data, bytes.size, &error), 0);
        picture_free(&made);
        limn_buffer_free(&bytes);
    }
    assert_int_equal(tar_writer_commit(writer, &error), 0);
}

/* The configuration is written to a file, --set has `settings` (NULL: none), and the run is a folder of this name. */
static int train(const char *config, const char *settings, const char *name, train_options options, limn_error *error) {
    *error = (limn_error){0};
    const char *data = scratch_path("pictures.tar");
    options.config = scratch_write("config.json", config, strlen(config));
    if (!options.data.count) options.data = (limn_strings){.count = 1, .items = &data};
    if (settings) options.set = (limn_strings){.count = 1, .items = &settings};
    options.output = scratch_path(name);
    return train_vqgan(&options, error);
}

/* Longer than scratch_path's lives. */
static char base[1024], vgg[1024], heads[1024];

static void expect_trained(const char *config, const char *settings, const char *name, train_options options) {
    limn_error error;
    if (train(config, settings, name, options, &error)) fail_msg("%s: %s", name, error.message);
}

static void expect_refused(const char *config, const char *settings, train_options options, int code, const char *words) {
    limn_error error;
    if (train(config, settings, "refused", options, &error) == 0) fail_msg("'%s' is not refused", words);
    assert_contains(error.message, words);
    assert_int_equal(error.exit_code, code);
    assert_false(limn_file_exists(scratch_path("refused/model")));
    (void)limn_remove_tree(scratch_path("refused"), NULL);
}

static int setup(void **state) {
    limn_set_log_level(LIMN_LOG_WARNING);
    limn_set_threads(2);
    if (scratch_setup(state)) return -1;
    write_pictures();
    snprintf(base, sizeof base, "%s/base/model", scratch_folder);
    snprintf(vgg, sizeof vgg, "%s/vgg16.pth", scratch_folder);
    snprintf(heads, sizeof heads, "%s/vgg.pth", scratch_folder);
    write_vgg(vgg, NULL);
    write_heads(heads, NULL);
    expect_trained(BASE, NULL, "base", (train_options){0});
    return 0;
}

/* ---------------------------------------------------------------- what a run left */

static tensor_file *weights_of(const char *run) {
    limn_error error = {0};
    char path[1200];
    snprintf(path, sizeof path, "%s/model/model.safetensors", scratch_path(run));
    tensor_file *file = tensor_file_open(path, &error);
    if (!file) fail_msg("%s", error.message);
    return file;
}

/* Every tensor is the base's, bit for bit, unless its name begins with one of the parts; of each part some have changed. */
static void check_changed(const char *run, const char *const *parts, size_t part_count) {
    tensor_file *before = weights_of("base"), *after = weights_of(run);
    size_t changed[8] = {0};
    assert_int_equal(tensor_file_count(before), tensor_file_count(after));
    for (size_t i = 0; i < tensor_file_count(before); i++) {
        const tensor *a = tensor_file_at(before, i), *b = tensor_file_at(after, i);
        size_t part = 0;
        while (part < part_count && strncmp(a->name, parts[part], strlen(parts[part])) != 0) part++;
        bool same = memcmp(a->data, b->data, a->count * sizeof(float)) == 0;
        if (part == part_count && !same) fail_msg("%s was to stay as it is", a->name);
        if (part < part_count) changed[part] += !same;
    }
    for (size_t part = 0; part < part_count; part++)
        if (!changed[part]) fail_msg("nothing of %s was trained", parts[part]);
    tensor_file_close(before);
    tensor_file_close(after);
}

/* The value of a key in line `line` (from 1) of the run's metrics; NAN where it is not there. */
static double metric(const char *run, size_t line, const char *key) {
    char path[1200];
    snprintf(path, sizeof path, "%s/metrics.jsonl", scratch_path(run));
    size_t size;
    char *text = limn_file_read(path, 1 << 20, &size, NULL), *at = text;
    assert_non_null(text);
    for (size_t i = 1; i < line; i++) at = strchr(at, '\n') + 1;
    json_t *values = json_loads(at, JSON_DISABLE_EOF_CHECK, NULL);
    double value = json_is_number(json_object_get(values, key)) ? json_number_value(json_object_get(values, key)) : (double)NAN;
    json_decref(values);
    free(text);
    return value;
}

/* ---------------------------------------------------------------- tests */

static void what_is_not_trained_stays_bit_for_bit(void **state) {
    (void)state;
    static const char *const decoder[] = {"decoder.", "post_quant_conv."}, *const codes[] = {"quantize."};
    static const char *const middle[] = {"encoder.mid.", "decoder.conv_out."};
    expect_trained(TUNE, NULL, "decoder", (train_options){.init = base, .train = "decoder,post_quant_conv"});
    check_changed("decoder", decoder, 2);
    expect_trained(TUNE, NULL, "codes", (train_options){.init = base, .train = "quantize"});
    check_changed("codes", codes, 1);
    expect_trained(TUNE, NULL, "middle", (train_options){.init = base, .train = "encoder.mid,decoder.conv_out"});
    check_changed("middle", middle, 2);
    /* Not even where the codebook is asked to be placed anew. */
    expect_trained(TUNE, "train.vqgan.codebook_start=0.5", "still", (train_options){.init = base, .train = "decoder"});
    check_changed("still", decoder, 1);
    expect_refused(TUNE, NULL, (train_options){.init = base, .train = "decodr"}, LIMN_EXIT_USAGE, "decodr");
}

static void the_configuration_is_the_model_s(void **state) {
    (void)state;
    expect_trained(TUNE, NULL, "plain", (train_options){.init = base});
    limn_error error = {0};
    json_t *config = limn_json_load(scratch_path("plain/model/config.json"), &error);
    if (!config) fail_msg("%s", error.message);
    assert_int_equal(json_integer_value(json_array_get(json_object_get(config, "pixel_range"), 0)), 0);
    assert_int_equal(json_integer_value(json_object_get(config, "n_embed")), 12);
    json_decref(config);
    /* A section that says the same, or less, is as none. */
    expect_trained(BASE, NULL, "same", (train_options){.init = base});
    expect_trained(TUNE, "vqgan={\"ch_mult\": [1, 1], \"n_embed\": 12, \"z_channels\": 16}", "less",
                   (train_options){.init = base});
    expect_refused(BASE, "vqgan.n_embed=16", (train_options){.init = base}, LIMN_EXIT_USAGE, "vqgan.n_embed is 16, but");
    expect_refused(BASE, "vqgan.ch_mult=[1,2]", (train_options){.init = base}, LIMN_EXIT_USAGE, "vqgan.ch_mult is [1,2], but");
    expect_refused(BASE, "vqgan.pixel_range=[-1,1]", (train_options){.init = base}, LIMN_EXIT_USAGE, "vqgan.pixel_range");
    expect_refused(BASE, "vqgan.n_embd=16", (train_options){.init = base}, LIMN_EXIT_USAGE, "vqgan.n_embd is 16, but");
    expect_refused(TUNE, NULL, (train_options){0}, LIMN_EXIT_USAGE, "no section \"vqgan\"");
    expect_refused(TUNE, NULL, (train_options){.init = scratch_path("nothing")}, LIMN_EXIT_FAILED, "nothing");
}

static int copy_tensor(void *context, size_t index, tensor_sink *sink, limn_error *error) {
    const tensor *one = ((tensor *)context) + index;
    return tensor_sink_write(sink, one->data, one->count * sizeof(float), error);
}

enum { TENSORS_MAX = 256, ADDED_MAX = 64 };

/* A file's tensors, and room for more behind them. */
static size_t list_tensors(tensor out[TENSORS_MAX], const tensor_file *file) {
    size_t count = tensor_file_count(file);
    assert_true(count + ADDED_MAX <= TENSORS_MAX);
    for (size_t i = 0; i < count; i++) out[i] = *tensor_file_at(file, i);
    return count;
}

/* A folder as taming-transformers leaves it. */
static void write_taming(const char *folder, tensor *tensors, size_t count) {
    limn_error error = {0};
    char checkpoint[1200], config[1200];
    snprintf(checkpoint, sizeof checkpoint, "%s/last.ckpt", folder);
    snprintf(config, sizeof config, "%s/config.json", folder);
    limn_make_directories(folder, NULL);
    assert_int_equal(pytorch_write(checkpoint, tensors, count, "state_dict", copy_tensor, tensors, &error), 0);
    assert_int_equal(limn_atomic_copy(scratch_path("base/model/config.json"), config, &error), 0);
}

/* The discriminator of a taming checkpoint is taken over; where the configuration makes another, a new one is trained. */
static void its_discriminator_comes_along(void **state) {
    (void)state;
    limn_error error = {0};
    tensor_file *file = weights_of("base");
    tensor tensors[TENSORS_MAX];
    char names[ADDED_MAX][128];
    size_t count = list_tensors(tensors, file), extra = 0;
    static const struct {
        const char *name;
        size_t rank, shape[4];
    } parts[] = {{"main.0.weight", 4, {8, 3, 4, 4}},
                 {"main.0.bias", 1, {8}},
                 {"main.2.weight", 4, {16, 8, 4, 4}},
                 {"main.3.weight", 1, {16}},
                 {"main.3.bias", 1, {16}},
                 {"main.3.running_mean", 1, {16}},
                 {"main.3.running_var", 1, {16}},
                 {"main.5.weight", 4, {1, 16, 4, 4}},
                 {"main.5.bias", 1, {1}}};
    float *values = zeroed(16 * 8 * 16, sizeof *values);
    limn_random_fill_normal(values, 16 * 8 * 16, 0.1f, 8, 8);
    for (; extra < sizeof parts / sizeof *parts; extra++) {
        snprintf(names[extra], sizeof names[extra], "loss.discriminator.%s", parts[extra].name);
        tensor *made = &tensors[count + extra];
        *made = (tensor){.name = names[extra], .type = TENSOR_F32, .rank = parts[extra].rank, .count = 1, .data = values};
        memcpy(made->shape, parts[extra].shape, sizeof parts[extra].shape);
        for (size_t d = 0; d < made->rank; d++) made->count *= made->shape[d];
    }
    write_taming(scratch_path("whole"), tensors, count + extra);
    vqgan_discriminator *self = vqgan_discriminator_create(1, 8, 1, &error);
    assert_int_equal(vqgan_discriminator_load(self, scratch_path("whole"), &error), 1);
    const parameter *last = parameters_find(vqgan_discriminator_get_parameters(self), "main.5.weight");
    for (size_t c = 0; c < 16; c++) /* OIHW to channels last */
        for (size_t p = 0; p < 16; p++) assert_true(fabsf(last->value[p * 16 + c] - values[c * 16 + p]) == 0);
    size_t statistics;
    assert_memory_equal(vqgan_discriminator_statistics(self, &statistics), values, 16 * sizeof *values);
    assert_int_equal(vqgan_discriminator_load(self, base, &error), 0);
    vqgan_discriminator_free(self);
    self = vqgan_discriminator_create(1, 16, 1, &error);
    assert_int_equal(vqgan_discriminator_load(self, scratch_path("whole"), &error), -1);
    assert_contains(error.message, "loss.discriminator.main.0.weight");
    vqgan_discriminator_free(self);
    /* In a run: the first step's opinion is another discriminator's. */
    expect_trained(TUNE, NULL, "own", (train_options){.init = base});
    expect_trained(TUNE, NULL, "taken", (train_options){.init = scratch_path("whole")});
    assert_true(metric("own", 1, "l1") == metric("taken", 1, "l1"));
    assert_true(metric("own", 1, "generator_loss") != metric("taken", 1, "generator_loss"));
    expect_trained(TUNE, "train.vqgan.discriminator_width=16", "wider", (train_options){.init = base});
    expect_trained(TUNE, "train.vqgan.discriminator_width=16", "anew", (train_options){.init = scratch_path("whole")});
    assert_true(metric("wider", 1, "generator_loss") == metric("anew", 1, "generator_loss"));
    free(values);
    tensor_file_close(file);
}

/* A folder as taming-transformers leaves it is as good as a converted one; one without an encoder is none to train. */
static void a_taming_checkpoint_is_begun_from(void **state) {
    (void)state;
    tensor_file *file = weights_of("base");
    tensor tensors[TENSORS_MAX];
    size_t count = list_tensors(tensors, file), decoder = 0;
    write_taming(scratch_path("taming"), tensors, count);
    expect_trained(TUNE, NULL, "from-folder", (train_options){.init = base});
    expect_trained(TUNE, NULL, "from-taming", (train_options){.init = scratch_path("taming")});
    tensor_file *a = weights_of("from-folder"), *b = weights_of("from-taming");
    for (size_t i = 0; i < tensor_file_count(a); i++)
        assert_memory_equal(tensor_file_at(a, i)->data, tensor_file_at(b, i)->data,
                            tensor_file_at(a, i)->count * sizeof(float));
    tensor_file_close(a);
    tensor_file_close(b);
    for (size_t i = 0; i < count; i++)
        if (strncmp(tensors[i].name, "encoder.", 8) != 0) tensors[decoder++] = tensors[i];
    write_taming(scratch_path("taming"), tensors, decoder);
    expect_refused(TUNE, NULL, (train_options){.init = scratch_path("taming")}, LIMN_EXIT_FAILED, "encoder");
    tensor_file_close(file);
}

/* Neither the steps without a codebook, nor its start, nor revival, though the configuration has them, unless --set asks. */
static void a_trained_codebook_is_spared(void **state) {
    (void)state;
    expect_trained(TUNE, NULL, "spared", (train_options){.init = base});
    for (size_t line = 1; line <= 4; line++) {
        assert_true(metric("spared", line, "codebook_loss") > 0);
        assert_true(metric("spared", line, "codes_revived") == 0);
    }
    expect_trained(TUNE, "train.vqgan.codebook_start=0.5", "placed", (train_options){.init = base});
    assert_true(metric("placed", 1, "codebook_loss") == 0);
    assert_true(metric("placed", 3, "codebook_loss") > 0);
    expect_trained(TUNE, "train.vqgan.revive_every=1", "revived", (train_options){.init = base});
    assert_true(metric("revived", 1, "codes_revived") + metric("revived", 2, "codes_revived") > 0);
}

static void the_perceptual_loss_is_trained_with(void **state) {
    (void)state;
    const train_options lpips = {.init = base, .lpips_vgg = vgg, .lpips_heads = heads};
    expect_trained(TUNE, NULL, "lpips", lpips);
    expect_trained(TUNE, "train.vqgan.perceptual_weight=0", "weightless", lpips);
    expect_trained(TUNE, NULL, "without", (train_options){.init = base});
    assert_true(metric("lpips", 1, "perceptual_loss") > 0);
    assert_true(isnan(metric("without", 1, "perceptual_loss")));
    assert_true(metric("lpips", 1, "l1") == metric("without", 1, "l1"));
    assert_true(metric("lpips", 2, "l1") != metric("without", 2, "l1"));
    assert_true(metric("weightless", 2, "l1") == metric("without", 2, "l1"));
    limn_error error;
    assert_int_equal(train(TUNE, NULL, "lpips", (train_options){.init = base}, &error), -1);
    assert_contains(error.message, "lpips_");
    train_options half = lpips;
    half.lpips_heads = NULL;
    expect_refused(TUNE, NULL, half, LIMN_EXIT_USAGE, "--lpips-heads");
    expect_refused(TUNE, "train.vqgan.perceptual_weight=1", (train_options){.init = base}, LIMN_EXIT_USAGE,
                   "perceptual_weight");
}

/* The discriminator's rate falls over the steps of the run, whoever says how many these are. */
static void the_discriminator_follows_the_steps_of_the_run(void **state) {
    (void)state;
    char decays[2][1024];
    static const char *const names[] = {"decays-0", "decays-1"};
    for (size_t i = 0; i < 2; i++) {
        snprintf(decays[i], sizeof decays[i], "%.*s%s, \"decay\": \"linear\"}}}", (int)(strstr(TUNE, "\"steps\": 4") - TUNE),
                 TUNE,
                 i ? "\"steps\": 1000, \"discriminator_layers\": 1, \"discriminator_width\": 8, \"log_every\": 1"
                   : "\"steps\": 4, \"discriminator_layers\": 1, \"discriminator_width\": 8, \"log_every\": 1");
        expect_trained(decays[i], NULL, names[i], (train_options){.init = base, .steps = i ? 4 : 0});
    }
    for (size_t line = 1; line <= 4; line++)
        assert_true(metric(names[0], line, "discriminator_loss") == metric(names[1], line, "discriminator_loss"));
    assert_true(metric(names[0], 4, "discriminator_loss") > 0);
}

/* What is rehearsed to measure a step are batches after each other, as in training. */
static void rehearsals_go_through_the_pictures(void **state) {
    (void)state;
    /* Three batches, all that the first alone would have decoded ahead; then none for long. */
    enum { GOOD = 6, PICTURES = GOOD + 100 };
    static uint64_t order[PICTURES];
    uint64_t epoch = UINT64_MAX;
    bool good[PICTURES] = {false};
    limn_error error = {0};
    picture made;
    limn_buffer bytes = {0};
    for (uint64_t draw = 0; draw < GOOD; draw++) good[data_order_at(order, &epoch, PICTURES, 1, draw)] = true;
    assert_int_equal(picture_create(&made, 16, 16, &error), 0);
    memset(made.pixels, 100, 16 * 16 * 3);
    assert_int_equal(picture_encode_png(&made, &bytes, &error), 0);
    tar_writer *writer = tar_writer_open(scratch_path("few.tar"), &error);
    for (size_t n = 0; n < PICTURES; n++) {
        char name[32];
        snprintf(name, sizeof name, "%03zu.png", n);
        assert_int_equal(tar_writer_add(writer, name, good[n] ? bytes.data : "none", good[n] ? bytes.size : 4, &error), 0);
    }
    assert_int_equal(tar_writer_commit(writer, &error), 0);
    picture_free(&made);
    limn_buffer_free(&bytes);
    const char *data = scratch_path("few.tar");
    assert_int_equal(train(TUNE, NULL, "rehearsed", (train_options){.init = base, .minutes = 1e-4, .data = {1, &data}}, &error),
                     -1);
    assert_contains(error.message, "pictures in a row cannot be decoded");
}

/* The number that the run's first event file has last with this tag. */
static float event(const char *run, const char *tag) {
    char pattern[1200];
    limn_strings found = {0};
    limn_error error = {0};
    snprintf(pattern, sizeof pattern, "%s/events.out.tfevents.*", scratch_path(run));
    const char *one = pattern;
    assert_int_equal(limn_expand_paths(&(limn_strings){1, &one}, &found, &error), 0);
    size_t size, length = strlen(tag);
    char *bytes = limn_file_read(found.items[0], 1 << 20, &size, &error);
    assert_non_null(bytes);
    float value = NAN;
    for (size_t i = 0; i + length + 1 + sizeof value <= size; i++)
        if (memcmp(bytes + i, tag, length) == 0 && bytes[i + length] == 0x15)
            memcpy(&value, bytes + i + length + 1, sizeof value);
    free(bytes);
    limn_strings_free(&found);
    return value;
}

static void what_is_not_trained_is_shown_without_gradients(void **state) {
    (void)state;
    expect_trained(TUNE, NULL, "shown", (train_options){.init = base, .train = "decoder.conv_out"});
    assert_true(event("shown", "gradient norms/decoder.conv_out") > 0);
    assert_true(event("shown", "gradient norms/post_quant_conv") == 0);
    assert_true(event("shown", "gradient norms/decoder.conv_in") == 0);
}

/* A reconstruction without a fault has no finite PSNR: the line says so. */
static void a_perfect_reconstruction_is_null(void **state) {
    (void)state;
    limn_error error = {0};
    picture black;
    limn_buffer bytes = {0};
    tar_writer *writer = tar_writer_open(scratch_path("black.tar"), &error);
    assert_int_equal(picture_create(&black, 16, 16, &error), 0);
    memset(black.pixels, 0, 16 * 16 * 3);
    assert_int_equal(picture_encode_png(&black, &bytes, &error), 0);
    assert_int_equal(tar_writer_add(writer, "0.png", bytes.data, bytes.size, &error), 0);
    assert_int_equal(tar_writer_commit(writer, &error), 0);
    picture_free(&black);
    limn_buffer_free(&bytes);
    vqgan *model = vqgan_load(base, true, &error);
    if (!model) fail_msg("%s", error.message);
    const parameter *bias = parameters_find(vqgan_get_parameters(model), "decoder.conv_out.bias");
    for (size_t c = 0; c < 3; c++) bias->mutable_value[c] = -1000;
    assert_int_equal(vqgan_save(model, scratch_path("darkness"), &error), 0);
    vqgan_free(model);
    const char *kept = scratch_path("black.tar");
    expect_trained(TUNE, NULL, "dark", (train_options){.init = scratch_path("darkness"), .valid = {1, &kept}});
    char path[1200];
    size_t size;
    snprintf(path, sizeof path, "%s/metrics.jsonl", scratch_path("dark"));
    char *lines = limn_file_read(path, 1 << 20, &size, &error);
    assert_non_null(lines);
    assert_non_null(strstr(lines, "\"valid_psnr\": null"));
    free(lines);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_not_trained_stays_bit_for_bit),
        cmocka_unit_test(the_configuration_is_the_model_s),
        cmocka_unit_test(a_taming_checkpoint_is_begun_from),
        cmocka_unit_test(its_discriminator_comes_along),
        cmocka_unit_test(a_trained_codebook_is_spared),
        cmocka_unit_test(the_perceptual_loss_is_trained_with),
        cmocka_unit_test(the_discriminator_follows_the_steps_of_the_run),
        cmocka_unit_test(rehearsals_go_through_the_pictures),
        cmocka_unit_test(what_is_not_trained_is_shown_without_gradients),
        cmocka_unit_test(a_perfect_reconstruction_is_null),
    };
    return cmocka_run_group_tests(tests, setup, scratch_teardown);
}
