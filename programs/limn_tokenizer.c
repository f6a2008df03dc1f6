/* limn-tokenizer: trains byte-level BPE on captions, turns captions into ids and back, and normalises them. */
#include "tokenizer/tokenizer.h"
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

/* What decides a training. */
typedef struct {
    limn_strings paths;
    size_t vocabulary_size, min_frequency; /* 0: not said yet */
    const char *normalize;                 /* "yes" or "no"; NULL: not said yet */
    const char *words;                     /* for splitting hashtags, or NULL */
} training;

static bool normalizes(const training *plan) {
    return plan->normalize && strcmp(plan->normalize, "yes") == 0;
}

/* Kept beside the result: {"input": [[path, bytes], …], "min_frequency", "normalize", "vocab_size", "words"}. */
static json_t *describe(const training *plan, limn_error *error) {
    json_t *input = json_array();
    for (size_t i = 0; i < plan->paths.count; i++) {
        const char *path = plan->paths.items[i];
        struct stat status;
        if (stat(path, &status) || !S_ISREG(status.st_mode)) {
            limn_fail(error, "--input %s is not a file that can be read", path);
            json_decref(input);
            return NULL;
        }
        json_array_append_new(input, json_pack("[s#, I]", path, (int)strlen(path), (json_int_t)status.st_size));
    }
    json_t *description = json_pack("{s:o, s:I, s:I, s:b, s:s}", "input", input, "min_frequency",
                                    (json_int_t)plan->min_frequency, "vocab_size", (json_int_t)plan->vocabulary_size,
                                    "normalize", (int)normalizes(plan), "words", plan->words ? plan->words : "");
    if (!description) limn_fail(error, "--input has names that are not UTF-8, or there is not enough memory");
    return description;
}

/* 1: the output is the result of this very training; 0: there is nothing; -1: it is something else. */
static int look_at_output(const char *directory, const char *record_path, const json_t *description, limn_error *error) {
    char path[PATH_MAX];
    if (limn_path_join(path, sizeof path, directory, "tokenizer.json", error)) return -1;
    if (!limn_file_exists(path)) return 0;
    if (!limn_file_exists(record_path))
        return limn_fail_usage(error, "--output %s holds a tokenizer that was not trained here; --restart replaces it",
                               directory);
    json_t *record = limn_json_load(record_path, error);
    if (!record) return -1;
    const char *key;
    json_t *value;
    int status = 1;
    json_object_foreach((json_t *)(uintptr_t)description, key, value) {
        if (json_equal(value, json_object_get(record, key))) continue;
        status = limn_fail_usage(error, "--output %s was trained with another %s; --restart trains it anew", directory, key);
        break;
    }
    json_decref(record);
    return status;
}

/* The word list goes where limn-train and limn-sample look for it. */
static int keep_words(const training *plan, const char *output, limn_error *error) {
    char path[PATH_MAX];
    if (!normalizes(plan) || !plan->words) return 0;
    if (limn_path_join(path, sizeof path, output, TEXT_NORMALIZER_WORDS, error)) return -1;
    return limn_atomic_copy(plan->words, path, error);
}

static int read_captions(tokenizer_trainer *trainer, const training *plan, tokenizer_corpus *corpus, limn_error *error) {
    limn_progress *progress = limn_progress_start("captions", "captions", 0, 0);
    int status = 0;
    for (size_t i = 0; i < plan->paths.count && status == 0; i++)
        status = tokenizer_trainer_add_file(trainer, plan->paths.items[i], corpus, progress, error);
    limn_progress_finish(progress);
    if (status == 0 && corpus->captions == 0) status = limn_fail(error, "--input holds no captions");
    if (corpus->not_utf8)
        limn_log(LIMN_LOG_WARNING, "%llu captions are not UTF-8; their bytes were learnt as they are",
                 (unsigned long long)corpus->not_utf8);
    if (corpus->too_long)
        limn_log(LIMN_LOG_WARNING, "%llu captions are longer than %d bytes and were left out",
                 (unsigned long long)corpus->too_long, TOKENIZER_MAX_TEXT);
    return status;
}

