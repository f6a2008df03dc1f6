/* limn-download: a list of captions and addresses becomes WebDataset tars. */
#include "dataset/dataset.h"
#include "download/download.h"

#include <string.h>

static int print_summary(const download_options *options, const download_summary *summary, bool json, limn_error *error) {
    if (json) {
        json_t *all = download_summary_json(options, summary);
        if (!all) return limn_fail(error, "out of memory for the summary");
        json_dumpf(all, stdout, JSON_SORT_KEYS | JSON_REAL_PRECISION(9));
        putchar('\n');
        json_decref(all);
        return 0;
    }
    if (limn_get_log_level() <= LIMN_LOG_INFO) download_summary_print(options, summary, stderr);
    printf("%s: %llu pairs of %llu rows in %llu shards, %llu failed; this run: %llu pairs in %.1f s, %.1f pairs/s\n",
           options->output, (unsigned long long)summary->pairs, (unsigned long long)summary->rows,
           (unsigned long long)summary->shards, (unsigned long long)summary->failed, (unsigned long long)summary->run_pairs,
           summary->run_seconds, (double)summary->run_pairs / summary->run_seconds);
    return 0;
}

static int open_encoder(download_options *options, const char *vqgan, const char *precision, const char *form,
                        limn_error *error) {
    nn_precision wanted;
    if (strcmp(form, "tars"))
        return limn_fail_usage(error, "--encode writes token shards: give it without --output-form %s", form);
    if (nn_precision_parse(&wanted, precision, error)) return -1;
    options->encoder = token_encoder_open(vqgan, wanted, error);
    if (!options->encoder) return -1;
    options->form = OUTPUT_TOKENS;
    options->pair.raw = true;
    options->pair.size = token_encoder_side(options->encoder);
    return 0;
}

