/* limn-bench: how fast this machine does what Limn asks of it. */
#include "core/core.h"
#include "infer/infer.h"
#include "nn/nn.h"
#include "train/train.h"
#include "vqgan/vqgan.h"

#include <string.h>

static int bench_matmul(int argc, char **argv, limn_error *error) {
    const limn_program program = {.name = "limn-bench matmul",
                                  .summary = "Measures this machine's rate of matrix products: the best of five of 4096³.",
                                  .examples = "$ limn-bench matmul --precision fp32\n"};
    const char *precision_name = "fp32";
    nn_precision precision;
    const limn_option options[] = {
        {"precision", LIMN_OPTION_STRING, &precision_name, "fp32|bf16", "precision of the numbers that are multiplied", false},
        {0}};
    int parsed = limn_options_parse(&program, options, argc, argv, NULL, error);
    if (parsed != 0) return parsed > 0 ? 0 : -1;
    if (nn_precision_parse(&precision, precision_name, error)) return -1;
    limn_log(LIMN_LOG_INFO, "%s", nn_backend_description());
    double gflops;
    if (nn_measure_peak(precision, &gflops, error) != 0) return -1;
    double seconds = 2e-9 * 4096.0 * 4096.0 * 4096.0 / gflops;
    printf("{\"seconds\": %.6f, \"rate\": %.4f, \"gflops\": %.2f, \"peak_share\": 1.0, \"rss_bytes\": %zu}\n", seconds,
           1 / seconds, gflops, limn_resident_bytes_peak());
    return 0;
}

/* The last line: `seconds` for `count` of what is made, `flops` in matrix products. */
static void print_result(double seconds, double count, double flops, double peak) {
    double gflops = 1e-9 * flops / seconds;
    printf("{\"seconds\": %.6f, \"rate\": %.4f, \"gflops\": %.2f, \"peak_share\": %.4f, \"rss_bytes\": %zu}\n", seconds,
           count / seconds, gflops, gflops / peak, limn_resident_bytes_peak());
}

static int bench_sample(int argc, char **argv, limn_error *error) {
    const limn_program program = {
        .name = "limn-bench sample",
        .summary = "Measures the time of all image tokens of some drawings of one caption, with random weights.",
        .examples = "$ limn-bench sample --config configs/mini.json --precision bf16 --batch 9\n"
                    "      nine guided drawings, as limn-sample makes them\n"};
    const char *path = NULL, *precision_name = "fp32", *backend = "auto";
    sampling_options options = {.count = 9, .guidance = 10, .temperature = 1, .top_p = 1, .top_k = 256};
    size_t rounds = 2;
    const limn_option table[] = {
        {"config", LIMN_OPTION_STRING, &path, "FILE", "JSON or YAML with the section seq2seq", true},
        {"precision", LIMN_OPTION_STRING, &precision_name, "fp32|bf16|int8", "precision of the numbers that are multiplied",
         false},
        {"backend", LIMN_OPTION_STRING, &backend, "NAME", "who multiplies: auto, limn, onednn or openblas", false},
        {"batch", LIMN_OPTION_SIZE, &options.count, "N", "drawings", false},
        {"guidance", LIMN_OPTION_FLOAT, &options.guidance, "S", "1: none, half the rows", false},
        {"top-k", LIMN_OPTION_SIZE, &options.top_k, "K", "draw among the K most likely tokens; 0: all", false},
        {"rounds", LIMN_OPTION_SIZE, &rounds, "N", "how often all are drawn; the fastest counts", false},
        {0}};
    int parsed = limn_options_parse(&program, table, argc, argv, NULL, error);
    if (parsed != 0) return parsed > 0 ? 0 : -1;
    nn_precision precision;
    if (nn_precision_parse(&precision, precision_name, error) || nn_choose_backend(backend, precision, error)) return -1;
    if (rounds == 0) return limn_fail_usage(error, "--rounds must be at least 1");
    limn_log(LIMN_LOG_INFO, "%s", nn_backend_description());
    seq2seq_config config;
    draw_measurement measured;
    double peak;
    if (train_read_seq2seq(path, &config, error)) return -1;
    int status =
        draw_measure(&config, precision, &options, rounds, &measured, error) || nn_measure_peak(precision, &peak, error) ? -1
                                                                                                                         : 0;
    seq2seq_config_free(&config);
    if (status == 0) print_result(measured.seconds, (double)options.count, measured.flops, peak);
    return status;
}

/* What the step costs without its optimizer, and with Shampoo's parts in it, by accumulation to a global batch. */
static void print_shampoo(const train_measurement *adamw, const shampoo_cost *cost, double global_batch, size_t root_steps) {
    double products = (adamw->seconds - adamw->optimizer_seconds) * global_batch / (double)adamw->batch;
    double own = cost->statistics + cost->preconditioning + cost->update + cost->roots / (double)root_steps;
    printf("{\"global_batch\": %.0f, \"batch_seconds\": %.3f, \"adamw_seconds\": %.4f, \"shampoo_seconds\": %.4f, "
           "\"statistics_seconds\": %.4f, \"preconditioning_seconds\": %.4f, \"update_seconds\": %.4f, \"roots_seconds\": %.4f, "
           "\"roots\": %zu, \"root_steps\": %zu, \"state_bytes\": %zu, \"ratio_to_adamw\": %.4f}\n",
           global_batch, products, adamw->optimizer_seconds, own, cost->statistics, cost->preconditioning, cost->update, cost->roots,
           cost->root_count, root_steps, cost->state_bytes, (products + own) / (products + adamw->optimizer_seconds));
}