static int train_on(const training *plan, const char *output, limn_error *error) {
    text_normalizer *normalizer = normalizes(plan) ? text_normalizer_create(plan->words, error) : NULL;
    tokenizer_trainer *trainer = normalizer || !normalizes(plan) ? tokenizer_trainer_create(error) : NULL;
    tokenizer *trained = NULL;
    tokenizer_corpus corpus = {0};
    int status = trainer ? 0 : -1;
    if (status == 0) tokenizer_trainer_normalize(trainer, normalizer);
    if (status == 0) status = read_captions(trainer, plan, &corpus, error);
    if (status == 0) {
        trained = tokenizer_trainer_finish(trainer, plan->vocabulary_size, plan->min_frequency, error);
        status = trained ? tokenizer_save(trained, output, error) : -1;
    }
    if (status == 0) status = keep_words(plan, output, error);
    if (status == 0) {
        size_t size = tokenizer_vocabulary_size(trained);
        if (size < plan->vocabulary_size)
            limn_log(LIMN_LOG_WARNING, "the vocabulary has %zu tokens instead of %zu: no further pair occurs %zu times", size,
                     plan->vocabulary_size, plan->min_frequency);
        limn_log(LIMN_LOG_INFO, "%s: %zu tokens from %llu captions (%llu bytes)%s", output, size,
                 (unsigned long long)corpus.captions, (unsigned long long)corpus.bytes, normalizer ? ", normalised" : "");
    }
    tokenizer_free(trained);
    tokenizer_trainer_free(trainer);
    text_normalizer_free(normalizer);
    return status;
}

/* The section `tokenizer` of a configuration, and whether its model normalises, where the command line leaves it open. */
static int read_config(const char *path, training *plan, limn_error *error) {
    static const char *const known[] = {"vocab_size", "min_frequency", NULL};
    json_t *config = limn_json_load(path, error);
    if (!config) return -1;
    json_t *section = json_object_get(config, "tokenizer"), *model = json_object_get(config, "seq2seq");
    size_t size = 0, frequency = 0;
    bool normalize = false;
    int status = json_is_object(section) ? 0 : limn_fail_usage(error, "%s: has no section \"tokenizer\"", path);
    if (status == 0) status = limn_json_check_keys(section, path, known, error);
    if (status == 0) status = limn_json_get_size(section, path, "vocab_size", 1, SIZE_MAX / 2, &size, error);
    if (status == 0) status = limn_json_get_size(section, path, "min_frequency", 1, SIZE_MAX / 2, &frequency, error);
    if (status == 0 && model) status = limn_json_get_bool(model, path, "normalize_text", &normalize, error);
    json_decref(config);
    if (!plan->vocabulary_size) plan->vocabulary_size = size;
    if (!plan->min_frequency) plan->min_frequency = frequency;
    if (!plan->normalize) plan->normalize = normalize ? "yes" : "no";
    return status;
}

/* Fills in what the command line leaves open, and looks whether it can be. */
static int complete(training *plan, const char *config, const limn_strings *input, limn_error *error) {
    if (config && read_config(config, plan, error)) return -1;
    if (!plan->vocabulary_size) return limn_fail_usage(error, "--vocab-size is needed, or a --config that has it");
    if (plan->vocabulary_size < TOKENIZER_BASE)
        return limn_fail_usage(error, "--vocab-size %zu is too small: %d special tokens and bytes come first",
                               plan->vocabulary_size, TOKENIZER_BASE);
    if (plan->words && !normalizes(plan)) return limn_fail_usage(error, "--words goes with --normalize yes");
    if (!plan->min_frequency) plan->min_frequency = 2;
    return limn_expand_folders(input, ".tar", &plan->paths, error);
}

