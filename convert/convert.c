/* A whole conversion: model, tokenizer and VQGAN. */
#include "convert/internal.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Beside the result: what it was made from and how, and whether it was finished. */
#define RECORD "conversion.json"

static const char *form_name(convert_form form) {
    static const char *const names[] = {
        [CONVERT_SAFETENSORS] = "safetensors", [CONVERT_FLAX] = "flax", [CONVERT_PYTORCH] = "pytorch"};
    return names[form];
}

/* ---------------------------------------------------------------- the output */

static json_t *describe(const convert_options *options, const model_source *model, const model_source *pictures,
                        limn_error *error) {
    char path[PATH_MAX], beside[PATH_MAX] = "";
    if (!realpath(tensor_file_path(model->file), path)) snprintf(path, sizeof path, "%s", options->source);
    if (pictures->file && !realpath(tensor_file_path(pictures->file), beside)) snprintf(beside, sizeof beside, "?");
    json_t *description = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s}", "source", path, "vqgan", beside, "to",
                                    form_name(options->to), "pixel-range", options->pixel_range ? options->pixel_range : "",
                                    "precision", options->bf16 ? "bf16" : "fp32", "scan", options->scan ? options->scan : "");
    if (!description) limn_fail(error, "%s: out of memory, or the name is not UTF-8", path);
    return description;
}

/* 1: this conversion is there already; 0: it is to be made; -1: something else is there. */
static int look_at_output(const convert_options *options, const json_t *description, const char *record_path,
                          limn_error *error) {
    char path[4096];
    if (!limn_file_exists(record_path)) {
        if (tensor_folder_find(options->output, path, NULL)) return 0;
        return limn_fail_usage(error, "%s holds weights that were not converted here; --restart replaces them", path);
    }
    json_t *record = limn_json_load(record_path, error);
    if (!record) return -1;
    const char *key;
    json_t *value;
    int status = json_is_true(json_object_get(record, "finished"));
    json_object_foreach((json_t *)(uintptr_t)description, key, value) {
        if (json_equal(value, json_object_get(record, key))) continue;
        status = limn_fail_usage(error, "%s was converted with another %s; --restart replaces it", options->output, key);
        break;
    }
    json_decref(record);
    return status;
}

static int write_record(json_t *description, bool finished, const char *path, limn_error *error) {
    if (json_object_set_new(description, "finished", json_boolean(finished)))
        return limn_fail(error, "%s: out of memory", path);
    return limn_json_save(description, path, error);
}

static int refuse_same_folder(const char *folder, const char *output, limn_error *error) {
    char from[PATH_MAX], to[PATH_MAX];
    if (!realpath(folder, from) || !realpath(output, to) || strcmp(from, to) != 0) return 0;
    return limn_fail_usage(error, "%s is the source itself; name another folder for the result", output);
}

/* ---------------------------------------------------------------- the sources */

/* The VQGAN that goes beside the model: the one asked for, or the one in the source, or min-dalle's in the folder next to it.
 */
static int open_pictures(const convert_options *options, const model_source *model, model_source *pictures, limn_error *error) {
    static const char *const places[] = {"vqgan", "detoker.pt", "../vqgan/detoker.pt"};
    char path[PATH_MAX] = "";
    size_t count = model->seq2seq_naming == SEQ2SEQ_MIN_DALLE ? 3 : 1;
    *pictures = (model_source){0};
    for (size_t i = 0; i < count && !options->vqgan; i++) {
        if (limn_path_join(path, sizeof path, model->folder, places[i], error)) return -1;
        if (access(path, F_OK) == 0) break;
        path[0] = '\0';
    }
    if (options->vqgan && strlen(options->vqgan) < sizeof path) strcpy(path, options->vqgan);
    if (!path[0]) return 0;
    if (model_source_open(pictures, path, options->pixel_range, error)) return limn_fail_context(error, "the VQGAN");
    if (pictures->vqgan) return 0;
    model_source_close(pictures);
    return limn_fail_usage(error, "--vqgan %s is a model that draws, not a VQGAN", path);
}

