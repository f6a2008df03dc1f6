/* limn-encode: WebDataset tars become shards of VQGAN tokens. */
#include "dataset/dataset.h"
#include "nn/nn.h"

static int parse_part(const char *text, encode_options *options, limn_error *error) {
    char after;
    if (!text) return 0;
    if (text[0] == '-' || sscanf(text, "%zu/%zu%c", &options->part, &options->parts, &after) != 2)
        return limn_fail_usage(error, "--part %s: expected I/N, such as 0/4 for the first of four", text);
    return 0;
}

static void print_summary(const encode_options *options, const encode_summary *summary, bool json) {
    if (json)
        printf("{\"shards_made\": %zu, \"shards_kept\": %zu, \"pictures\": %llu, \"captions\": %llu, \"skipped\": %llu, "
               "\"seconds\": %.3f}\n",
               summary->shards_made, summary->shards_kept, (unsigned long long)summary->pictures,
               (unsigned long long)summary->captions, (unsigned long long)summary->skipped, summary->seconds);
    else
        printf("%s: %zu shards made, %zu kept; %llu pictures with %llu captions, %llu skipped, in %.1f s\n", options->output,
               summary->shards_made, summary->shards_kept, (unsigned long long)summary->pictures,
               (unsigned long long)summary->captions, (unsigned long long)summary->skipped, summary->seconds);
}

static int run(int argc, char **argv, limn_error *error) {
    encode_options options = {.parts = 1, .batch = 16};
    limn_strings patterns = {0};
    const char *part = NULL;
    bool json = false;
    const limn_option table[] = {
        {"input", LIMN_OPTION_STRINGS, &patterns, "TAR", "Tars of pictures and captions (patterns allowed).", true},
        {"vqgan", LIMN_OPTION_STRING, &options.vqgan, "DIR", "Folder of the VQGAN's config.json and weights.", true},
        {"output", LIMN_OPTION_STRING, &options.output, "DIR", "Folder for the shards; whole ones there are kept.", true},
        {"part", LIMN_OPTION_STRING, &part, "I/N", "Encode only each N-th tar, beginning with the I-th (from 0).", false},
        {"batch", LIMN_OPTION_SIZE, &options.batch, "N", "Pictures the VQGAN sees at once.", false},
        {"restart", LIMN_OPTION_FLAG, &options.restart, NULL, "Make the shards of these tars anew.", false},
        {"json", LIMN_OPTION_FLAG, &json, NULL, "Print the summary as JSON.", false},
        {0}};
    const limn_program program = {
        .name = "limn-encode",
        .summary = "Encodes the pictures of WebDataset tars to VQGAN tokens, in an HDF5 shard for each tar.",
        .examples = "$ limn-encode --input 'cc3m/*.tar' --vqgan vqgan-f16-16384 --output cc3m-tokens\n"
                    "      cc3m/00000.tar to cc3m-tokens/00000.h5 …; the same command goes on after a stop\n"
                    "$ limn-encode --input 'cc12m/*.tar' --vqgan vqgan-f16-16384 --output cc12m-tokens --part 0/4\n"
                    "      the first of four machines' share\n"};
    const int parsed = limn_options_parse(&program, table, argc, argv, NULL, error);
    int status = parsed < 0 ? -1 : 0;
    encode_summary summary;
    if (parsed == 0) {
        status = parse_part(part, &options, error) || limn_expand_paths(&patterns, &options.inputs, error) ||
                 encode_run(&options, &summary, error);
        if (!status) print_summary(&options, &summary, json);
    }
    limn_strings_free(&options.inputs);
    limn_strings_free(&patterns);
    return status ? -1 : 0;
}

int main(int argc, char **argv) {
    nn_prepare_threads(argv);
    return limn_main(argc, argv, run);
}
