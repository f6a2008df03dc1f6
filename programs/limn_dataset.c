/* limn-dataset: looking at pairs that are there, and choosing among them. */
#include "choose/choose.h"

#include <math.h>

#define INPUT_OPTION(patterns)                                                                                                 \
    {                                                                                                                          \
        "input", LIMN_OPTION_STRINGS, &(patterns), "FILES",                                                                    \
            "tars or token shards (.h5), or folders of them, in their order (patterns allowed)", true                          \
    }
#define WRITE_OPTIONS(write)                                                                                                   \
    {                                                                                                                          \
        "output", LIMN_OPTION_STRING, &(write).output, "DIR", "folder for what is written; what is finished there is kept",    \
        true},                                                                                                                 \
        {"pack",                                                                                                               \
         LIMN_OPTION_SIZE,                                                                                                     \
         &(write).pack,                                                                                                        \
         "N",                                                                                                                  \
         "files of N samples each, packed anew; without it a file for each file, samples that are left out leaving gaps",      \
         false},                                                                                                               \
    {                                                                                                                          \
        "restart", LIMN_OPTION_FLAG, &(write).restart, NULL, "remove what an earlier run made in the output and begin anew",   \
            false                                                                                                              \
    }
#define JSON_OPTION(json)                                                                                                      \
    { "json", LIMN_OPTION_FLAG, &(json), NULL, "print the result as JSON", false }

static int print_json(json_t *value, limn_error *error) {
    if (!value) return limn_fail(error, "out of memory for the result");
    json_dumpf(value, stdout, JSON_SORT_KEYS | JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    putchar('\n');
    json_decref(value);
    return 0;
}

/* ---------------------------------------------------------------- stats */

static int run_stats(int argc, char **argv, limn_error *error) {
    choose_stats_options options = {.top = 20, .normalize = true};
    limn_strings patterns = {0};
    bool json = false, no_duplicates = false;
    const limn_option table[] = {
        INPUT_OPTION(patterns),
        {"top", LIMN_OPTION_SIZE, &options.top, "N", "so many hosts and words are named", false},
        {"tokenizer", LIMN_OPTION_STRING, &options.tokenizer, "DIR", "also measure captions in this tokenizer's tokens", false},
        {"normalize", LIMN_OPTION_YES_NO, &options.normalize, "yes|no",
         "with --tokenizer: normalise captions first, as DALL·E Mini does", false},
        {"no-duplicates", LIMN_OPTION_FLAG, &no_duplicates, NULL,
         "count no duplicates: saves 8 bytes for each caption, address, picture and perceptual hash (960 MB for 30 million "
         "pairs)",
         false},
        JSON_OPTION(json),
        {0}};
    const limn_program program = {
        .name = "limn-dataset stats",
        .summary = "Counts what is in tars or token shards: sizes, lengths, hosts, words, duplicates, codes.",
        .examples = "$ limn-dataset stats --input cc3m\n"
                    "$ limn-dataset stats --input 'tokens/*.h5' --tokenizer model --json > stats.json\n"};
    const int parsed = limn_options_parse(&program, table, argc, argv, NULL, error);
    int status = parsed < 0 ? -1 : 0;
    options.duplicates = !no_duplicates;
    if (parsed == 0) {
        json_t *stats = NULL;
        status = choose_expand(&patterns, &options.inputs, error) || !(stats = choose_stats(&options, error)) ? -1 : 0;
        const long long damaged = json_integer_value(json_object_get(stats, "damaged_files"));
        if (status == 0 && !json) choose_stats_print(stats, stdout);
        if (status == 0 && json) status = print_json(json_incref(stats), error);
        if (status == 0 && damaged) status = limn_fail(error, "%lld files could not be read to their end", damaged);
        json_decref(stats);
    }
    limn_strings_free(&options.inputs);
    limn_strings_free(&patterns);
    return status;
}

/* ---------------------------------------------------------------- view */

static int run_view(int argc, char **argv, limn_error *error) {
    choose_view_options options = {.count = 24, .columns = 6, .size = 224, .seed = 0};
    limn_strings patterns = {0};
    const limn_option table[] = {
        INPUT_OPTION(patterns),
        {"output", LIMN_OPTION_STRING, &options.output, "FILE.png", "the sheet", true},
        {"count", LIMN_OPTION_SIZE, &options.count, "N", "pairs on the sheet", false},
        {"columns", LIMN_OPTION_SIZE, &options.columns, "N", "pairs in a row", false},
        {"size", LIMN_OPTION_SIZE, &options.size, "PX", "the square that a picture is fitted into", false},
        {"seed", LIMN_OPTION_SEED, &options.seed, "N", "which pairs; another number, others", false},
        {"vqgan", LIMN_OPTION_STRING, &options.vqgan, "DIR", "draws the tokens of shards", false},
        {0}};
    const limn_program program = {
        .name = "limn-dataset view",
        .summary = "Draws a sheet of random pairs with their captions, from at most eight files chosen at random.",
        .examples = "$ limn-dataset view --input cc3m --output look.png --count 40 --columns 8\n"
                    "$ limn-dataset view --input tokens --vqgan model/vqgan --output tokens.png --seed 7\n"};
    const int parsed = limn_options_parse(&program, table, argc, argv, NULL, error);
    int status = parsed < 0 ? -1 : 0;
    size_t drawn;
    if (parsed == 0) {
        status = choose_expand(&patterns, &options.inputs, error) || choose_view(&options, &drawn, error) ? -1 : 0;
        if (status == 0) printf("%s: %zu pairs\n", options.output, drawn);
    }
    limn_strings_free(&options.inputs);
    limn_strings_free(&patterns);
    return status;
}

/* ---------------------------------------------------------------- filter, merge, split */

static int print_written(const choose_write_options *write, const choose_summary *summary, bool split, bool json,
                         limn_error *error) {
    const char *rule;
    json_t *count;
    const unsigned long long samples = summary->samples, kept = summary->written[0] + summary->written[1];
    if (json) {
        json_t *all = json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:O}", "output", write->output, "samples",
                                (json_int_t)summary->samples, "written", (json_int_t)kept, "files", (json_int_t)summary->files,
                                "files_kept", (json_int_t)summary->files_kept, "others_left", (json_int_t)summary->others_left,
                                "left_out", summary->reasons);
        if (split) {
            json_object_set_new(all, "train", json_integer((json_int_t)summary->written[0]));
            json_object_set_new(all, "valid", json_integer((json_int_t)summary->written[1]));
        }
        return print_json(all, error);
    }
    printf("%s: %llu of %llu samples in %llu files", write->output, kept, samples, (unsigned long long)summary->files);
    if (summary->files_kept) printf(" (%llu there already)", (unsigned long long)summary->files_kept);
    if (split && kept)
        printf(": %llu train, %llu valid (%.3f%%)", (unsigned long long)summary->written[0],
               (unsigned long long)summary->written[1], 100.0 * (double)summary->written[1] / (double)kept);
    putchar('\n');
    json_object_foreach(summary->reasons, rule, count) {
        const json_int_t number = json_integer_value(count);
        if (number)
            printf("  left out by %-24s %12lld  %6.2f%%\n", rule, (long long)number, 100.0 * (double)number / (double)samples);
    }
    return 0;
}

