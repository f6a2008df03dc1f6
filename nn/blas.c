#include "nn/nn.h"

#include <cblas.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "nn/internal.h"

void nn_prepare_threads(char **argv) {
    if (getenv("GOMP_SPINCOUNT") != NULL || getenv("OMP_WAIT_POLICY") != NULL) return;
    /* libgomp reads its environment only while it is loaded. */
    if (setenv("GOMP_SPINCOUNT", "10000", 1) != 0) return;
    execv("/proc/self/exe", argv);
    /* Without /proc it is only slower on a busy machine. */
}

const char *nn_backend_description(void) {
    static char text[160];
    /* The configuration begins "OpenBLAS 0.3.21 …". */
    const char *config = openblas_get_config();
    const char *space = strchr(config, ' ');
    size_t length = space == NULL ? strlen(config) : (size_t)(space - config) + 1 + strcspn(space + 1, " ");
    size_t threads = limn_get_threads();
    snprintf(text, sizeof text, "%.*s %s%s, %zu thread%s", (int)(length < 40 ? length : 40), config, openblas_get_corename(),
             getenv("OPENBLAS_CORETYPE") != NULL ? " (by OPENBLAS_CORETYPE)" : "", threads, threads == 1 ? "" : "s");
    return text;
}

void use_single_threaded_blas(void) {
    static atomic_bool done;
    if (atomic_load_explicit(&done, memory_order_acquire)) return;
    openblas_set_num_threads(1);
    atomic_store_explicit(&done, true, memory_order_release);
}
