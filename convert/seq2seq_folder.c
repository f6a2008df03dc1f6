/* A drawing model's folder in each form, without the VQGAN in it. */
#include "convert/internal.h"

#include "tokenizer/tokenizer.h"

#include <string.h>

/* ---------------------------------------------------------------- weights */

/* Which parameters one file takes: all, or those that min-dalle has in its encoder or its decoder. */
static bool belongs(const char *name, const char *part) {
    return !part || strncmp(name, part, strlen(part)) == 0;
}

/* One file of weights under the naming `to`; of min-dalle's two, `part` ("encoder.") begins the names in this one and is left
 * out of them. directory NULL only counts. */
static int write_weights(conversion *run, const model_source *source, const char *directory, const char *name,
                         seq2seq_naming to, const char *part, write_form form, limn_error *error) {
    const parameters *set = seq2seq_get_parameters(source->seq2seq);
    weight_moves moves;
    if (weight_moves_begin(&moves, run, source, set->count, error)) return -1;
    for (size_t i = 0; i < set->count; i++) {
        weight_move *move = &moves.moves[moves.count];
        *move = (weight_move){.scale = 1};
        seq2seq_place_of(source->seq2seq, i, source->seq2seq_naming, &move->from);
        seq2seq_place_of(source->seq2seq, i, to, &move->to);
        if (!belongs(move->to.name, part)) continue;
        if (part) memmove(move->to.name, move->to.name + strlen(part), strlen(move->to.name + strlen(part)) + 1);
        moves.count++;
    }
    return weight_moves_finish(&moves, run, directory, name, form, error);
}

/* ---------------------------------------------------------------- configuration and tokenizer */

static bool scanned(const conversion *run, const seq2seq_config *config) {
    return run->options->scan ? strcmp(run->options->scan, "yes") == 0 : config->use_scan;
}

/* Stacked layers are all alike; the original leaves a scale out of the last one of post-LN where they are apart. */
static int check_scan(const conversion *run, const seq2seq_config *config, limn_error *error) {
    if (scanned(run, config) == config->use_scan) return 0;
    if (config->ln_positions == LN_SWINV2)
        return limn_fail_usage(error, "--scan yes: not with ln_positions swinv2, whose layers differ");
    if (config->ln_positions == LN_POSTLN && !config->force_ln_scale)
        return limn_fail_usage(error, "--scan %s: not with ln_positions postln, whose last layer is another then; leave it out",
                               run->options->scan);
    return 0;
}

static int write_config(conversion *run, const seq2seq_config *config, const char *directory, limn_error *error) {
    char path[4096];
    json_t *json = json_deep_copy(config->json);
    int status = json ? 0 : limn_fail(error, "%s: out of memory", directory);
    if (status == 0 && run->options->to == CONVERT_FLAX)
        status = json_object_set_new(json, "use_scan", json_boolean(scanned(run, config)));
    if (status == 0) status = limn_path_join(path, sizeof path, directory, "config.json", error);
    if (status == 0) status = limn_json_save(json, path, error);
    json_decref(json);
    return status;
}

/* A file that may be missing. */
static int copy_file(const char *from_folder, const char *to_folder, const char *name, limn_error *error) {
    char from[4096], to[4096];
    if (limn_path_join(from, sizeof from, from_folder, name, error) || limn_path_join(to, sizeof to, to_folder, name, error))
        return -1;
    return limn_file_exists(from) ? limn_atomic_copy(from, to, error) : 0;
}

/* The tokenizer's files as they are, where all three are there, else written anew; and what stands beside them. */
static int copy_tokenizer(const model_source *source, const char *directory, limn_error *error) {
    static const char *const needed[] = {"tokenizer.json", "vocab.json", "merges.txt"};
    static const char *const beside[] = {"tokenizer_config.json", "special_tokens_map.json", TEXT_NORMALIZER_WORDS};
    size_t words = seq2seq_get_config(source->seq2seq)->encoder_vocab_size, found = 0;
    for (size_t i = 0; i < 3; i++) {
        char path[4096];
        if (limn_path_join(path, sizeof path, source->folder, needed[i], error)) return -1;
        found += limn_file_exists(path);
    }
    if (found == 0) {
        limn_log(LIMN_LOG_WARNING, "%s has no tokenizer; put vocab.json and merges.txt into %s before drawing", source->folder,
                 directory);
        return 0;
    }
    tokenizer *loaded = tokenizer_load(source->folder, error);
    int status = loaded ? 0 : -1;
    if (status == 0 && tokenizer_vocabulary_size(loaded) > words)
        status = limn_fail(error, "%s: the tokenizer has %zu tokens, but the model knows %zu; it is another model's",
                           source->folder, tokenizer_vocabulary_size(loaded), words);
    if (status == 0 && found < 3) status = tokenizer_save(loaded, directory, error);
    for (size_t i = 0; i < 3 && status == 0 && found == 3; i++) status = copy_file(source->folder, directory, needed[i], error);
    for (size_t i = 0; i < sizeof beside / sizeof *beside && status == 0; i++)
        status = copy_file(source->folder, directory, beside[i], error);
    tokenizer_free(loaded);
    return status;
}

/* ---------------------------------------------------------------- the folder */

static int write_form_of(conversion *run, const model_source *source, const char *directory, limn_error *error) {
    const seq2seq_config *config = seq2seq_get_config(source->seq2seq);
    switch (run->options->to) {
    case CONVERT_FLAX:
        return write_weights(run, source, directory, "flax_model.msgpack",
                             scanned(run, config) ? SEQ2SEQ_FLAX_SCANNED : SEQ2SEQ_FLAX, NULL, WRITE_FLAX, error);
    case CONVERT_PYTORCH:
        return write_weights(run, source, directory, "encoder.pt", SEQ2SEQ_MIN_DALLE, "encoder.", WRITE_PYTORCH, error) ||
                       write_weights(run, source, directory, "decoder.pt", SEQ2SEQ_MIN_DALLE, "decoder.", WRITE_PYTORCH, error)
                   ? -1
                   : 0;
    case CONVERT_SAFETENSORS:
        break;
    }
    return write_weights(run, source, directory, "model.safetensors", SEQ2SEQ_LIMN, NULL, WRITE_SAFETENSORS, error);
}

int seq2seq_folder_write(conversion *run, const model_source *source, const char *directory, limn_error *error) {
    const seq2seq_config *config = seq2seq_get_config(source->seq2seq);
    if (run->options->to == CONVERT_PYTORCH && seq2seq_check_min_dalle(config, error)) return -1;
    if (run->options->to == CONVERT_FLAX && check_scan(run, config, error)) return -1;
    if (directory && (limn_make_directories(directory, error) || write_config(run, config, directory, error) ||
                      copy_tokenizer(source, directory, error)))
        return -1;
    return write_form_of(run, source, directory, error);
}