static int run_filter(int argc, char **argv, limn_error *error) {
    choose_filter_options options = {.max_unsafe = NAN, .script_share = 0.9, .distance = 3};
    choose_summary summary = {0};
    limn_strings patterns = {0};
    double max_unsafe = -1;
    bool json = false;
    const limn_option table[] = {
        INPUT_OPTION(patterns),
        WRITE_OPTIONS(options.write),
        {"min-chars", LIMN_OPTION_SIZE, &options.min_chars, "N", "shortest caption, in characters", false},
        {"max-chars", LIMN_OPTION_SIZE, &options.max_chars, "N", "longest caption, in characters", false},
        {"min-words", LIMN_OPTION_SIZE, &options.min_words, "N", "shortest caption, in words", false},
        {"max-words", LIMN_OPTION_SIZE, &options.max_words, "N", "longest caption, in words", false},
        {"where", LIMN_OPTION_STRINGS, &options.where, "CONDITION",
         "a column of KEY.json or of the shards, one of = != < <= > >=, a value; all must hold, and the column must be there",
         false},
        {"max-unsafe", LIMN_OPTION_FLOAT, &max_unsafe, "X",
         "largest safety score, in whichever of punsafe, p_unsafe, unsafe, unsafe_score, nsfw_score, p_nsfw, nsfw is there "
         "first",
         false},
        {"blocked-words", LIMN_OPTION_STRING, &options.blocked, "FILE",
         "a word or phrase a line (# begins a remark): captions with one are left out; whole words, whatever their case and "
         "accents",
         false},
        {"script", LIMN_OPTION_STRING, &options.script, "NAME",
         "captions in latin, greek, cyrillic, arabic, hebrew, devanagari, thai, hangul, kana or han letters", false},
        {"script-share", LIMN_OPTION_FLOAT, &options.script_share, "X", "with --script: share of the letters that must be so",
         false},
        {"language", LIMN_OPTION_STRING, &options.language, "CODE",
         "captions that may be in this language (en, de, fr …), guessed by libexttextcat; those under 20 characters stay. Of "
         "English ones it "
         "keeps 63 % at 20 to 39 characters, 89 % at 40 to 79; of others 13 % and 5 %",
         false},
        {"dedup", LIMN_OPTION_STRING, &options.dedup, "caption|address|picture|near",
         "of samples that have this alike only the first stays; near: phash in KEY.json", false},
        {"distance", LIMN_OPTION_SIZE, &options.distance, "BITS", "with --dedup near: bits of 64 that may differ, up to 7",
         false},
        JSON_OPTION(json),
        {0}};
    const limn_program program = {
        .name = "limn-dataset filter",
        .summary = "Writes the samples that fulfil all conditions, and says how many each left out.",
        .examples =
            "$ limn-dataset filter --input cc12m --output good --min-words 3 --max-chars 300 --where 'width>=256' --dedup "
            "picture\n"
            "$ limn-dataset filter --input laion --output safe --where 'similarity>=0.3' --max-unsafe 0.1 --script latin\n"
            "      the first rule that strikes a sample counts; the same command goes on after a stop\n"
            "$ limn-dataset filter --input tokens --output short --max-words 20 --pack 10k\n"};
    const int parsed = limn_options_parse(&program, table, argc, argv, NULL, error);
    int status = parsed < 0 ? -1 : 0;
    if (max_unsafe != -1) options.max_unsafe = max_unsafe;
    if (parsed == 0) {
        status = choose_expand(&patterns, &options.write.inputs, error) || choose_filter(&options, &summary, error) ? -1 : 0;
        if (status == 0) status = print_written(&options.write, &summary, false, json, error);
    }
    json_decref(summary.reasons);
    limn_strings_free(&options.write.inputs);
    limn_strings_free(&options.where);
    limn_strings_free(&patterns);
    return status;
}

