#include "nn/onednn.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "nn/internal.h"

#ifndef LIMN_HAVE_ONEDNN

bool onednn_available(nn_precision precision) {
    (void)precision;
    return false;
}

bool onednn_has_amx(void) {
    return false;
}

const char *onednn_description(void) {
    return "no oneDNN";
}

static void fail_missing(limn_error *error) {
    limn_fail(error, "this Limn was built without oneDNN; apt-get install libdnnl-dev, then configure and build again");
}

onednn_linear *onednn_linear_create(const float *weight, size_t OC, size_t C, nn_precision precision, limn_error *error) {
    (void)weight, (void)OC, (void)C, (void)precision;
    fail_missing(error);
    return NULL;
}

/* No layer was ever created, so nothing is left to do. */
int onednn_linear_prepare(onednn_linear *self, size_t N, limn_error *error) {
    (void)self, (void)N;
    fail_missing(error);
    return -1;
}

void onednn_linear_forward(onednn_linear *self, float *out, size_t ldout, const float *in, size_t ldin, const float *bias,
                           size_t N) {
    (void)self, (void)out, (void)ldout, (void)in, (void)ldin, (void)bias, (void)N;
}

size_t onednn_linear_bytes(const onednn_linear *self) {
    (void)self;
    return 0;
}

void onednn_linear_free(onednn_linear *self) {
    (void)self;
}

onednn_convolution *onednn_convolution_create(const float *weight, const float *bias, const convolution_shape *shape,
                                              nn_precision precision, limn_error *error) {
    (void)weight, (void)bias, (void)shape, (void)precision;
    fail_missing(error);
    return NULL;
}

void onednn_convolution_forward(onednn_convolution *self, float *out, const float *in, const float *residual) {
    (void)self, (void)out, (void)in, (void)residual;
}

size_t onednn_convolution_bytes(const onednn_convolution *self) {
    (void)self;
    return 0;
}

void onednn_convolution_free(onednn_convolution *self) {
    (void)self;
}

#else

#include "nn/onednn_api.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

/* ---------------------------------------------------------------- the CPU */

static bool library_uses(dnnl_cpu_isa_t instructions) {
    return ((unsigned)dnnl_get_effective_cpu_isa() & (unsigned)instructions) == (unsigned)instructions;
}

bool onednn_available(nn_precision precision) {
    switch (precision) {
    case PRECISION_FP32:
        return true;
    case PRECISION_BF16: /* before AVX512-BF16 the library widens to fp32 */
        return library_uses(dnnl_cpu_isa_avx512_core_bf16);
    case PRECISION_INT8: /* before VNNI sums of two products saturate at 16 bits */
#if DNNL_VERSION_MAJOR >= 3
        if (library_uses(dnnl_cpu_isa_avx2_vnni)) return true;
#endif
        return library_uses(dnnl_cpu_isa_avx512_core_vnni);
    }
    return false;
}

bool onednn_has_amx(void) {
#if defined(__x86_64__)
    enum { AMX_BF16 = 1 << 22, AMX_TILE = 1 << 24, AMX_INT8 = 1 << 25 }; /* cpuid 7, 0: EDX */
    unsigned a, b, c, d;
    const unsigned wanted = AMX_BF16 | AMX_TILE | AMX_INT8;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & wanted) == wanted && library_uses(dnnl_cpu_isa_avx512_core_amx);
#else
    return false;
#endif
}

const char *onednn_description(void) {
    static const struct {
        dnnl_cpu_isa_t instructions;
        const char *name;
    } known[] = {{dnnl_cpu_isa_avx512_core_amx, "avx512_core_amx"},
                 {dnnl_cpu_isa_avx512_core_bf16, "avx512_core_bf16"},
                 {dnnl_cpu_isa_avx512_core_vnni, "avx512_core_vnni"},
                 {dnnl_cpu_isa_avx512_core, "avx512_core"},
                 {dnnl_cpu_isa_avx2_vnni, "avx2_vnni"},
                 {dnnl_cpu_isa_avx2, "avx2"},
                 {dnnl_cpu_isa_avx, "avx"},
                 {dnnl_cpu_isa_sse41, "sse41"}};
    static char text[80];
    const dnnl_version_t *version = dnnl_version();
    const char *name = "portable";
    for (size_t i = sizeof known / sizeof *known; i-- > 0;)
        if (library_uses(known[i].instructions)) name = known[i].name;
    snprintf(text, sizeof text, "oneDNN %d.%d.%d %s", version->major, version->minor, version->patch, name);
    return text;
}

