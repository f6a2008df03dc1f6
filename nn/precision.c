#include "nn/nn.h"

#include <string.h>

static const char *const names[] = {[PRECISION_FP32] = "fp32", [PRECISION_BF16] = "bf16", [PRECISION_INT8] = "int8"};

int nn_precision_parse(nn_precision *out, const char *text, limn_error *error) {
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(text, names[i]) == 0) {
            *out = (nn_precision)i;
            return 0;
        }
    return limn_fail_usage(error, "--precision %s is unknown; it is fp32, bf16 or int8", text);
}

const char *nn_precision_name(nn_precision precision) {
    return names[precision];
}