static int run_merge(int argc, char **argv, limn_error *error) {
    choose_write_options options = {0};
    choose_summary summary = {0};
    limn_strings patterns = {0};
    bool json = false;
    const limn_option table[] = {INPUT_OPTION(patterns), WRITE_OPTIONS(options), JSON_OPTION(json), {0}};
    const limn_program program = {
        .name = "limn-dataset merge",
        .summary = "Makes one set of several, numbered in the order given: a sample's key becomes shard number and row.",
        .examples = "$ limn-dataset merge --input cc3m cc12m --output both\n"
                    "      the key of before stands in KEY.json as source_key\n"
                    "$ limn-dataset merge --input tokens-a tokens-b --output tokens --pack 10k\n"};
    const int parsed = limn_options_parse(&program, table, argc, argv, NULL, error);
    int status = parsed < 0 ? -1 : 0;
    if (parsed == 0) {
        status = choose_expand(&patterns, &options.inputs, error) || choose_merge(&options, &summary, error) ? -1 : 0;
        if (status == 0) status = print_written(&options, &summary, false, json, error);
    }
    json_decref(summary.reasons);
    limn_strings_free(&options.inputs);
    limn_strings_free(&patterns);
    return status;
}

static int run_split(int argc, char **argv, limn_error *error) {
    choose_split_options options = {.valid = 0.01};
    choose_summary summary = {0};
    limn_strings patterns = {0};
    const char *by = "key";
    bool json = false;
    const limn_option table[] = {
        INPUT_OPTION(patterns),
        WRITE_OPTIONS(options.write),
        {"valid", LIMN_OPTION_FLOAT, &options.valid, "SHARE", "of the samples that go to validation", false},
        {"by", LIMN_OPTION_STRING, &by, "key|caption|address|picture",
         "samples that have this alike fall on one side; picture: sha256 in KEY.json, else the bytes; of shards the tokens",
         false},
        {"seed", LIMN_OPTION_SEED, &options.seed, "N",
         "another number, another split; 0: SHA-256 of KEY, its first 64 bits below the share", false},
        JSON_OPTION(json),
        {0}};
    const limn_program program = {
        .name = "limn-dataset split",
        .summary = "Divides a set into OUTPUT/train and OUTPUT/valid by a hash of what each sample is.",
        .examples = "$ limn-dataset split --input cc3m --output cc3m-split --valid 0.01 --by picture\n"
                    "      a sample's side depends on itself alone: not on the order, the files, or what else is there\n"};
    const int parsed = limn_options_parse(&program, table, argc, argv, NULL, error);
    int status = parsed < 0 ? -1 : 0;
    if (parsed == 0) {
        choose_by_from_name(by, &options.by); /* the option takes only names it knows */
        status = choose_expand(&patterns, &options.write.inputs, error) || choose_split(&options, &summary, error) ? -1 : 0;
        if (status == 0) status = print_written(&options.write, &summary, true, json, error);
    }
    json_decref(summary.reasons);
    limn_strings_free(&options.write.inputs);
    limn_strings_free(&patterns);
    return status;
}