/* ---------------------------------------------------------------- what products and convolutions share */

typedef struct {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    dnnl_data_type_t in_type, weight_type, product_type;
    void *weights; /* in the library's layout */
    size_t weights_size;
    dnnl_memory_t weights_memory;
} session;

/* Memory that is not touched yet: unlike limn_allocate's it costs nothing until it is used. */
static void *take_memory(size_t size, limn_error *error) {
    void *memory = size <= SIZE_MAX - 63 ? aligned_alloc(64, (size + 63) / 64 * 64) : NULL;
    if (memory == NULL) limn_fail(error, "out of memory: %zu bytes for oneDNN", size);
    return memory;
}

static int session_open(session *s, nn_precision precision, limn_error *error) {
    if (!onednn_available(precision))
        return limn_fail(error, "%s on this CPU multiplies in fp32 faster than in %s, which needs %s", onednn_description(),
                         nn_precision_name(precision),
                         precision == PRECISION_BF16 ? "AVX512-BF16 or AMX" : "VNNI (AVX-512's for oneDNN 2) or AMX");
    s->in_type = s->weight_type = precision == PRECISION_FP32 ? dnnl_f32 : dnnl_bf16;
    s->product_type = dnnl_f32;
    if (precision == PRECISION_INT8) {
        s->in_type = dnnl_u8;
        s->weight_type = dnnl_s8;
        s->product_type = dnnl_s32;
    }
    if (check(dnnl_engine_create(&s->engine, dnnl_cpu, 0), "begin", error) != 0) return -1;
    return check(dnnl_stream_create(&s->stream, s->engine, dnnl_stream_default_flags), "begin", error);
}

static void session_close(session *s) {
    if (s->weights_memory != NULL) dnnl_memory_destroy(s->weights_memory);
    if (s->stream != NULL) dnnl_stream_destroy(s->stream);
    if (s->engine != NULL) dnnl_engine_destroy(s->engine);
    free(s->weights);
}

static int run_once(session *s, dnnl_primitive_desc_t described, const dnnl_exec_arg_t *arguments, int count,
                    limn_error *error) {
    dnnl_primitive_t primitive = NULL;
    int status = check(dnnl_primitive_create(&primitive, described), "reorder weights", error);
    if (status == 0) status = check(dnnl_primitive_execute(primitive, s->stream, count, arguments), "reorder weights", error);
    if (status == 0) status = check(dnnl_stream_wait(s->stream), "reorder weights", error);
    if (primitive != NULL) dnnl_primitive_destroy(primitive);
    return status;
}

/* Brings the weights from `from`, laid out as `given`, into the layout `wanted`, in memory of the session. */
static int reorder_weights(session *s, const void *from, layout_view given, layout_view wanted, limn_error *error) {
    s->weights_size = dnnl_memory_desc_get_size(wanted);
    s->weights = take_memory(s->weights_size, error);
    if (s->weights == NULL) return -1;
    dnnl_memory_t source = NULL;
    dnnl_primitive_desc_t described = NULL;
    /* The library takes no const pointer, but only reads. */
    int status = check(dnnl_memory_create(&source, given, s->engine, (void *)(uintptr_t)from), "read weights", error);
    if (status == 0)
        status = check(dnnl_memory_create(&s->weights_memory, wanted, s->engine, s->weights), "hold weights", error);
    if (status == 0)
        status = check(dnnl_reorder_primitive_desc_create(&described, given, s->engine, wanted, s->engine, NULL),
                       "reorder weights", error);
    if (status == 0) {
        const dnnl_exec_arg_t arguments[] = {{DNNL_ARG_FROM, source}, {DNNL_ARG_TO, s->weights_memory}};
        status = run_once(s, described, arguments, 2, error);
    }
    if (described != NULL) dnnl_primitive_desc_destroy(described);
    if (source != NULL) dnnl_memory_destroy(source);
    return status;
}

/* Fills what could not be computed with NaN, so that it cannot pass for a result, and says why. */
static void report_failure(float *out, size_t ldout, size_t rows, size_t columns, const char *why) {
    limn_log(LIMN_LOG_ERROR, "%s", why);
    for (size_t n = 0; n < rows; n++)
        for (size_t i = 0; i < columns; i++) out[n * ldout + i] = NAN;
}

/* ---------------------------------------------------------------- conversions */

/* A float's bits in an order that integers share, so that the extremes are found in whole registers; NaN is an extreme. */
LIMN_INLINE int32_t ordered_bits(float value) {
    int32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits ^ (bits >> 31 & 0x7fffffff);
}

