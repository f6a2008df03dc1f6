/* What the files of nn/ share and nobody outside sees. */
#ifndef LIMN_NN_INTERNAL_H
#define LIMN_NN_INTERNAL_H

#include <stddef.h>

/* The program is compiled for any x86-64; loops marked LIMN_CLONES are compiled three times, and the dynamic linker takes the
 * one for this CPU. What such a loop calls must be LIMN_INLINE, or it would stay baseline code. The sanitizers run before the
 * linker's choice is made and would crash, so there the loops are compiled once. GCC gives OpenMP regions of a cloned function
 * baseline code: put the loop over a thread's share in a cloned function, and call that from the region. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 12 && !defined(__SANITIZE_ADDRESS__)
#define LIMN_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default"), noinline))
#else
#define LIMN_CLONES __attribute__((noinline))
#endif
#define LIMN_INLINE static inline __attribute__((always_inline))

#endif