static int bench_train(int argc, char **argv, limn_error *error) {
    const limn_program program = {
        .name = "limn-bench train",
        .summary = "Measures training steps of a configuration's seq2seq, with random weights and data.",
        .examples = "$ limn-bench train --config configs/mini.json --precision bf16 --batch 8\n"
                    "      the matrix products' rate, and its share of what limn-bench matmul measures\n"
                    "$ limn-bench train --config configs/mini.json --precision bf16 --batch 2 --optimizer shampoo\n"
                    "      a step of 512 pairs with Shampoo beside one with AdamW, computed from the measured parts of both\n"};
    const char *config = NULL, *precision_name = "fp32", *optimizer_name = "adamw", *backend = "auto";
    size_t batch = 8, steps = 3, global_batch = 512, root_steps = 20;
    nn_precision precision;
    const limn_option options[] = {
        {"config", LIMN_OPTION_STRING, &config, "FILE", "JSON or YAML with the section seq2seq", true},
        {"precision", LIMN_OPTION_STRING, &precision_name, "fp32|bf16", "precision of the numbers that are multiplied", false},
        {"backend", LIMN_OPTION_STRING, &backend, "NAME", "who multiplies: auto, limn, onednn or openblas", false},
        {"batch", LIMN_OPTION_SIZE, &batch, "N", "pairs of a step; under mpirun, of all ranks together", false},
        {"steps", LIMN_OPTION_SIZE, &steps, "N", "steps that are measured, after one that is not; the fastest counts", false},
        {"optimizer", LIMN_OPTION_STRING, &optimizer_name, "adamw|adafactor|shampoo", "who moves the weights", false},
        {"global-batch", LIMN_OPTION_SIZE, &global_batch, "N", "for shampoo: pairs of a step, by accumulation", false},
        {"root-steps", LIMN_OPTION_SIZE, &root_steps, "N", "for shampoo: roots are computed every N steps", false},
        {0}};
    int parsed = limn_options_parse(&program, options, argc, argv, NULL, error);
    if (parsed != 0) return parsed > 0 ? 0 : -1;
    if (nn_precision_parse(&precision, precision_name, error) || nn_choose_backend(backend, precision, error)) return -1;
    bool shampoo = strcmp(optimizer_name, "shampoo") == 0, adafactor = strcmp(optimizer_name, "adafactor") == 0;
    if (batch == 0 || batch > 4096 || steps == 0 || global_batch == 0 || root_steps == 0)
        return limn_fail_usage(error, "--batch must be 1 to 4096, --steps, --global-batch and --root-steps at least 1");
    limn_log(LIMN_LOG_INFO, "%s", nn_backend_description());
    double peak_before = 0, peak_after = 0;
    train_measurement measured;
    shampoo_cost cost = {0};
    /* The machine's peak before and after, since a virtual machine's may change meanwhile; Shampoo's line does not say it. */
    if ((!shampoo && nn_measure_peak(precision, &peak_before, error)) ||
        train_measure_seq2seq(config, precision, batch, steps, adafactor ? OPTIMIZER_ADAFACTOR : OPTIMIZER_ADAMW, &measured,
                              error) ||
        (shampoo ? train_measure_shampoo(config, &cost, error) : nn_measure_peak(precision, &peak_after, error)))
        return -1;
    if (measured.rank) return 0; /* the first speaks */
    if (shampoo) {
        print_shampoo(&measured, &cost, (double)global_batch, root_steps);
        return 0;
    }
    double peak = (double)measured.ranks * (peak_before > peak_after ? peak_before : peak_after);
    double gflops = 1e-9 * measured.flops / measured.seconds;
    printf("{\"seconds\": %.6f, \"rate\": %.4f, \"gflops\": %.2f, \"peak_share\": %.4f, \"optimizer_seconds\": %.4f, "
           "\"rss_bytes\": %zu}\n",
           measured.seconds, (double)batch / measured.seconds, gflops, gflops / peak, measured.optimizer_seconds,
           limn_resident_bytes_peak());
    return 0;
}