LIMN_INLINE float from_ordered_bits(int32_t bits) {
    float value;
    bits ^= bits >> 31 & 0x7fffffff;
    memcpy(&value, &bits, sizeof value);
    return value;
}

typedef struct {
    float scale;
    int32_t zero; /* the number that stands for 0 */
} quantisation;

/* in[c] ≈ scale·(out[c] − zero): from the row's least number (or 0) to its greatest (or 0) in 255 steps. A row with a number
 * that is not finite gets a NaN for its scale. */
LIMN_CLONES static quantisation quantise_row(uint8_t *restrict out, const float *restrict in, size_t C) {
    int32_t low_bits = 0, high_bits = 0;
    for (size_t c = 0; c < C; c++) {
        const int32_t bits = ordered_bits(in[c]);
        low_bits = bits < low_bits ? bits : low_bits;
        high_bits = bits > high_bits ? bits : high_bits;
    }
    const float low = from_ordered_bits(low_bits), high = from_ordered_bits(high_bits);
    const float scale = high / 255 - low / 255;
    if (!isfinite(scale) || scale < 1e-35f) {
        memset(out, 0, C);
        return (quantisation){isfinite(scale) ? 0.0f : NAN, 0};
    }
    const float inverse = 1 / scale;
    const int32_t zero = (int32_t)(0.5f - low * inverse);
    /* Never negative, so that cutting off rounds; at most 255.9. */
    const float offset = (float)zero + 0.5f;
    for (size_t c = 0; c < C; c++) {
        const int32_t step = (int32_t)(in[c] * inverse + offset);
        out[c] = (uint8_t)(step > 255 ? 255 : step < 0 ? 0 : step);
    }
    return (quantisation){scale, zero};
}

/* in[c] ≈ scale·out[c]; *sum is that of out. */
static float quantise_weights(int8_t *out, int32_t *sum, const float *in, size_t C) {
    float largest = 0;
    for (size_t c = 0; c < C; c++) largest = fmaxf(largest, isnan(in[c]) ? INFINITY : fabsf(in[c]));
    *sum = 0;
    memset(out, 0, C);
    if (!isfinite(largest)) return NAN;
    const float scale = largest / 127;
    if (scale < 1e-35f) return 0;
    for (size_t c = 0; c < C; c++) {
        const float steps = roundf(in[c] / scale);
        out[c] = (int8_t)(steps > 127 ? 127 : steps < -127 ? -127 : steps);
        *sum += out[c];
    }
    return scale;
}

LIMN_CLONES static void dequantise_row(float *restrict out, const int32_t *restrict product, quantisation row,
                                       const float *restrict scales, const int32_t *restrict sums, const float *restrict bias,
                                       size_t OC) {
    if (bias == NULL)
        for (size_t o = 0; o < OC; o++) out[o] = (float)(product[o] - row.zero * sums[o]) * (row.scale * scales[o]);
    else
        for (size_t o = 0; o < OC; o++) out[o] = (float)(product[o] - row.zero * sums[o]) * (row.scale * scales[o]) + bias[o];
}

LIMN_CLONES static void copy_row(float *out, const float *product, const float *restrict bias, size_t OC) {
    if (bias == NULL)
        memcpy(out, product, OC * sizeof *out);
    else
        for (size_t o = 0; o < OC; o++) out[o] = product[o] + bias[o];
}

/* ---------------------------------------------------------------- products */

/* What a product of N rows needs. */
typedef struct {
    size_t N;
    uint64_t last_use;
    dnnl_primitive_t primitive;
    dnnl_memory_t in, product, scratchpad;
    /* where in the scratch these begin: inputs converted or without gaps, how each row was quantised, products not in their
     * final place, the library's own */
    size_t rows_at, product_at, scratchpad_at, end;
} product_shape;

struct onednn_linear {
    session session;
    size_t OC, C;
    nn_precision precision;
    float *scales; /* INT8: (OC), and (OC) sums of the integers */
    int32_t *sums;
    size_t count;
    uint64_t uses;
    product_shape shapes[ONEDNN_SHAPES];
    char *scratch;
    size_t scratch_size;
};

