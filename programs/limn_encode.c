/* limn-encode: WebDataset tars become shards of VQGAN tokens. */
#include "dataset/dataset.h"
#include "nn/nn.h"

#include <stdlib.h>

static int print_json(const encode_options *options, const encode_summary *summary, limn_error *error) {
    json_t *object = json_pack("{s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:f, s:s}", "shards_made", (json_int_t)summary->shards_made,
                               "shards_kept", (json_int_t)summary->shards_kept, "pictures", (json_int_t)summary->pictures,
                               "captions", (json_int_t)summary->captions, "skipped", (json_int_t)summary->skipped, "seconds",
                               summary->seconds, "rate", summary->rate, "vqgan_wait_seconds", summary->vqgan_wait_seconds,
                               "precision", nn_precision_name(options->precision));
    if (options->verify) {
        json_object_set_new(object, "verified", json_integer((json_int_t)summary->verified));
        json_object_set_new(object, "token_agreement", json_real(summary->token_agreement));
        json_object_set_new(object, "least_token_agreement", json_real(summary->least_agreement));
    }
    char *text = json_dumps(object, JSON_REAL_PRECISION(6));
    json_decref(object);
    if (!text) return limn_fail(error, "out of memory for the summary");
    puts(text);
    free(text);
    return 0;
}

static void print_verified(const encode_options *options, const encode_summary *summary) {
    if (summary->verified == 0)
        printf("verified nothing: no picture was encoded in this run\n");
    else if (options->precision == PRECISION_FP32)
        printf("verified %zu pictures: their shards hold the tokens that the VQGAN gave\n", summary->verified);
    else
        printf("verified %zu pictures: %.2f %% of their %s tokens are fp32's too; %.2f %% in picture %s, the worst\n",
               summary->verified, 100 * summary->token_agreement, nn_precision_name(options->precision),
               100 * summary->least_agreement, summary->least_key);
}

static int print_summary(const encode_options *options, const encode_summary *summary, bool json, limn_error *error) {
    if (json) return print_json(options, summary, error);
    const double seconds = summary->encode_seconds;
    printf(
        "%s: %zu shards made, %zu kept; %llu pictures with %llu captions, %llu skipped, in %.1f s; %.2f pictures/s, the VQGAN "
        "waited %.1f %% of the time\n",
        options->output, summary->shards_made, summary->shards_kept, (unsigned long long)summary->pictures,
        (unsigned long long)summary->captions, (unsigned long long)summary->skipped, summary->seconds, summary->rate,
        seconds > 0 ? 100 * summary->vqgan_wait_seconds / seconds : 0.0);
    if (options->verify) print_verified(options, summary);
    return 0;
}

static int run(int argc, char **argv, limn_error *error) {
    encode_options options = {.parts = 1};
    limn_strings patterns = {0};
    const char *part = NULL, *precision = "fp32", *backend = "auto";
    bool json = false;
    const limn_option table[] = {
        {"input", LIMN_OPTION_STRINGS, &patterns, "TAR", "Tars of pictures and captions (patterns allowed).", true},
        {"vqgan", LIMN_OPTION_STRING, &options.vqgan, "DIR", "Folder of the VQGAN's config.json and weights.", true},
        {"output", LIMN_OPTION_STRING, &options.output, "DIR", "Folder for the shards; whole ones there are kept.", true},
        {"part", LIMN_OPTION_STRING, &part, "I/N", "Encode only each N-th tar, beginning with the I-th (from 0).", false},
        {"batch", LIMN_OPTION_SIZE, &options.batch, "N", "Pictures the VQGAN sees at once; 0: two a thread, from 4 to 32.",
         false},
        {"precision", LIMN_OPTION_STRING, &precision, "fp32|bf16", "What the VQGAN computes in; bf16 is faster.", false},
        {"backend", LIMN_OPTION_STRING, &backend, "NAME", "Who multiplies: auto, limn, onednn or openblas.", false},
        {"verify", LIMN_OPTION_SIZE, &options.verify, "K", "Check K pictures afterwards: read back, and bf16 against fp32.",
         false},
        {"restart", LIMN_OPTION_FLAG, &options.restart, NULL, "Make the shards of these tars anew.", false},
        {"json", LIMN_OPTION_FLAG, &json, NULL, "Print the summary as JSON.", false},
        {0}};
    const limn_program program = {
        .name = "limn-encode",
        .summary = "Encodes the pictures of WebDataset tars to VQGAN tokens, in an HDF5 shard for each tar.",
        .examples =
            "$ limn-encode --input 'cc3m/*.tar' --vqgan vqgan-f16-16384 --output cc3m-tokens\n"
            "      cc3m/00000.tar to cc3m-tokens/00000.h5 …; the same command goes on after a stop\n"
            "$ limn-encode --input 'cc12m/*.tar' --vqgan vqgan-f16-16384 --output cc12m-tokens --part 0/4\n"
            "      the first of four machines' share\n"
            "$ limn-encode --input 'cc3m/*.tar' --vqgan vqgan-f16-16384 --output cc3m-bf16 --precision bf16 --verify 100\n"
            "      in bfloat16, and how many of 100 pictures' tokens are those of fp32\n"};
    const int parsed = limn_options_parse(&program, table, argc, argv, NULL, error);
    int status = parsed < 0 ? -1 : 0;
    encode_summary summary;
    if (parsed == 0) {
        status = (part && part_parse(part, &options.part, &options.parts, error)) ||
                 nn_precision_parse(&options.precision, precision, error) ||
                 nn_choose_backend(backend, options.precision, error) || limn_expand_paths(&patterns, &options.inputs, error) ||
                 encode_run(&options, &summary, error) || print_summary(&options, &summary, json, error);
    }
    limn_strings_free(&options.inputs);
    limn_strings_free(&patterns);
    return status ? -1 : 0;
}

int main(int argc, char **argv) {
    nn_prepare_threads(argv);
    return limn_main(argc, argv, run);
}
