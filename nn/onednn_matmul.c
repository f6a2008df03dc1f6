/* Products of bfloat16 matrices by oneDNN, where they lie: those of a training step on CPUs with AMX, which only the library
 * uses. Descriptions are made anew for each product; the library keeps what is expensive, the kernels, by their description. */
#include "nn/onednn.h"

#ifndef LIMN_HAVE_ONEDNN

bool onednn_matmul(numbers out, size_t ldout, const uint16_t *a, size_t lda, bool transpose_a, const uint16_t *b, size_t ldb,
                   bool transpose_b, size_t M, size_t N, size_t K, bool accumulate, limn_arena *arena) {
    (void)out, (void)ldout, (void)a, (void)lda, (void)transpose_a, (void)b, (void)ldb, (void)transpose_b, (void)M, (void)N;
    (void)K, (void)accumulate, (void)arena;
    return false;
}

size_t onednn_matmul_scratch_bytes(size_t M, size_t N, size_t K) {
    (void)M, (void)N, (void)K;
    return 0;
}

#else

#include "nn/onednn_api.h"

/* One matrix: where it lies, or NULL while its product is only described. */
typedef struct {
    void *at;
    size_t rows, columns, stride;
    bool transposed; /* it lies as (columns, rows) */
    dnnl_data_type_t type;
    layout layout;
    dnnl_memory_t memory;
} matrix;

enum { LEFT, RIGHT, OUT, MATRICES };

typedef struct {
    matrix matrices[MATRICES];
    bool accumulate;
    dnnl_engine_t engine;
    dnnl_primitive_attr_t attributes;
    dnnl_primitive_desc_t described;
    size_t scratch_bytes;
} product;

static void product_close(product *p) {
    if (p->described != NULL) dnnl_primitive_desc_destroy(p->described);
    if (p->attributes != NULL) dnnl_primitive_attr_destroy(p->attributes);
    for (size_t i = 0; i < MATRICES; i++) {
        if (p->matrices[i].memory != NULL) dnnl_memory_destroy(p->matrices[i].memory);
        layout_free(&p->matrices[i].layout);
    }
    if (p->engine != NULL) dnnl_engine_destroy(p->engine);
}

static bool lay_out(matrix *m) {
    const dnnl_dims_t dims = {(dnnl_dim_t)m->rows, (dnnl_dim_t)m->columns};
    const dnnl_dim_t stride = (dnnl_dim_t)m->stride;
    const dnnl_dims_t strides = {m->transposed ? 1 : stride, m->transposed ? stride : 1};
    return layout_make_strided(&m->layout, 2, dims, m->type, strides) == dnnl_success;
}

/* product_close afterwards in any case. */
static bool product_describe(product *p) {
    matrix *m = p->matrices;
    for (size_t i = 0; i < MATRICES; i++)
        if (m[i].rows == 0 || m[i].columns == 0 || !lay_out(&m[i])) return false;
    if (dnnl_engine_create(&p->engine, dnnl_cpu, 0) != dnnl_success ||
        make_attributes(&p->attributes, p->accumulate, NULL) != 0 ||
        describe_product(&p->described, p->engine, view(&m[LEFT].layout), view(&m[RIGHT].layout), view(&m[OUT].layout),
                         p->attributes) != dnnl_success)
        return false;
    p->scratch_bytes = dnnl_memory_desc_get_size(dnnl_primitive_desc_query_md(p->described, dnnl_query_scratchpad_md, 0));
    return true;
}

static bool product_run(product *p, void *scratch) {
    dnnl_primitive_t primitive = NULL;
    dnnl_stream_t stream = NULL;
    dnnl_memory_t scratchpad = NULL;
    matrix *m = p->matrices;
    bool done = make_primitive(&primitive, p->described, NULL) == 0;
    for (size_t i = 0; i < MATRICES && done; i++)
        done = dnnl_memory_create(&m[i].memory, view(&m[i].layout), p->engine, m[i].at) == dnnl_success;
    done = done &&
           dnnl_memory_create(&scratchpad, dnnl_primitive_desc_query_md(p->described, dnnl_query_scratchpad_md, 0), p->engine,
                              scratch) == dnnl_success &&
           dnnl_stream_create(&stream, p->engine, dnnl_stream_default_flags) == dnnl_success;
    if (done) {
        const dnnl_exec_arg_t arguments[] = {{DNNL_ARG_SRC, m[LEFT].memory},
                                             {DNNL_ARG_WEIGHTS, m[RIGHT].memory},
                                             {DNNL_ARG_DST, m[OUT].memory},
                                             {DNNL_ARG_SCRATCHPAD, scratchpad}};
        done =
            dnnl_primitive_execute(primitive, stream, 4, arguments) == dnnl_success && dnnl_stream_wait(stream) == dnnl_success;
    }
    if (scratchpad != NULL) dnnl_memory_destroy(scratchpad);
    if (stream != NULL) dnnl_stream_destroy(stream);
    if (primitive != NULL) dnnl_primitive_destroy(primitive);
    return done;
}

bool onednn_matmul(numbers out, size_t ldout, const uint16_t *a, size_t lda, bool transpose_a, const uint16_t *b, size_t ldb,
                   bool transpose_b, size_t M, size_t N, size_t K, bool accumulate, limn_arena *arena) {
    const bool half = out.bf16 != NULL;
    /* The library takes no const pointer, but only reads. */
    product p = {.accumulate = accumulate,
                 .matrices = {{(void *)(uintptr_t)a, M, K, lda, transpose_a, dnnl_bf16},
                              {(void *)(uintptr_t)b, K, N, ldb, transpose_b, dnnl_bf16},
                              {half ? (void *)out.bf16 : (void *)out.f32, M, N, ldout, false, half ? dnnl_bf16 : dnnl_f32}}};
    const size_t mark = limn_arena_mark(arena);
    const bool done = product_describe(&p) && p.scratch_bytes <= limn_arena_left(arena) &&
                      product_run(&p, limn_arena_bytes(arena, p.scratch_bytes));
    limn_arena_release(arena, mark);
    product_close(&p);
    return done;
}

size_t onednn_matmul_scratch_bytes(size_t M, size_t N, size_t K) {
    size_t most = 0;
    for (unsigned i = 0; i < 12; i++) {
        const bool transpose_a = i & 1, transpose_b = i & 2, half = i / 4 == 1;
        product p = {.accumulate = i / 4 == 2,
                     .matrices = {{NULL, M, K, transpose_a ? M : K, transpose_a, dnnl_bf16},
                                  {NULL, K, N, transpose_b ? K : N, transpose_b, dnnl_bf16},
                                  {NULL, M, N, N, false, half ? dnnl_bf16 : dnnl_f32}}};
        if (product_describe(&p) && p.scratch_bytes > most) most = p.scratch_bytes;
        product_close(&p);
    }
    return most;
}

#endif