/* The description of a product of N rows with weights laid out as `weights` says, or as the library likes when NULL. */
static int describe_rows(const onednn_linear *self, size_t N, layout_view weights, layout *in, layout *product,
                         dnnl_primitive_desc_t *out, limn_error *error) {
    const session *s = &self->session;
    const dnnl_dims_t in_dims = {(dnnl_dim_t)N, (dnnl_dim_t)self->C}, product_dims = {(dnnl_dim_t)N, (dnnl_dim_t)self->OC};
    const dnnl_dims_t weight_dims = {(dnnl_dim_t)self->C, (dnnl_dim_t)self->OC};
    layout any = {0};
    dnnl_primitive_attr_t attributes = NULL;
    int status = check(layout_make(in, 2, in_dims, s->in_type, dnnl_ab), "lay out inputs", error);
    if (status == 0) status = check(layout_make(product, 2, product_dims, s->product_type, dnnl_ab), "lay out outputs", error);
    if (status == 0)
        status = check(layout_make(&any, 2, weight_dims, s->weight_type, dnnl_format_tag_any), "lay out weights", error);
    if (status == 0) status = make_attributes(&attributes, false, error);
    if (status == 0)
        status =
            check(describe_product(out, s->engine, view(in), weights != NULL ? weights : view(&any), view(product), attributes),
                  "multiply", error);
    if (attributes != NULL) dnnl_primitive_attr_destroy(attributes);
    layout_free(&any);
    if (status != 0)
        limn_fail_context(error, "product of %zu × %zu × %zu in %s", N, self->OC, self->C, nn_precision_name(self->precision));
    return status;
}

static layout_view layout_of(dnnl_memory_t memory) {
    layout_view held = NULL;
    return dnnl_memory_get_memory_desc(memory, &held) == dnnl_success ? held : NULL;
}

static void shape_free(product_shape *shape) {
    if (shape->primitive != NULL) dnnl_primitive_destroy(shape->primitive);
    if (shape->in != NULL) dnnl_memory_destroy(shape->in);
    if (shape->product != NULL) dnnl_memory_destroy(shape->product);
    if (shape->scratchpad != NULL) dnnl_memory_destroy(shape->scratchpad);
    *shape = (product_shape){0};
}

/* *out_end = at + count·size, at a multiple of 64. */
static int reserve(size_t at, size_t count, size_t size, size_t *out_end, limn_error *error) {
    if (limn_multiply(count, size, &size, error) != 0) return -1;
    if (size > SIZE_MAX / 4 - at) return limn_fail(error, "%zu bytes are more than this machine can address", size);
    *out_end = (at + size + 63) / 64 * 64;
    return 0;
}

static int shape_create(onednn_linear *self, size_t N, product_shape *shape, limn_error *error) {
    session *s = &self->session;
    const size_t element = self->precision == PRECISION_FP32 ? sizeof(float) : self->precision == PRECISION_BF16 ? 2 : 1;
    size_t inputs, products;
    shape->N = N;
    if (N > INT32_MAX || limn_multiply(N, self->C, &inputs, error) != 0 || limn_multiply(N, self->OC, &products, error) != 0)
        return limn_fail(error, "%zu rows are more than oneDNN multiplies", N);
    if (reserve(0, inputs, element, &shape->rows_at, error) != 0 ||
        reserve(shape->rows_at, N, sizeof(quantisation), &shape->product_at, error) != 0 ||
        reserve(shape->product_at, products, sizeof(float), &shape->scratchpad_at, error) != 0)
        return -1;
    layout in = {0}, product = {0};
    dnnl_primitive_desc_t described = NULL;
    int status = describe_rows(self, N, layout_of(s->weights_memory), &in, &product, &described, error);
    if (status == 0) status = make_primitive(&shape->primitive, described, error);
    if (status == 0) {
        layout_view scratchpad = dnnl_primitive_desc_query_md(described, dnnl_query_scratchpad_md, 0);
        status = reserve(shape->scratchpad_at, dnnl_memory_desc_get_size(scratchpad), 1, &shape->end, error);
        if (status == 0)
            status =
                check(dnnl_memory_create(&shape->scratchpad, scratchpad, s->engine, DNNL_MEMORY_NONE), "hold scratch", error);
    }
    if (status == 0)
        status = check(dnnl_memory_create(&shape->in, view(&in), s->engine, DNNL_MEMORY_NONE), "hold inputs", error);
    if (status == 0)
        status = check(dnnl_memory_create(&shape->product, view(&product), s->engine, DNNL_MEMORY_NONE), "hold outputs", error);
    if (status == 0 && shape->end > self->scratch_size) {
        char *scratch = take_memory(shape->end, error);
        if (scratch == NULL)
            status = -1;
        else {
            free(self->scratch);
            self->scratch = scratch;
            self->scratch_size = shape->end;
        }
    }
    if (described != NULL) dnnl_primitive_desc_destroy(described);
    layout_free(&in);
    layout_free(&product);
    return status;
}

