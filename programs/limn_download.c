/* limn-download: a list of captions and addresses becomes WebDataset tars. */
#include "dataset/dataset.h"
#include "download/download.h"

#include <string.h>

static void print_summary(const download_options *options, const download_summary *summary) {
    const char *reason;
    json_t *count;
    if (summary->failed && limn_get_log_level() <= LIMN_LOG_INFO) {
        fprintf(stderr, "failed rows by reason (each is named in the shards' .failed.tsv):\n");
        json_object_foreach(summary->reasons, reason, count)
            fprintf(stderr, "  %-20s %10lld\n", reason, (long long)json_integer_value(count));
    }
    printf("%s: %llu pairs of %llu rows in %llu shards, %llu failed; this run: %llu pairs in %.1f s, %.1f pairs/s\n",
           options->output, (unsigned long long)summary->pairs, (unsigned long long)summary->rows,
           (unsigned long long)summary->shards, (unsigned long long)summary->failed, (unsigned long long)summary->run_pairs,
           summary->run_seconds, (double)summary->run_pairs / summary->run_seconds);
}

static int print_json(const download_options *options, const download_summary *summary, limn_error *error) {
    json_t *all = json_pack("{s:s, s:I, s:I, s:I, s:I, s:O, s:I, s:I, s:I, s:f}", "output", options->output, "rows",
                            (json_int_t)summary->rows, "pairs", (json_int_t)summary->pairs, "failed",
                            (json_int_t)summary->failed, "shards", (json_int_t)summary->shards, "reasons", summary->reasons,
                            "run_rows", (json_int_t)summary->run_rows, "run_pairs", (json_int_t)summary->run_pairs, "run_bytes",
                            (json_int_t)summary->run_bytes, "run_seconds", summary->run_seconds);
    if (!all) return limn_fail(error, "out of memory for the summary");
    json_dumpf(all, stdout, JSON_SORT_KEYS | JSON_REAL_PRECISION(9));
    putchar('\n');
    json_decref(all);
    return 0;
}

