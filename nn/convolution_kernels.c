#include "nn/convolution_kernels.h"

#include "nn/nn.h"

#include <stdatomic.h>
#include <string.h>

#define WINOGRAD_P 0.75f
#define WINOGRAD_Q 1.5f

#if defined(__x86_64__)
#include <immintrin.h>

#define BF16_PRODUCTS
#define INSTRUCTIONS "avx512bf16"
#define NAME(x) x##_avx512bf16
#define TARGET __attribute__((target("avx512f,avx512vl,avx512dq,avx512bw,avx512bf16,fma")))
#define VECTOR 16
#define PIXELS 8
#define OUTPUTS 8
#include "nn/convolution_kernels_body.h"
#undef BF16_PRODUCTS
#undef INSTRUCTIONS
#undef NAME
#undef TARGET
#undef VECTOR
#undef PIXELS
#undef OUTPUTS

#define INSTRUCTIONS "avx512"
#define NAME(x) x##_avx512
#define TARGET __attribute__((target("avx512f,avx512vl,avx512dq,avx512bw,fma")))
#define VECTOR 16
#define PIXELS 8
#define OUTPUTS 8
#include "nn/convolution_kernels_body.h"
#undef INSTRUCTIONS
#undef NAME
#undef TARGET
#undef VECTOR
#undef PIXELS
#undef OUTPUTS

#define INSTRUCTIONS "avx2"
#define NAME(x) x##_avx2
#define TARGET __attribute__((target("avx2,fma")))
#define VECTOR 8
#define PIXELS 6
#define OUTPUTS 6
#include "nn/convolution_kernels_body.h"
#undef INSTRUCTIONS
#undef NAME
#undef TARGET
#undef VECTOR
#undef PIXELS
#undef OUTPUTS
#endif

#define INSTRUCTIONS "portable"
#define NAME(x) x##_portable
#define TARGET
#define VECTOR 4
#define PIXELS 4
#define OUTPUTS 4
#include "nn/convolution_kernels_body.h"

static const convolution_kernels *const kernels_known[] = {
#if defined(__x86_64__)
    &kernels_avx512bf16,
    &kernels_avx512,
    &kernels_avx2,
#endif
    &kernels_portable,
};

static bool cpu_runs(const convolution_kernels *kernels) {
#if defined(__x86_64__)
    if (kernels == &kernels_avx512bf16) return cpu_runs(&kernels_avx512) && __builtin_cpu_supports("avx512bf16");
    if (kernels == &kernels_avx512)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("fma");
    if (kernels == &kernels_avx2) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
    return kernels == &kernels_portable;
}

static _Atomic(const convolution_kernels *) kernels_chosen;

const convolution_kernels *convolution_kernels_in_use(void) {
    const convolution_kernels *chosen = atomic_load_explicit(&kernels_chosen, memory_order_acquire);
    for (size_t i = 0; chosen == NULL; i++)
        if (cpu_runs(kernels_known[i])) {
            chosen = kernels_known[i];
            atomic_store_explicit(&kernels_chosen, chosen, memory_order_release);
        }
    return chosen;
}

bool convolution_choose_kernels(const char *name) {
    for (size_t i = 0; i < sizeof kernels_known / sizeof kernels_known[0]; i++)
        if (strcmp(kernels_known[i]->name, name) == 0 && cpu_runs(kernels_known[i])) {
            atomic_store_explicit(&kernels_chosen, kernels_known[i], memory_order_release);
            return true;
        }
    return false;
}