static product_shape *find_shape(onednn_linear *self, size_t N) {
    for (size_t i = 0; i < self->count; i++)
        if (self->shapes[i].N == N) {
            self->shapes[i].last_use = ++self->uses;
            return &self->shapes[i];
        }
    return NULL;
}

int onednn_linear_prepare(onednn_linear *self, size_t N, limn_error *error) {
    if (N == 0 || find_shape(self, N) != NULL) return 0;
    product_shape made = {0};
    if (shape_create(self, N, &made, error) != 0) {
        shape_free(&made);
        return -1;
    }
    made.last_use = ++self->uses;
    size_t place = 0;
    if (self->count < ONEDNN_SHAPES)
        place = self->count++;
    else
        for (size_t i = 1; i < ONEDNN_SHAPES; i++)
            if (self->shapes[i].last_use < self->shapes[place].last_use) place = i;
    shape_free(&self->shapes[place]);
    self->shapes[place] = made;
    return 0;
}

static int pack_integers(onednn_linear *self, const float *weight, layout_view given, layout_view wanted, limn_error *error) {
    const size_t OC = self->OC, C = self->C;
    self->scales = limn_allocate(OC, sizeof *self->scales, error);
    self->sums = limn_allocate(OC, sizeof *self->sums, error);
    int8_t *integers = limn_allocate(OC * C, sizeof *integers, error);
    int status = -1;
    if (self->scales != NULL && self->sums != NULL && integers != NULL) {
#pragma omp parallel for schedule(static)
        for (size_t o = 0; o < OC; o++) self->scales[o] = quantise_weights(integers + o * C, &self->sums[o], weight + o * C, C);
        status = reorder_weights(&self->session, integers, given, wanted, error);
    }
    free(integers);
    return status;
}

static int pack_weights(onednn_linear *self, const float *weight, limn_error *error) {
    /* The library's layout is the same for every number of rows; it is asked for as many as nine guided drawings have. */
    const size_t typical_rows = 18;
    const bool integers = self->precision == PRECISION_INT8;
    const dnnl_dims_t dims = {(dnnl_dim_t)self->C, (dnnl_dim_t)self->OC};
    layout in = {0}, product = {0}, given = {0};
    dnnl_primitive_desc_t described = NULL;
    int status = describe_rows(self, typical_rows, NULL, &in, &product, &described, error);
    if (status == 0)
        status = check(layout_make(&given, 2, dims, integers ? dnnl_s8 : dnnl_f32, dnnl_ba), "read weights", error);
    if (status == 0) {
        layout_view wanted = dnnl_primitive_desc_query_md(described, dnnl_query_weights_md, 0);
        status = integers ? pack_integers(self, weight, view(&given), wanted, error)
                          : reorder_weights(&self->session, weight, view(&given), wanted, error);
    }
    if (described != NULL) dnnl_primitive_desc_destroy(described);
    layout_free(&in);
    layout_free(&product);
    layout_free(&given);
    return status;
}

onednn_linear *onednn_linear_create(const float *weight, size_t OC, size_t C, nn_precision precision, limn_error *error) {
    const size_t most_terms = 65536; /* of 255·127 that an int32 sums */
    if (OC == 0 || C == 0 || OC > INT32_MAX || C > INT32_MAX || (precision == PRECISION_INT8 && C > most_terms)) {
        limn_fail(error, "oneDNN cannot multiply by a %zu × %zu matrix in %s", OC, C, nn_precision_name(precision));
        return NULL;
    }
    onednn_linear *self = limn_allocate(1, sizeof *self, error);
    if (self == NULL) return NULL;
    self->OC = OC;
    self->C = C;
    self->precision = precision;
    if (session_open(&self->session, precision, error) != 0 || pack_weights(self, weight, error) != 0) {
        onednn_linear_free(self);
        return NULL;
    }
    return self;
}

/* Converting fewer numbers takes a few microseconds. On a busy machine a parallel region more, at each product of a decoder,
 * costs milliseconds. */
enum { WORTH_THREADS = 8 * LIMN_PIECE };

/* The input as the primitive takes it. */
static const void *convert_rows(const onednn_linear *self, const product_shape *shape, const float *in, size_t ldin) {
    const size_t N = shape->N, C = self->C;
    if (self->precision == PRECISION_FP32 && ldin == C) return in;
    void *converted = self->scratch;
    quantisation *rows = (quantisation *)(void *)(self->scratch + shape->rows_at);
#pragma omp parallel for schedule(static) if (N * C > WORTH_THREADS)
    for (size_t n = 0; n < N; n++) switch (self->precision) {
        case PRECISION_FP32:
            memcpy((float *)converted + n * C, in + n * ldin, C * sizeof *in);
            break;
        case PRECISION_BF16:
            round_to_bf16((uint16_t *)converted + n * C, in + n * ldin, C);
            break;
        case PRECISION_INT8:
            rows[n] = quantise_row((uint8_t *)converted + n * C, in + n * ldin, C);
            break;
        }
    return converted;
}

