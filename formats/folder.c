/* Which of a folder's files holds its weights. */
#include "formats/internal.h"

#include <stdlib.h>
#include <string.h>

/* min-dalle's model is two files. */
static const char *const halves[] = {"encoder.pt", "decoder.pt"};
static const char *const half_prefixes[] = {"encoder.", "decoder."};

int tensor_folder_find(const char *directory, char path[4096], limn_error *error) {
    static const char *const patterns[] = {"model.safetensors",
                                           "model.safetensors.index.json",
                                           "flax_model.msgpack",
                                           "flax_model.msgpack.index.json",
                                           "pytorch_model.bin",
                                           "pytorch_model.bin.index.json",
                                           "model.ckpt",
                                           "last.ckpt",
                                           "checkpoints/last.ckpt",
                                           "encoder.pt",
                                           "detoker.pt",
                                           "*.safetensors",
                                           "*.msgpack",
                                           "*.ckpt",
                                           "*.pth",
                                           "*.pt"};
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++) {
        int found = limn_find_one(directory, patterns[i], path, error);
        if (found != 0) return found < 0 ? -1 : 0;
    }
    return limn_fail(error,
                     "%s: holds no weights (model.safetensors, flax_model.msgpack, a .ckpt or .pt file); name a model folder",
                     directory);
}

/* Adds a half's tensors under its prefix; the half stays open in *slot, which owns it. */
static int add_half(tensor_file *set, tensor_file *half, const char *prefix, limn_error *error) {
    set->shards[set->shard_count++] = half;
    for (size_t i = 0; i < half->count; i++) {
        tensor one = half->tensors[i];
        char name[1200];
        int length = snprintf(name, sizeof name, "%s%s", prefix, one.name);
        if (length < 0 || (size_t)length >= sizeof name) return limn_fail(error, "%s: a tensor's name is too long", half->path);
        one.name = name;
        if (tensor_file_add(set, &one, error)) return -1;
    }
    return 0;
}

static tensor_file *open_halves(const char *directory, limn_error *error) {
    tensor_file *set = limn_allocate(1, sizeof *set, error);
    if (set) set->shards = limn_allocate(2, sizeof *set->shards, error);
    int status = set && set->shards ? 0 : -1;
    for (size_t i = 0; i < 2 && status == 0; i++) {
        status = limn_path_join(set->path, sizeof set->path, directory, halves[i], error);
        tensor_file *half = status == 0 ? tensor_file_open(set->path, error) : NULL;
        status = half ? add_half(set, half, half_prefixes[i], error) : -1;
    }
    if (status == 0) {
        set->form = set->shards[0]->form;
        status = tensor_file_sort(set, error);
    }
    if (status == 0) return set;
    tensor_file_close(set);
    return NULL;
}

tensor_file *tensor_folder_open(const char *directory, limn_error *error) {
    char path[4096];
    if (tensor_folder_find(directory, path, error)) return NULL;
    size_t length = strlen(path), ending = strlen(halves[0]);
    if (length > ending && path[length - ending - 1] == '/' && strcmp(path + length - ending, halves[0]) == 0)
        return open_halves(directory, error);
    return tensor_file_open(path, error);
}