static int train(int argc, char **argv, limn_error *error) {
    limn_strings input = {0};
    training plan = {0};
    const char *output = NULL, *config = NULL;
    bool restart = false;
    const limn_program program = {
        .name = "limn-tokenizer train",
        .summary = "Trains byte-level BPE on captions and writes vocab.json, merges.txt and tokenizer.json.",
        .examples = "$ limn-tokenizer train --input captions.txt --vocab-size 50264 --output tokenizer\n"
                    "$ limn-tokenizer train --input 'pairs/*.tar' --config configs/mini.json --output tokenizer",
    };
    const limn_option options[] = {
        {"input", LIMN_OPTION_STRINGS, &input, "FILES",
         "text files with a caption on each line, taken as it is; or WebDataset .tar files (or folders of them), whose "
         "captions are led by a space",
         true},
        {"config", LIMN_OPTION_STRING, &config, "FILE",
         "JSON or YAML whose section tokenizer has vocab_size and min_frequency, and whose seq2seq says normalize_text", false},
        {"vocab-size", LIMN_OPTION_SIZE, &plan.vocabulary_size, "N", "tokens in all, with 5 special ones and the 256 bytes",
         false},
        {"min-frequency", LIMN_OPTION_SIZE, &plan.min_frequency, "N",
         "a pair must occur this often to become a token; 0: as --config says, else 2", false},
        {"normalize", LIMN_OPTION_STRING, &plan.normalize, "yes|no",
         "normalise captions first, as DALL·E Mini does; when not given, as --config says, else no", false},
        {"words", LIMN_OPTION_STRING, &plan.words, "FILE", "with --normalize: word frequencies for splitting hashtags", false},
        {"output", LIMN_OPTION_STRING, &output, "DIR", "where the three files go", true},
        {"restart", LIMN_OPTION_FLAG, &restart, NULL, "train anew, whatever the output holds", false},
        {0},
    };
    int parsed = limn_options_parse(&program, options, argc, argv, NULL, error);
    if (parsed) {
        limn_strings_free(&input);
        return parsed < 0 ? -1 : 0;
    }
    char record_path[PATH_MAX];
    json_t *description = NULL;
    int status = complete(&plan, config, &input, error);
    if (status == 0) status = limn_path_join(record_path, sizeof record_path, output, "training.json", error);
    if (status == 0) status = (description = describe(&plan, error)) ? 0 : -1;
    int found = status == 0 && !restart ? look_at_output(output, record_path, description, error) : 0;
    if (found < 0) status = -1;
    if (found == 1) limn_log(LIMN_LOG_INFO, "%s is trained already; --restart trains it anew", output);
    if (status == 0 && found == 0) {
        status = train_on(&plan, output, error);
        if (status == 0) status = limn_json_save(description, record_path, error);
    }
    json_decref(description);
    limn_strings_free(&plan.paths);
    limn_strings_free(&input);
    return status;
}

/* encode and decode: lines in, lines out. */
static int turn_lines(const limn_program *program, int argc, char **argv,
                      int (*turn)(const tokenizer *, const char *, FILE *, limn_error *), limn_error *error) {
    const char *directory = NULL, *input = NULL;
    const limn_option options[] = {
        {"tokenizer", LIMN_OPTION_STRING, &directory, "DIR", "folder with tokenizer.json, or vocab.json and merges.txt", true},
        {"input", LIMN_OPTION_STRING, &input, "FILE", "the lines to read; standard input when not given", false},
        {0},
    };
    int parsed = limn_options_parse(program, options, argc, argv, NULL, error);
    if (parsed) return parsed < 0 ? -1 : 0;
    tokenizer *loaded = tokenizer_load(directory, error);
    int status = loaded ? turn(loaded, input, stdout, error) : -1;
    tokenizer_free(loaded);
    return status;
}