/* What is left to do with the products: their place, scales and bias. */
static void finish_rows(const onednn_linear *self, const product_shape *shape, float *out, size_t ldout, const void *products,
                        const float *bias) {
    const size_t N = shape->N, OC = self->OC;
    if (products == out && bias == NULL) return;
    const quantisation *rows = (const quantisation *)(const void *)(self->scratch + shape->rows_at);
#pragma omp parallel for schedule(static) if (N * OC > WORTH_THREADS)
    for (size_t n = 0; n < N; n++)
        if (self->precision == PRECISION_INT8)
            dequantise_row(out + n * ldout, (const int32_t *)products + n * OC, rows[n], self->scales, self->sums, bias, OC);
        else
            copy_row(out + n * ldout, (const float *)products + n * OC, bias, OC);
}

static dnnl_status_t run_product(onednn_linear *self, const product_shape *shape, const void *in, void *products) {
    /* The library takes no const pointer, but only reads. */
    dnnl_status_t status = dnnl_memory_set_data_handle(shape->in, (void *)(uintptr_t)in);
    if (status == dnnl_success) status = dnnl_memory_set_data_handle(shape->product, products);
    if (status == dnnl_success) status = dnnl_memory_set_data_handle(shape->scratchpad, self->scratch + shape->scratchpad_at);
    if (status != dnnl_success) return status;
    const dnnl_exec_arg_t arguments[] = {{DNNL_ARG_SRC, shape->in},
                                         {DNNL_ARG_WEIGHTS, self->session.weights_memory},
                                         {DNNL_ARG_DST, shape->product},
                                         {DNNL_ARG_SCRATCHPAD, shape->scratchpad}};
    status = dnnl_primitive_execute(shape->primitive, self->session.stream, 4, arguments);
    return status == dnnl_success ? dnnl_stream_wait(self->session.stream) : status;
}

void onednn_linear_forward(onednn_linear *self, float *out, size_t ldout, const float *in, size_t ldin, const float *bias,
                           size_t N) {
    if (N == 0) return;
    limn_error error = {0};
    const product_shape *shape = find_shape(self, N);
    if (shape == NULL && onednn_linear_prepare(self, N, &error) == 0) shape = find_shape(self, N);
    if (shape != NULL) {
        const bool in_place = self->precision != PRECISION_INT8 && ldout == self->OC;
        void *products = in_place ? (void *)out : self->scratch + shape->product_at;
        const void *converted = convert_rows(self, shape, in, ldin);
        if (check(run_product(self, shape, converted, products), "multiply", &error) == 0) {
            finish_rows(self, shape, out, ldout, products, bias);
            return;
        }
    }
    report_failure(out, ldout, N, self->OC, error.message);
}

size_t onednn_linear_bytes(const onednn_linear *self) {
    return sizeof *self + self->session.weights_size + self->scratch_size +
           (self->scales != NULL ? self->OC * (sizeof *self->scales + sizeof *self->sums) : 0);
}

void onednn_linear_free(onednn_linear *self) {
    if (self == NULL) return;
    for (size_t i = 0; i < self->count; i++) shape_free(&self->shapes[i]);
    session_close(&self->session);
    free(self->scales);
    free(self->sums);
    free(self->scratch);
    free(self);
}

/* ---------------------------------------------------------------- convolutions */

struct onednn_convolution {
    session session;
    convolution_shape shape;
    size_t in_size, out_size;       /* floats */
    dnnl_primitive_t primitives[2]; /* one that writes, one that adds */
    dnnl_memory_t in, out, bias, scratchpads[2];
    float *bias_values;
    uint16_t *converted; /* the input in bf16 */
    char *scratch;
    size_t scratch_size;
};

/* Channels-last, as (B, channels, rows, columns), the order in which the library names axes. */
static int picture_layout(layout *out, size_t B, size_t channels, size_t Y, size_t X, dnnl_data_type_t type,
                          limn_error *error) {
    const dnnl_dims_t dims = {(dnnl_dim_t)B, (dnnl_dim_t)channels, (dnnl_dim_t)Y, (dnnl_dim_t)X};
    return check(layout_make(out, 4, dims, type, dnnl_acdb), "lay out a picture", error);
}