static int bench_data(int argc, char **argv, limn_error *error) {
    const limn_program program = {
        .name = "limn-bench data",
        .summary = "Measures how fast the pairs of a training are read, and read and tokenized.",
        .examples = "$ limn-bench data --config configs/mini.json --data 'tokens/*.h5' --tokenizer tokenizer --against 2.5\n"
                    "      pairs a second, and how many times the 2.5 that a training takes\n"};
    const char *config = NULL, *words = NULL;
    limn_strings data = {0};
    double seconds = 10, against = 0;
    const limn_option options[] = {
        {"config", LIMN_OPTION_STRING, &config, "FILE", "JSON or YAML with the sections seq2seq and train.seq2seq", true},
        {"data", LIMN_OPTION_STRINGS, &data, "SHARDS", "token shards or JSON lines: files, folders or patterns", true},
        {"tokenizer", LIMN_OPTION_STRING, &words, "DIR", "folder that limn-tokenizer train wrote", true},
        {"seconds", LIMN_OPTION_FLOAT, &seconds, "S", "how long each of the two is measured", false},
        {"against", LIMN_OPTION_FLOAT, &against, "RATE", "pairs a second that a training takes: gives the ratio", false},
        {0}};
    int parsed = limn_options_parse(&program, options, argc, argv, NULL, error);
    train_data_measurement measured;
    int status = parsed;
    if (parsed == 0) status = train_measure_data(config, &data, words, seconds, &measured, error);
    limn_strings_free(&data);
    if (parsed != 0 || status != 0) return status < 0 ? -1 : 0;
    limn_log(LIMN_LOG_INFO, "%llu pairs counted in %.3g s; read alone: %.0f pairs/s, %.1f MB/s of the files",
             (unsigned long long)measured.pairs, measured.open_seconds, measured.read_rate, measured.read_bytes * 1e-6);
    printf("{\"seconds\": %.6f, \"rate\": %.1f, \"read_rate\": %.1f, \"read_bytes\": %.0f", measured.seconds, measured.rate,
           measured.read_rate, measured.read_bytes);
    if (against > 0) printf(", \"ratio\": %.1f", measured.rate / against);
    printf(", \"rss_bytes\": %zu}\n", limn_resident_bytes_peak());
    return 0;
}

static int bench_vqgan(int argc, char **argv, bool decode, const limn_program *program, limn_error *error) {
    const char *config = NULL, *precision_name = "fp32", *backend = "auto";
    size_t batch = 9, steps = 3;
    nn_precision precision;
    const limn_option options[] = {
        {"config", LIMN_OPTION_STRING, &config, "FILE", "JSON or YAML with the section vqgan", true},
        {"precision", LIMN_OPTION_STRING, &precision_name, "fp32|bf16", "precision of the numbers that are multiplied", false},
        {"backend", LIMN_OPTION_STRING, &backend, "NAME", "who multiplies: auto, limn, onednn or openblas", false},
        {"batch", LIMN_OPTION_SIZE, &batch, "N", "pictures of a step", false},
        {"steps", LIMN_OPTION_SIZE, &steps, "N", "steps that are measured, after one that is not; the fastest counts", false},
        {0}};
    int parsed = limn_options_parse(program, options, argc, argv, NULL, error);
    if (parsed != 0) return parsed > 0 ? 0 : -1;
    if (nn_precision_parse(&precision, precision_name, error) || nn_choose_backend(backend, precision, error)) return -1;
    if (batch == 0 || batch > 4096 || steps == 0)
        return limn_fail_usage(error, "--batch must be 1 to 4096 and --steps at least 1");
    double peak_before, peak_after;
    vqgan_measurement measured;
    if (nn_measure_peak(precision, &peak_before, error) ||
        vqgan_measure(config, decode, precision, batch, steps, &measured, error) ||
        nn_measure_peak(precision, &peak_after, error))
        return -1;
    double peak = peak_before > peak_after ? peak_before : peak_after;
    print_result(measured.seconds, (double)batch, measured.flops, peak);
    return 0;
}

static int bench_vqgan_encode(int argc, char **argv, limn_error *error) {
    const limn_program program = {
        .name = "limn-bench vqgan-encode",
        .summary = "Measures how fast a configuration's VQGAN makes tokens of pictures, with random weights and pictures.",
        .examples = "$ limn-bench vqgan-encode --config configs/mini.json --precision bf16 --batch 9\n"};
    return bench_vqgan(argc, argv, false, &program, error);
}

static int bench_vqgan_decode(int argc, char **argv, limn_error *error) {
    const limn_program program = {
        .name = "limn-bench vqgan-decode",
        .summary = "Measures how fast a configuration's VQGAN makes pictures of tokens, with random weights and tokens.",
        .examples = "$ limn-bench vqgan-decode --config configs/mini.json --precision bf16 --batch 9\n"
                    "      convolutions are counted as computed directly, so that the share of the peak may be above 1\n"};
    return bench_vqgan(argc, argv, true, &program, error);
}

static const limn_subcommand subcommands[] = {
    {"matmul", "matrix products of 4096³: the machine's peak, against which all other rates are stated", bench_matmul},
    {"sample", "all image tokens of some drawings", bench_sample},
    {"vqgan-encode", "pictures to tokens", bench_vqgan_encode},
    {"vqgan-decode", "tokens to pictures", bench_vqgan_decode},
    {"train", "training steps of a configuration", bench_train},
    {"data", "reading and tokenizing a training's pairs", bench_data},
    {NULL, NULL, NULL}};

int main(int argc, char **argv) {
    nn_prepare_threads(argv);
    return limn_main_subcommands(argc, argv, "Measures speed; the last line of the output is JSON.", subcommands);
}