static int run(int argc, char **argv, limn_error *error) {
    download_options options = {
        .fetch = {.concurrency = 64, .timeout = 10, .retries = 2, .max_bytes = 32000000, .respect_noai = true},
        .pair = {.resize_name = "center-crop", .size = 256, .quality = 95},
        .shard_size = 10000,
        .parts = 1};
    limn_strings patterns = {0};
    const char *part = NULL, *dataset = NULL;
    json_t *settings = NULL;
    bool json = false;
    const limn_option table[] = {
        {"input", LIMN_OPTION_STRINGS, &patterns, "LIST",
         "Lists of captions and addresses, one or more: files (gzip and zstd too), patterns, folders, or - for standard input, "
         "which is kept as OUTPUT/stdin.list so that the run can go on after a stop.",
         true},
        {"output", LIMN_OPTION_STRING, &options.output, "DIR", "Folder for the tars; what is finished there is kept.", true},
        {"dataset", LIMN_OPTION_STRING, &dataset, "FILE",
         "Settings of a known list (configs/datasets/*.json); the options that follow here win over them.", false},
        {"input-format", LIMN_OPTION_STRING, &options.list.format, "auto|tsv|csv|jsonl|txt",
         "Form of the lists: tab- or comma-separated, a JSON object a line, an address a line (auto when not given: by name, "
         "else by the first line).",
         false},
        {"header", LIMN_OPTION_STRING, &options.list.header, "auto|yes|no",
         "Whether the first line names the columns (auto, by those names, when not given).", false},
        {"columns", LIMN_OPTION_STRING, &options.list.columns, "NAMES",
         "Columns in order, for lists without a header line (caption,url when not given); further ones go into each pair's "
         ".json.",
         false},
        {"url-column", LIMN_OPTION_STRING, &options.list.url_column, "NAME",
         "The column of addresses, where its name is not url, image_url, link, image or the like.", false},
        {"caption-column", LIMN_OPTION_STRING, &options.list.caption_column, "NAME",
         "The column of captions, where its name is not caption, text, alt, title or the like; \"\" if there is none.", false},
        {"hash-column", LIMN_OPTION_STRING, &options.list.hash_column, "NAME", "A column of the pictures' hashes.", false},
        {"boxes-column", LIMN_OPTION_STRING, &options.list.boxes_column, "NAME", "A column of boxes in the pictures.", false},
        {"size", LIMN_OPTION_SIZE, &options.pair.size, "PX", "Width and height of the pictures written.", false},
        {"resize", LIMN_OPTION_STRING, &options.pair.resize_name, "center-crop|border|keep-ratio|keep-ratio-largest|none",
         "How a picture becomes that size.", false},
        {"quality", LIMN_OPTION_SIZE, &options.pair.quality, "N", "Quality of the JPEGs written, 1 to 100.", false},
        {"min-size", LIMN_OPTION_SIZE, &options.pair.min_size, "PX", "Leave out pictures whose shorter side is less.", false},
        {"shard-size", LIMN_OPTION_SIZE, &options.shard_size, "N", "Rows of the list per tar.", false},
        {"concurrency", LIMN_OPTION_SIZE, &options.fetch.concurrency, "N", "Transfers at once.", false},
        {"timeout", LIMN_OPTION_FLOAT, &options.fetch.timeout, "S", "Seconds for one try at a picture, with all its redirects.",
         false},
        {"retries", LIMN_OPTION_SIZE, &options.fetch.retries, "N", "Further tries after an error that may pass.", false},
        {"max-bytes", LIMN_OPTION_SIZE, &options.fetch.max_bytes, "N", "Largest picture file that is fetched.", false},
        {"respect-noai", LIMN_OPTION_YES_NO, &options.fetch.respect_noai, "yes|no",
         "Leave out pictures whose server sends X-Robots-Tag: noai, noimageai, noindex or noimageindex.", false},
        {"allow-private", LIMN_OPTION_FLAG, &options.fetch.allow_private, NULL,
         "Also fetch file:// and addresses of this machine and private networks: for lists of your own.", false},
        {"part", LIMN_OPTION_STRING, &part, "I/N", "Make only the tars whose number leaves I when divided by N (I from 0).",
         false},
        {"restart", LIMN_OPTION_FLAG, &options.restart, NULL, "Remove the tars in the output folder and begin anew.", false},
        {"json", LIMN_OPTION_FLAG, &json, NULL, "Print the summary as JSON.", false},
        {0}};
    const limn_program program = {
        .name = "limn-download",
        .summary = "Fetches pictures with captions from a list of addresses and packs them into WebDataset tars.",
        .examples =
            "$ limn-download --input Train_GCC-training.tsv --output cc3m\n"
            "      a list of caption and address, tab-separated, into cc3m/00000.tar …; the same command goes on after a stop\n"
            "$ limn-download --input cc12m.tsv --columns url,caption --output cc12m --concurrency 256 --part 0/4\n"
            "      the first of four machines' share of a list in the other order\n"
            "$ limn-download --input mine.csv --caption-column legend --url-column photo --output mine --allow-private\n"
            "      a CSV with a header line of its own, with file:// addresses\n"
            "$ zcat part-*.jsonl.gz | limn-download --input - --input-format jsonl --output pictures\n"
            "      what another program makes, an object a line; to go on after a stop: the same with --input - </dev/null\n"};
    const int parsed = limn_options_parse(&program, table, argc, argv, NULL, error);
    int status = parsed < 0 ? -1 : 0;
    download_summary summary = {0};
    if (parsed == 0) {
        resize_mode_from_name(options.pair.resize_name, &options.pair.resize); /* the option takes only names it knows */
        status = (part && part_parse(part, &options.part, &options.parts, error)) ||
                 (dataset && caption_list_load_settings(dataset, &options.list, &settings, error)) ||
                 caption_list_expand(&patterns, &options.inputs, error) || download_run(&options, &summary, error);
        if (!status && json)
            status = print_json(&options, &summary, error);
        else if (!status)
            print_summary(&options, &summary);
        if (!status && summary.rows && !summary.pairs)
            limn_log(LIMN_LOG_WARNING, "not one row became a pair; the shards' .failed.tsv say why");
        if (!status && limn_stop_requested())
            limn_log(LIMN_LOG_INFO, "stopped; finished shards are kept, the same command goes on from there");
    }
    json_decref(summary.reasons);
    json_decref(settings);
    limn_strings_free(&options.inputs);
    limn_strings_free(&patterns);
    return status ? -1 : 0;
}

int main(int argc, char **argv) {
    return limn_main(argc, argv, run);
}
