/* Finding out what a source is. */
#include "convert/internal.h"

#include <libgen.h>
#include <string.h>
#include <sys/stat.h>

/* The folder's weights, or the file's; a part of min-dalle's model stands for all of it. */
static int open_weights(model_source *source, const char *path, limn_error *error) {
    struct stat status;
    if (strlen(path) >= sizeof source->folder) return limn_fail_usage(error, "%.100s…: the path is too long", path);
    if (stat(path, &status) != 0) return limn_fail_usage(error, "%s is not there", path);
    strcpy(source->folder, path);
    if (S_ISDIR(status.st_mode)) {
        source->file = tensor_folder_open(path, error);
    } else {
        char copy[sizeof source->folder];
        strcpy(copy, path);
        const char *name = basename(copy);
        bool part = strcmp(name, "encoder.pt") == 0 || strcmp(name, "decoder.pt") == 0;
        strcpy(copy, path);
        snprintf(source->folder, sizeof source->folder, "%s", dirname(copy));
        source->file = part ? tensor_folder_open(source->folder, error) : tensor_file_open(path, error);
    }
    return source->file ? 0 : -1;
}

static int describe_seq2seq(model_source *source, limn_error *error) {
    seq2seq_config config;
    if (seq2seq_config_read_folder(&config, source->folder, source->file, source->seq2seq_naming, source->prefix, error))
        return -1;
    source->seq2seq = seq2seq_describe(&config, error);
    seq2seq_config_free(&config);
    return source->seq2seq ? seq2seq_check_weights(source->seq2seq, source->file, source->seq2seq_naming, source->prefix, error)
                           : -1;
}

static int describe_vqgan(model_source *source, const char *pixel_range, limn_error *error) {
    vqgan_config config;
    if (vqgan_config_read_folder(&config, source->folder, source->file, source->vqgan_naming, source->prefix, error)) return -1;
    if (pixel_range) {
        config.pixel_min = strcmp(pixel_range, "0,1") == 0 ? 0 : -1;
        config.pixel_max = 1;
    }
    source->vqgan = vqgan_describe(&config, vqgan_file_has_encoder(source->file, source->vqgan_naming, source->prefix), error);
    vqgan_config_free(&config);
    return source->vqgan ? vqgan_check_weights(source->vqgan, source->file, source->vqgan_naming, source->prefix, error) : -1;
}

int model_source_open(model_source *source, const char *path, const char *pixel_range, limn_error *error) {
    *source = (model_source){0};
    int status = open_weights(source, path, error);
    if (status == 0) {
        if (seq2seq_find_naming(source->file, &source->seq2seq_naming, source->prefix, NULL) == 0)
            status = describe_seq2seq(source, error);
        else if (vqgan_find_naming(source->file, &source->vqgan_naming, source->prefix, NULL) == 0)
            status = describe_vqgan(source, pixel_range, error);
        else
            status = limn_fail(error, "%s: holds neither a DALL·E Mini model nor a VQGAN: its first tensor is '%s'",
                               tensor_file_path(source->file),
                               tensor_file_count(source->file) ? tensor_file_at(source->file, 0)->name : "(none)");
    }
    if (status) model_source_close(source);
    return status;
}

void model_source_close(model_source *source) {
    seq2seq_free(source->seq2seq);
    vqgan_free(source->vqgan);
    tensor_file_close(source->file);
    *source = (model_source){0};
}