static int run(int argc, char **argv, limn_error *error) {
    download_options options = {
        .fetch = {.concurrency = 256,
                  .per_host = 32,
                  .timeout = 10,
                  .retries = 2,
                  .min_rate = 128,
                  .max_bytes = 32000000,
                  .respect_noai = true,
                  .check_certificates = true},
        .pair = {.resize_name = "center-crop", .size = 256, .image = "jpg", .quality = 95, .dedup_distance = 3},
        .shard_size = 10000,
        .parts = 1};
    limn_strings patterns = {0};
    const char *part = NULL, *dataset = NULL, *form = "tars", *vqgan = NULL, *precision = "fp32";
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
        {"hash-column", LIMN_OPTION_STRING, &options.list.hash_column, "NAME",
         "A column of the files' SHA-256 or MD5 in hexadecimal; a file that has another is left out.", false},
        {"boxes-column", LIMN_OPTION_STRING, &options.list.boxes_column, "NAME",
         "A column of boxes to blur, such as [[0.1, 0.2, 0.3, 0.4]]: left, top, right, bottom as fractions.", false},
        {"size", LIMN_OPTION_SIZE, &options.pair.size, "PX", "Width and height of the pictures written.", false},
        {"resize", LIMN_OPTION_STRING, &options.pair.resize_name, "center-crop|border|keep-ratio|keep-ratio-largest|none",
         "How a picture becomes that size.", false},
        {"only-if-bigger", LIMN_OPTION_FLAG, &options.pair.only_if_bigger, NULL,
         "Leave a picture as it is (no growing, no crop, no border) where its side that would become that size is not larger.",
         false},
        {"output-image", LIMN_OPTION_STRING, &options.pair.image, "jpg|png|webp|original",
         "Form of the pictures written; original: the bytes as they came, decoded only to judge them (with --resize none).",
         false},
        {"quality", LIMN_OPTION_SIZE, &options.pair.quality, "N",
         "Quality of the JPEGs or WebPs written, 1 to 100 (a WebP of 100 is lossless).", false},
        {"min-size", LIMN_OPTION_SIZE, &options.pair.min_size, "PX", "Leave out pictures whose shorter side is less.", false},
        {"max-aspect-ratio", LIMN_OPTION_FLOAT, &options.pair.max_aspect_ratio, "R",
         "Leave out pictures whose longer side is more than R times the shorter.", false},
        {"dedup", LIMN_OPTION_FLAG, &options.pair.dedup, NULL,
         "Leave out pictures that look like an earlier one of the list (of this part's share of it), however scaled or "
         "encoded.",
         false},
        {"dedup-distance", LIMN_OPTION_SIZE, &options.pair.dedup_distance, "N",
         "How many of the 64 bits of two such pictures' hashes may differ, 0 to 7.", false},
        {"output-form", LIMN_OPTION_STRING, &form, "tars|files|none",
         "WebDataset tars; or a folder of plain files a shard; or no pictures, only counts and failures, to measure a list.",
         false},
        {"encode", LIMN_OPTION_STRING, &vqgan, "VQGAN",
         "Write token shards, as limn-encode does, of pictures cut to the size of this model folder's VQGAN; no picture is "
         "kept.",
         false},
        {"precision", LIMN_OPTION_STRING, &precision, "fp32|bf16", "What the VQGAN computes in; bf16 is faster.", false},
        {"shard-size", LIMN_OPTION_SIZE, &options.shard_size, "N", "Rows of the list per tar or folder.", false},
        {"concurrency", LIMN_OPTION_SIZE, &options.fetch.concurrency, "N", "Transfers at once.", false},
        {"per-host", LIMN_OPTION_SIZE, &options.fetch.per_host, "N", "Transfers at once to one host; its other rows wait.",
         false},
        {"fetch-threads", LIMN_OPTION_SIZE, &options.fetch.threads, "N",
         "Threads that fetch (one to four when not given, by the number of CPUs); one serves thousands of transfers.", false},
        {"timeout", LIMN_OPTION_FLOAT, &options.fetch.timeout, "S",
         "Seconds for one try at a picture, with all its redirects, and for a name server's answer.", false},
        {"min-rate", LIMN_OPTION_SIZE, &options.fetch.min_rate, "N",
         "Give up a picture that comes more slowly than so many bytes a second, over 10 seconds or half the timeout; 0: never.",
         false},
        {"retries", LIMN_OPTION_SIZE, &options.fetch.retries, "N",
         "Further tries after an error that may pass, after 0.5 seconds, 1, 2 … A host's Retry-After is heeded, up to three "
         "times the timeout; one that goes on asking for pauses is left alone for ten minutes.",
         false},
        {"max-bytes", LIMN_OPTION_SIZE, &options.fetch.max_bytes, "N", "Largest picture file that is fetched.", false},
        {"respect-noai", LIMN_OPTION_YES_NO, &options.fetch.respect_noai, "yes|no",
         "Leave out pictures whose server sends X-Robots-Tag: noai, noimageai, noindex or noimageindex, or tdm-reservation: 1.",
         false},
        {"allow-private", LIMN_OPTION_FLAG, &options.fetch.allow_private, NULL,
         "Also fetch file:// and addresses of this machine and private networks: for lists of your own.", false},
        {"user-agent", LIMN_OPTION_STRING, &options.fetch.user_agent, "TEXT",
         "What servers are told who asks (limn-download/" LIMN_VERSION " when not given); best with an address to complain to.",
         false},
        {"resolver", LIMN_OPTION_STRING, &options.fetch.resolver, "SERVERS",
         "Name servers to ask instead of the system's, as ADDRESS or ADDRESS:PORT with commas between; one on this machine is "
         "best for lists of millions of hosts.",
         false},
        {"proxy", LIMN_OPTION_STRING, &options.fetch.proxy, "URL",
         "Fetch through this proxy (the environment's are not used). It looks names up itself, so private addresses are "
         "refused "
         "only where the list or a redirect says them as numbers or localhost.",
         false},
        {"ca-file", LIMN_OPTION_STRING, &options.fetch.ca_file, "FILE",
         "Certificates to trust, as PEM, instead of the system's.", false},
        {"check-certificates", LIMN_OPTION_YES_NO, &options.fetch.check_certificates, "yes|no",
         "Refuse servers whose certificate is not valid for their name.", false},
        {"part", LIMN_OPTION_STRING, &part, "I/N", "Make only the tars whose number leaves I when divided by N (I from 0).",
         false},
        {"coordinate", LIMN_OPTION_STRING, &options.coordinate, "DIR",
         "Share the work with every other process that is given the same: each shard is claimed by a lock file in DIR, which "
         "like the output is on a file system that all see.",
         false},
        {"retry-failed", LIMN_OPTION_FLAG, &options.retry_failed, NULL,
         "Also try again what failed on the way in finished shards (names, connections, time-outs, HTTP statuses).", false},
        {"restart", LIMN_OPTION_FLAG, &options.restart, NULL, "Remove the shards in the output folder and begin anew.", false},
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
            "$ limn-download --input Train_GCC-training.tsv --output cc3m --retry-failed --timeout 30\n"
            "      some days later: the rows that failed on the way, once more and with more patience\n"
            "$ limn-download --input cc12m.tsv --columns url,caption --output /shared/cc12m --coordinate /shared/cc12m/claims\n"
            "      on as many machines as you like, at any time\n"
            "$ zcat part-*.jsonl.gz | limn-download --input - --input-format jsonl --output pictures\n"
            "      what another program makes, an object a line; to go on after a stop: the same with --input - </dev/null\n"};
    const int parsed = limn_options_parse(&program, table, argc, argv, NULL, error);
    int status = parsed < 0 ? -1 : 0;
    download_summary summary = {0};
    if (parsed == 0) {
        resize_mode_from_name(options.pair.resize_name, &options.pair.resize); /* the option takes only names it knows */
        output_form_from_name(form, &options.form);
        status = vqgan ? open_encoder(&options, vqgan, precision, form, error) : 0;
        status = status || (part && part_parse(part, &options.part, &options.parts, error)) ||
                 (dataset && caption_list_load_settings(dataset, &options.list, &settings, error)) ||
                 caption_list_expand(&patterns, &options.inputs, error) || download_run(&options, &summary, error);
        if (!status) status = print_summary(&options, &summary, json, error);
        if (!status && summary.rows && !summary.pairs)
            limn_log(LIMN_LOG_WARNING, "not one row became a pair; the shards' .failed.tsv say why");
        if (!status && limn_stop_requested())
            limn_log(LIMN_LOG_INFO, "stopped; finished shards are kept, the same command goes on from there");
    }
    download_summary_free(&summary);
    json_decref(settings);
    token_encoder_close(options.encoder);
    limn_strings_free(&options.inputs);
    limn_strings_free(&patterns);
    return status ? -1 : 0;
}

int main(int argc, char **argv) {
    return limn_main(argc, argv, run);
}