typedef struct {
    layout in, out, bias, given, any; /* given and any are the weights' */
} convolution_layouts;

static int make_layouts(const onednn_convolution *self, convolution_layouts *l, limn_error *error) {
    const convolution_shape *shape = &self->shape;
    const session *s = &self->session;
    const size_t rows = convolution_out_rows(shape), columns = convolution_out_columns(shape);
    const dnnl_dim_t kernel = (dnnl_dim_t)shape->kernel;
    const dnnl_dims_t weight_dims = {(dnnl_dim_t)shape->O, (dnnl_dim_t)shape->C, kernel, kernel};
    const dnnl_dims_t bias_dims = {(dnnl_dim_t)shape->O};
    if (picture_layout(&l->in, shape->B, shape->C, shape->Y, shape->X, s->in_type, error) != 0 ||
        picture_layout(&l->out, shape->B, shape->O, rows, columns, dnnl_f32, error) != 0)
        return -1;
    if (check(layout_make(&l->bias, 1, bias_dims, dnnl_f32, dnnl_a), "lay out a bias", error) != 0) return -1;
    if (check(layout_make(&l->given, 4, weight_dims, dnnl_f32, dnnl_acdb), "read weights", error) != 0) return -1;
    return check(layout_make(&l->any, 4, weight_dims, s->weight_type, dnnl_format_tag_any), "lay out weights", error);
}

/* Describes and makes the primitive that writes (0) or adds (1) its sums. The first one's choice of a layout for the weights
 * holds for the second. */
static int make_variant(onednn_convolution *self, size_t adding, const convolution_layouts *l, const float *weight,
                        limn_error *error) {
    const convolution_shape *shape = &self->shape;
    session *s = &self->session;
    const dnnl_dim_t stride = (dnnl_dim_t)shape->stride;
    const dnnl_dims_t strides = {stride, stride}, before = {(dnnl_dim_t)shape->pad_top, (dnnl_dim_t)shape->pad_left};
    const dnnl_dims_t after = {(dnnl_dim_t)shape->pad_bottom, (dnnl_dim_t)shape->pad_right};
    dnnl_primitive_attr_t attributes = NULL;
    dnnl_primitive_desc_t described = NULL;
    int status = make_attributes(&attributes, adding, error);
    if (status == 0)
        status = check(describe_convolution(&described, s->engine, view(&l->in),
                                            adding ? layout_of(s->weights_memory) : view(&l->any), view(&l->bias),
                                            view(&l->out), strides, before, after, attributes),
                       "convolve", error);
    if (status == 0 && !adding)
        status = reorder_weights(s, weight, view(&l->given), dnnl_primitive_desc_query_md(described, dnnl_query_weights_md, 0),
                                 error);
    if (status == 0) status = make_primitive(&self->primitives[adding], described, error);
    if (status == 0) {
        layout_view scratchpad = dnnl_primitive_desc_query_md(described, dnnl_query_scratchpad_md, 0);
        const size_t size = dnnl_memory_desc_get_size(scratchpad);
        if (size > self->scratch_size) self->scratch_size = size;
        status = check(dnnl_memory_create(&self->scratchpads[adding], scratchpad, s->engine, DNNL_MEMORY_NONE), "hold scratch",
                       error);
    }
    if (described != NULL) dnnl_primitive_desc_destroy(described);
    if (attributes != NULL) dnnl_primitive_attr_destroy(attributes);
    return status;
}

static int make_convolution(onednn_convolution *self, const float *weight, const float *bias, const convolution_layouts *l,
                            limn_error *error) {
    session *s = &self->session;
    const size_t O = self->shape.O;
    for (size_t adding = 0; adding < 2; adding++)
        if (make_variant(self, adding, l, weight, error) != 0) return -1;
    self->bias_values = limn_allocate(O, sizeof *self->bias_values, error);
    if (self->bias_values == NULL) return -1;
    if (bias != NULL) memcpy(self->bias_values, bias, O * sizeof *bias);
    if (s->in_type == dnnl_bf16) {
        self->converted = take_memory(self->in_size * sizeof *self->converted, error);
        if (self->converted == NULL) return -1;
    }
    self->scratch = take_memory(self->scratch_size + 1, error);
    if (self->scratch == NULL) return -1;
    if (check(dnnl_memory_create(&self->in, view(&l->in), s->engine, self->converted), "hold inputs", error) != 0 ||
        check(dnnl_memory_create(&self->out, view(&l->out), s->engine, DNNL_MEMORY_NONE), "hold outputs", error) != 0 ||
        check(dnnl_memory_create(&self->bias, view(&l->bias), s->engine, self->bias_values), "hold a bias", error) != 0)
        return -1;
    for (size_t i = 0; i < 2; i++)
        if (check(dnnl_memory_set_data_handle(self->scratchpads[i], self->scratch), "use our scratch", error) != 0) return -1;
    return 0;
}