static int encode(int argc, char **argv, limn_error *error) {
    const limn_program program = {
        .name = "limn-tokenizer encode",
        .summary = "Turns lines of text into JSON lines of token ids.",
        .examples = "$ echo ' a red apple' | limn-tokenizer encode --tokenizer model\n"
                    "{\"ids\": [0, 339, 559, 751, 320, 2]}   (what it may print; a line is encoded as it is, without a space "
                    "put before)",
    };
    return turn_lines(&program, argc, argv, tokenizer_encode_lines, error);
}

static int decode(int argc, char **argv, limn_error *error) {
    const limn_program program = {
        .name = "limn-tokenizer decode",
        .summary = "Turns JSON lines of token ids into lines of text, without the special tokens.",
        .examples = "$ echo '{\"ids\": [0, 339, 559, 2]}' | limn-tokenizer decode --tokenizer model",
    };
    return turn_lines(&program, argc, argv, tokenizer_decode_lines, error);
}

static int normalize(int argc, char **argv, limn_error *error) {
    const char *words = NULL, *input = NULL;
    const limn_program program = {
        .name = "limn-tokenizer normalize",
        .summary =
            "Turns lines of captions into lines of the text that DALL·E Mini's encoder expects: lower case and ASCII, with "
            "emoji named, led by a space.",
        .examples = "$ echo '3.5mm jack &amp; 50% OFF! #redapple' | limn-tokenizer normalize --words words_frequency.txt\n"
                    " 3.5mm jack & 50 % off, red apple   (plain lines: a normalised caption never has a line break)",
    };
    const limn_option options[] = {
        {"words", LIMN_OPTION_STRING, &words, "FILE",
         "for splitting hashtags: \"word count\" on each line, the most frequent first; without it they fall into letters",
         false},
        {"input", LIMN_OPTION_STRING, &input, "FILE", "the lines to read; standard input when not given", false},
        {0},
    };
    int parsed = limn_options_parse(&program, options, argc, argv, NULL, error);
    if (parsed) return parsed < 0 ? -1 : 0;
    text_normalizer *normalizer = text_normalizer_create(words, error);
    int status = normalizer ? text_normalize_lines(normalizer, input, stdout, error) : -1;
    text_normalizer_free(normalizer);
    return status;
}

static int add(int argc, char **argv, limn_error *error) {
    const char *directory = NULL, *output = NULL;
    limn_strings tokens = {0};
    const limn_program program = {
        .name = "limn-tokenizer add",
        .summary = "Adds special tokens to a tokenizer, for fine-tuning: limn-train --init then gives the model more words.",
        .examples = "$ limn-tokenizer add --tokenizer mini --token '<sketch>' '<photo>' --output mini-styles\n",
    };
    const limn_option options[] = {
        {"tokenizer", LIMN_OPTION_STRING, &directory, "DIR", "folder with tokenizer.json, or vocab.json and merges.txt", true},
        {"token", LIMN_OPTION_STRINGS, &tokens, "TEXT", "found as it is in a caption; normalize_text would lower its case and take "
         "out what looks like a tag", true},
        {"output", LIMN_OPTION_STRING, &output, "DIR", "folder for the new tokenizer", true},
        {0},
    };
    int status = limn_options_parse(&program, options, argc, argv, NULL, error);
    if (status == 0) status = tokenizer_add_tokens(directory, &tokens, output, error);
    limn_strings_free(&tokens);
    return status < 0 ? -1 : 0;
}

int main(int argc, char **argv) {
    static const limn_subcommand subcommands[] = {
        {"train", "train a tokenizer on captions", train},
        {"encode", "text to token ids", encode},
        {"decode", "token ids to text", decode},
        {"add", "further special tokens", add},
        {"normalize", "captions to the text that is encoded", normalize},
        {0},
    };
    return limn_main_subcommands(argc, argv, "Byte-level BPE for captions: training, encoding, decoding; and normalising them.",
                                 subcommands);
}
