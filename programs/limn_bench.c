#include <string.h>

#include "core/core.h"
#include "nn/nn.h"

static int bench_matmul(int argc, char **argv, limn_error *error) {
    const limn_program program = {.name = "limn-bench matmul",
                                  .summary = "Measures this machine's rate of matrix products: the best of five of 4096³.",
                                  .examples = "$ limn-bench matmul --precision fp32\n"};
    const char *precision = "fp32";
    const limn_option options[] = {
        {"precision", LIMN_OPTION_STRING, &precision, "fp32", "precision of the numbers that are multiplied", false}, {0}};
    int parsed = limn_options_parse(&program, options, argc, argv, NULL, error);
    if (parsed != 0) return parsed > 0 ? 0 : -1;
    if (strcmp(precision, "fp32") != 0) return limn_fail_usage(error, "--precision %s: this program measures fp32", precision);
    limn_log(LIMN_LOG_INFO, "%s", nn_backend_description());
    double seconds;
    if (nn_measure_peak(&seconds, error) != 0) return -1;
    double gflops = 2e-9 * 4096.0 * 4096.0 * 4096.0 / seconds;
    printf("{\"seconds\": %.6f, \"rate\": %.4f, \"gflops\": %.2f, \"peak_share\": 1.0, \"rss_bytes\": %zu}\n", seconds, 1 / seconds,
           gflops, limn_resident_bytes_peak());
    return 0;
}

static const limn_subcommand subcommands[] = {
    {"matmul", "matrix products of 4096³: the machine's peak, against which all other rates are stated", bench_matmul},
    {NULL, NULL, NULL}};

int main(int argc, char **argv) {
    nn_prepare_blas(argv);
    return limn_main_subcommands(argc, argv, "Measures speed; the last line of the output is JSON.", subcommands);
}