onednn_convolution *onednn_convolution_create(const float *weight, const float *bias, const convolution_shape *shape,
                                              nn_precision precision, limn_error *error) {
    if (precision == PRECISION_INT8) {
        limn_fail(error, "convolutions are done in fp32 or bf16, not in int8");
        return NULL;
    }
    onednn_convolution *self = limn_allocate(1, sizeof *self, error);
    if (self == NULL) return NULL;
    self->shape = *shape;
    self->in_size = shape->B * shape->Y * shape->X * shape->C;
    self->out_size = shape->B * convolution_out_rows(shape) * convolution_out_columns(shape) * shape->O;
    convolution_layouts layouts = {0};
    int status = session_open(&self->session, precision, error);
    if (status == 0) {
        status = make_layouts(self, &layouts, error);
        if (status == 0) status = make_convolution(self, weight, bias, &layouts, error);
        if (status != 0)
            limn_fail_context(error, "convolution %zu × %zu of %zu × %zu × %zu × %zu to %zu channels in %s", shape->kernel,
                              shape->kernel, shape->B, shape->Y, shape->X, shape->C, shape->O, nn_precision_name(precision));
    }
    layout *const all[] = {&layouts.in, &layouts.out, &layouts.bias, &layouts.given, &layouts.any};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) layout_free(all[i]);
    if (status == 0) return self;
    onednn_convolution_free(self);
    return NULL;
}

static dnnl_status_t run_convolution(onednn_convolution *self, float *out, const float *in, bool adding) {
    dnnl_status_t status = dnnl_success;
    /* The library takes no const pointer, but only reads. */
    if (self->converted == NULL) status = dnnl_memory_set_data_handle(self->in, (void *)(uintptr_t)in);
    if (status == dnnl_success) status = dnnl_memory_set_data_handle(self->out, out);
    if (status != dnnl_success) return status;
    const dnnl_exec_arg_t arguments[] = {{DNNL_ARG_SRC, self->in},
                                         {DNNL_ARG_WEIGHTS, self->session.weights_memory},
                                         {DNNL_ARG_BIAS, self->bias},
                                         {DNNL_ARG_DST, self->out},
                                         {DNNL_ARG_SCRATCHPAD, self->scratchpads[adding]}};
    status = dnnl_primitive_execute(self->primitives[adding], self->session.stream, 5, arguments);
    return status == dnnl_success ? dnnl_stream_wait(self->session.stream) : status;
}

void onednn_convolution_forward(onednn_convolution *self, float *out, const float *in, const float *residual) {
    limn_error error = {0};
    if (self->converted != NULL) {
        const size_t n = self->in_size;
        LIMN_FOR_PIECES(start, n) round_to_bf16(self->converted + start, in + start, piece_length(start, n));
    }
    if (residual != NULL && residual != out) {
        const size_t n = self->out_size;
        LIMN_FOR_PIECES(start, n) memcpy(out + start, residual + start, piece_length(start, n) * sizeof *out);
    }
    if (check(run_convolution(self, out, in, residual != NULL), "convolve", &error) != 0)
        report_failure(out, self->out_size, 1, self->out_size, error.message);
}

size_t onednn_convolution_bytes(const onednn_convolution *self) {
    return sizeof *self + self->session.weights_size + self->shape.O * sizeof *self->bias_values + self->scratch_size +
           (self->converted != NULL ? self->in_size * sizeof *self->converted : 0);
}

void onednn_convolution_free(onednn_convolution *self) {
    if (self == NULL) return;
    for (size_t i = 0; i < 2; i++) {
        if (self->primitives[i] != NULL) dnnl_primitive_destroy(self->primitives[i]);
        if (self->scratchpads[i] != NULL) dnnl_memory_destroy(self->scratchpads[i]);
    }
    const dnnl_memory_t memories[] = {self->in, self->out, self->bias};
    for (size_t i = 0; i < sizeof memories / sizeof *memories; i++)
        if (memories[i] != NULL) dnnl_memory_destroy(memories[i]);
    session_close(&self->session);
    free(self->bias_values);
    free(self->converted);
    free(self->scratch);
    free(self);
}

#endif
