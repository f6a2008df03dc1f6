/* bench-random-model CONFIG MODEL_DIR [vqgan]: a model folder of random weights without a tokenizer, written in the memory of one
 * piece; with vqgan/ too, if asked. */
#include "formats/formats.h"
#include "seq2seq/seq2seq.h"
#include "vqgan/vqgan.h"

#include <stdlib.h>
#include <string.h>

enum { PIECE = 1 << 22 };

typedef struct {
    const parameters *set;
    float *piece;
} source;

static int produce(void *context, size_t index, tensor_sink *sink, limn_error *error) {
    source *self = context;
    const parameter *p = &self->set->list[index];
    uint64_t stream = limn_random_stream(p->name);
    for (size_t done = 0, some; done < p->size; done += some) {
        some = p->size - done < PIECE ? p->size - done : PIECE;
        limn_random_fill_normal(self->piece, some, 0.02f, done, stream);
        if (tensor_sink_write(sink, self->piece, some * sizeof *self->piece, error)) return -1;
    }
    return 0;
}

static int write_model(const seq2seq_config *config, const char *directory, limn_error *error) {
    char path[4096];
    seq2seq *model = seq2seq_describe(config, error);
    source self = {.set = model ? seq2seq_get_parameters(model) : NULL, .piece = limn_allocate(PIECE, sizeof(float), error)};
    tensor *tensors = model ? limn_allocate(self.set->count, sizeof *tensors, error) : NULL;
    int status = self.piece && tensors ? limn_make_directories(directory, error) : -1;
    for (size_t i = 0; status == 0 && i < self.set->count; i++) {
        const parameter *p = &self.set->list[i];
        tensors[i] = (tensor){.name = p->name, .type = TENSOR_F32, .rank = p->rank};
        memcpy(tensors[i].shape, p->shape, sizeof p->shape);
    }
    if (status == 0) status = limn_path_join(path, sizeof path, directory, "config.json", error);
    if (status == 0) status = limn_json_save(config->json, path, error);
    if (status == 0) status = limn_path_join(path, sizeof path, directory, "model.safetensors", error);
    if (status == 0) status = safetensors_write_from(path, tensors, self.set->count, NULL, produce, &self, error);
    free(tensors);
    free(self.piece);
    seq2seq_free(model);
    return status;
}

static int write_vqgan(const json_t *json, const char *where, const char *directory, limn_error *error) {
    char path[4096];
    vqgan_config config;
    if (limn_path_join(path, sizeof path, directory, "vqgan", error) ||
        vqgan_config_read(&config, json_object_get(json, "vqgan"), where, false, error))
        return -1;
    vqgan *model = vqgan_create(&config, 1, false, error);
    int status = model ? vqgan_save(model, path, error) : -1;
    vqgan_free(model);
    vqgan_config_free(&config);
    return status;
}

static int run(int argc, char **argv, limn_error *error) {
    if (argc < 3 || argc > 4) return limn_fail_usage(error, "usage: bench-random-model CONFIG MODEL_DIR [vqgan]");
    json_t *json = limn_json_load(argv[1], error);
    if (!json) return -1;
    seq2seq_config config = {0};
    const json_t *section = json_object_get(json, "seq2seq");
    int status = seq2seq_config_read(&config, section ? section : json, argv[1], false, error);
    if (status == 0) status = write_model(&config, argv[2], error);
    if (status == 0 && argc == 4) status = write_vqgan(json, argv[1], argv[2], error);
    seq2seq_config_free(&config);
    json_decref(json);
    return status;
}

int main(int argc, char **argv) {
    return limn_main(argc, argv, run);
}
