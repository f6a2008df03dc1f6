/* Who multiplies packed weights. */
#include "nn/internal.h"
#include "nn/nn.h"
#include "nn/onednn.h"

#include <stdatomic.h>
#include <string.h>

static const char *const names[] = {
    [BACKEND_AUTO] = "auto", [BACKEND_LIMN] = "limn", [BACKEND_ONEDNN] = "onednn", [BACKEND_OPENBLAS] = "openblas"};
static _Atomic nn_backend chosen = BACKEND_AUTO;

int nn_choose_backend(const char *name, nn_precision precision, limn_error *error) {
    size_t i = 0;
    while (i < sizeof names / sizeof *names && strcmp(names[i], name) != 0) i++;
    if (i == sizeof names / sizeof *names)
        return limn_fail_usage(error, "--backend %s is unknown; it is auto, limn, onednn or openblas", name);
    if (i == BACKEND_OPENBLAS && precision != PRECISION_FP32)
        return limn_fail_usage(error, "--backend openblas multiplies fp32 alone, not %s", nn_precision_name(precision));
    if (i == BACKEND_ONEDNN && !onednn_available(precision))
        return limn_fail_usage(error, "--backend onednn cannot multiply %s here: %s", nn_precision_name(precision),
                               strcmp(onednn_description(), "no oneDNN") == 0 ? "Limn was built without it (libdnnl-dev)"
                                                                              : "this CPU has no instructions for it");
    atomic_store(&chosen, (nn_backend)i);
    return 0;
}

nn_backend backend_for(nn_precision precision) {
    const nn_backend backend = atomic_load(&chosen);
    if (backend == BACKEND_ONEDNN) return onednn_available(precision) ? BACKEND_ONEDNN : BACKEND_LIMN;
    if (backend == BACKEND_OPENBLAS) return precision == PRECISION_FP32 ? BACKEND_OPENBLAS : BACKEND_LIMN;
    /* Only the library knows AMX, which multiplies bfloat16 several times as fast as anything of ours. */
    const bool amx = backend == BACKEND_AUTO && precision == PRECISION_BF16 && onednn_has_amx();
    return amx && onednn_available(precision) ? BACKEND_ONEDNN : BACKEND_LIMN;
}
