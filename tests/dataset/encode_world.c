#include "encode_world.h"

#include <stdlib.h>
#include <string.h>

void save_random_vqgan(const char *directory, uint64_t seed) {
    limn_error error = {0};
    vqgan_config config;
    json_t *json = json_pack("{s:i, s:[i,i], s:i, s:i, s:i, s:i, s:i, s:[], s:[i,i]}", "ch", 32, "ch_mult", 1, 1,
                             "num_res_blocks", 1, "resolution", SIDE, "z_channels", 32, "embed_dim", 8, "n_embed", CODES,
                             "attn_resolutions", "pixel_range", -1, 1);
    if (vqgan_config_read(&config, json, "test", true, &error)) fail_msg("%s", error.message);
    vqgan *model = vqgan_create(&config, seed, false, &error);
    if (!model) fail_msg("%s", error.message);
    /* At random weights the codebook of ±1/n is so small that every latent has the same nearest entry. */
    parameter *codebook = parameters_find(vqgan_get_parameters(model), "quantize.embedding.weight");
    assert_non_null(codebook);
    for (size_t i = 0; i < codebook->size; i++) codebook->mutable_value[i] *= 30.0f;
    if (vqgan_save(model, directory, &error)) fail_msg("%s", error.message);
    vqgan_free(model);
    vqgan_config_free(&config);
    json_decref(json);
}

picture paint(size_t number, size_t width, size_t height) {
    picture made;
    assert_int_equal(picture_create(&made, width, height, NULL), 0);
    for (size_t i = 0; i < width * height * 3; i++) {
        size_t x = i / 3 % width, y = i / 3 / width;
        made.pixels[i] = (unsigned char)(x * (7 + number % 5) + y * (3 + number % 11) + i % 3 * 80 + number * 13);
    }
    return made;
}

void add_entry(tar_writer *writer, const char *key, const char *ending, const void *data, size_t size) {
    char name[300];
    snprintf(name, sizeof name, "%s.%s", key, ending);
    assert_int_equal(tar_writer_add(writer, name, data, size, NULL), 0);
}

void write_painted_tar(const char *path, size_t number, size_t count, size_t width, size_t height) {
    tar_writer *writer = tar_writer_open(path, NULL);
    for (size_t i = 0; i < count; i++) {
        char key[48], caption[64];
        limn_buffer bytes = {0};
        picture painted = paint(number * 1000 + i, width, height);
        assert_int_equal(picture_encode_png(&painted, &bytes, NULL), 0);
        snprintf(key, sizeof key, "%05zu%04zu", number, i);
        snprintf(caption, sizeof caption, "caption %zu of %zu\n", i, number);
        add_entry(writer, key, "png", bytes.data, bytes.size);
        add_entry(writer, key, "txt", caption, strlen(caption));
        limn_buffer_free(&bytes);
        picture_free(&painted);
    }
    assert_int_equal(tar_writer_commit(writer, NULL), 0);
}

int make_world(void **state) {
    world *self = calloc(1, sizeof *self);
    make_folder(self->folder);
    snprintf(self->vqgan, sizeof self->vqgan, "%.4000s/vqgan", self->folder);
    snprintf(self->output, sizeof self->output, "%.4000s/tokens", self->folder);
    assert_int_equal(limn_make_directories(self->vqgan, NULL), 0);
    save_random_vqgan(self->vqgan, 1);
    for (size_t i = 0; i < 3; i++) {
        snprintf(self->tars[i], sizeof self->tars[i], "%.4000s/%05zu.tar", self->folder, i);
        write_painted_tar(self->tars[i], i, 7 + i, i == 1 ? 40 : SIDE, SIDE);
        self->inputs[i] = self->tars[i];
    }
    self->options =
        (encode_options){.inputs = {3, self->inputs}, .vqgan = self->vqgan, .output = self->output, .parts = 1, .batch = 4};
    *state = self;
    return 0;
}

int remove_world(void **state) {
    world *self = *state;
    limn_remove_tree(self->folder, NULL);
    free(self);
    return 0;
}

void encode(world *self) {
    limn_error error = {0};
    if (encode_run(&self->options, &self->summary, &error)) fail_msg("%s", error.message);
}

void assert_refused(world *self, const char *reason) {
    limn_error error = {0};
    assert_int_equal(encode_run(&self->options, &self->summary, &error), -1);
    if (!strstr(error.message, reason)) fail_msg("\"%s\" does not say \"%s\"", error.message, reason);
}

token_shard read_shard(const world *self, const char *name) {
    limn_error error = {0};
    token_shard shard;
    if (token_shard_read(in(self->output, name), &shard, &error)) fail_msg("%s", error.message);
    return shard;
}

bool is_there(const world *self, const char *name) {
    return limn_file_exists(in(self->output, name));
}