static int check_pair(const seq2seq_config *model, const vqgan *pictures, limn_error *error) {
    if (model->image_length != vqgan_token_count(pictures))
        return limn_fail_usage(error, "the model draws %zu tokens, but the VQGAN has %zu a picture; it is another model's",
                               model->image_length, vqgan_token_count(pictures));
    if (model->image_vocab_size < vqgan_get_config(pictures)->n_embed)
        return limn_fail_usage(error, "the model knows %zu image tokens, but the VQGAN has %zu codes; it is another model's",
                               model->image_vocab_size, vqgan_get_config(pictures)->n_embed);
    return 0;
}

/* ---------------------------------------------------------------- */

/* directory NULL only counts bytes. */
static int write_all(conversion *run, const model_source *model, const model_source *pictures, const char *directory,
                     limn_error *error) {
    char path[PATH_MAX];
    if (model->vqgan) return vqgan_folder_write(run, model, directory, error);
    if (seq2seq_folder_write(run, model, directory, error)) return -1;
    if (!pictures->vqgan) return 0;
    if (directory && limn_path_join(path, sizeof path, directory, "vqgan", error)) return -1;
    return vqgan_folder_write(run, pictures, directory ? path : NULL, error);
}

/* A model with LoRA adapters is converted as the sum of both, which is written beside the output and stays mapped when it is
 * removed again. */
static int merge_adapters(model_source *model, const char *output, limn_error *error) {
    char folder[PATH_MAX], path[PATH_MAX];
    if (!model->seq2seq || !seq2seq_has_adapters(model->folder)) return 0;
    if ((size_t)snprintf(folder, sizeof folder, "%s.merging", output) >= sizeof folder ||
        limn_path_join(path, sizeof path, folder, "model.safetensors", error))
        return limn_fail(error, "%s: the path is too long", output);
    seq2seq *merged = seq2seq_load(model->folder, false, error);
    int status = merged ? seq2seq_save(merged, folder, error) : -1;
    seq2seq_free(merged);
    tensor_file *file = status == 0 ? safetensors_open(path, error) : NULL;
    (void)limn_remove_tree(folder, NULL);
    if (!file) return -1;
    tensor_file_close(model->file);
    model->file = file;
    model->seq2seq_naming = SEQ2SEQ_LIMN;
    model->prefix[0] = '\0';
    return 0;
}

static int convert_opened(const convert_options *options, model_source *model, const model_source *pictures,
                          limn_error *error) {
    conversion run = {.options = options};
    char record_path[PATH_MAX];
    if (limn_path_join(record_path, sizeof record_path, options->output, RECORD, error) ||
        refuse_same_folder(model->folder, options->output, error) ||
        (pictures->vqgan && model->seq2seq && check_pair(seq2seq_get_config(model->seq2seq), pictures->vqgan, error)) ||
        write_all(&run, model, pictures, NULL, error))
        return -1;
    json_t *description = describe(options, model, pictures, error);
    int status = description ? 0 : -1;
    int found = status == 0 && !options->restart ? look_at_output(options, description, record_path, error) : 0;
    if (found < 0) status = -1;
    if (found == 1) limn_log(LIMN_LOG_INFO, "%s is converted already; --restart converts it anew", options->output);
    if (status == 0 && found == 0) {
        status = merge_adapters(model, options->output, error);
        if (status == 0) status = limn_make_directories(options->output, error);
        if (status == 0) status = write_record(description, false, record_path, error);
        if (status == 0) limn_remove_temporaries(options->output);
        run.progress = limn_progress_start("converting", "MB", 0, in_megabytes(run.bytes_total));
        if (status == 0) status = write_all(&run, model, pictures, options->output, error);
        limn_progress_finish(run.progress);
        if (status == 0) status = write_record(description, true, record_path, error);
    }
    json_decref(description);
    return status;
}

int convert_model(const convert_options *options, limn_error *error) {
    model_source model, pictures = {0};
    if (model_source_open(&model, options->source, options->pixel_range, error)) return -1;
    int status = 0;
    if (model.vqgan && options->vqgan)
        status = limn_fail_usage(error, "%s is a VQGAN itself; --vqgan goes with a model that draws", options->source);
    if (status == 0 && model.seq2seq) status = open_pictures(options, &model, &pictures, error);
    if (status == 0) status = convert_opened(options, &model, &pictures, error);
    model_source_close(&pictures);
    model_source_close(&model);
    return status;
}