/* ---------------------------------------------------------------- verify */

static int run_verify(int argc, char **argv, limn_error *error) {
    choose_verify_options options = {0};
    choose_verify_summary summary = {0};
    limn_strings patterns = {0};
    bool json = false;
    const limn_option table[] = {
        INPUT_OPTION(patterns),
        {"decode", LIMN_OPTION_FLAG, &options.decode, NULL, "also decode every picture", false},
        {"stored-sha256", LIMN_OPTION_FLAG, &options.stored_sha256, NULL,
         "KEY.json's sha256 must be that of the stored picture: for sets whose pictures were kept as they came", false},
        {"record", LIMN_OPTION_STRING, &options.record, "FILE",
         "remember whole files there, by name, size and time: the same command goes on after a stop", false},
        JSON_OPTION(json),
        {0}};
    const limn_program program = {
        .name = "limn-dataset verify",
        .summary =
            "Reads tars or token shards whole and names each fault with file and key; the exit code is 1 when there is one.",
        .examples = "$ limn-dataset verify --input cc3m --decode --record cc3m.verified\n"
                    "      a line for each fault on standard output: file, key, fault, with tabs between\n"
                    "$ limn-dataset verify --input tokens --json\n"};
    const int parsed = limn_options_parse(&program, table, argc, argv, NULL, error);
    int status = parsed < 0 ? -1 : 0;
    if (parsed == 0) {
        status =
            choose_expand(&patterns, &options.inputs, error) || choose_verify(&options, json ? NULL : stdout, &summary, error)
                ? -1
                : 0;
        if (status == 0 && json)
            status = print_json(json_pack("{s:I, s:I, s:I, s:I, s:I, s:O}", "files", (json_int_t)summary.files, "files_known",
                                          (json_int_t)summary.files_known, "samples", (json_int_t)summary.samples, "faults",
                                          (json_int_t)summary.faults, "files_with_faults",
                                          (json_int_t)summary.files_with_faults, "first_faults", summary.faults_json),
                                error);
        if (status == 0 && !json && !summary.faults)
            printf("%llu files are whole, %llu samples read%s\n", (unsigned long long)summary.files,
                   (unsigned long long)summary.samples, summary.files_known ? " (the rest is known by the record)" : "");
        if (status == 0 && summary.faults)
            status = limn_fail(error, "%llu faults in %llu of %llu files", (unsigned long long)summary.faults,
                               (unsigned long long)summary.files_with_faults, (unsigned long long)summary.files);
    }
    json_decref(summary.faults_json);
    limn_strings_free(&options.inputs);
    limn_strings_free(&patterns);
    return status;
}

int main(int argc, char **argv) {
    static const limn_subcommand subcommands[] = {
        {"stats", "what is in a set: sizes, lengths, hosts, words, duplicates, codes", run_stats},
        {"view", "a sheet of random pairs", run_view},
        {"filter", "the samples that fulfil conditions", run_filter},
        {"merge", "several sets as one", run_merge},
        {"split", "into train and validation", run_split},
        {"verify", "every file whole, every fault named", run_verify},
        {0},
    };
    return limn_main_subcommands(argc, argv, "Looks at pairs in tars or token shards, and chooses among them.", subcommands);
}
