#include "gradient_check.h"

#include <omp.h>

/* One case: shapes, and all inputs in both precisions. q, k and v lie as the thirds of one packed row when `packed`. */
typedef struct {
    attention_shape shape;
    twin q, k, v, bias, dout;
    const float *dropped; /* (T,S): what the dropout multiplies by, or NULL */
    double *weights, *out;
} attention;

static size_t stride(size_t given, const attention_shape *s) {
    return given != 0 ? given : s->H * s->D;
}

static bool visible(const attention_shape *s, size_t b, size_t t, size_t key) {
    return (!s->causal || key <= t) && (s->key_mask == NULL || s->key_mask[b * s->S + key] != 0);
}

/* logsumexp of n numbers that are `step` apart */
static double log_sum(const double *x, size_t n, size_t step) {
    double largest = -INFINITY, sum = 0;
    for (size_t i = 0; i < n; i++) largest = fmax(largest, x[i * step]);
    if (largest == -INFINITY) return -INFINITY;
    for (size_t i = 0; i < n; i++) sum += exp(x[i * step] - largest);
    return largest + log(sum);
}

static void naive(attention *a) {
    const attention_shape *s = &a->shape;
    size_t T = s->T, S = s->S;
    double *map = a->weights;
    for (size_t b = 0; b < s->B; b++)
        for (size_t h = 0; h < s->H; h++) {
            for (size_t t = 0; t < T; t++)
                for (size_t j = 0; j < S; j++) {
                    const double *q = a->q.d + (b * T + t) * stride(s->query_stride, s) + h * s->D;
                    const double *k = a->k.d + (b * S + j) * stride(s->key_stride, s) + h * s->D;
                    double sum = 0;
                    for (size_t d = 0; d < s->D; d++) sum += q[d] * k[d];
                    map[t * S + j] = sum * (double)s->scale + (s->bias != NULL ? a->bias.d[(h * T + t) * S + j] : 0);
                    if (!visible(s, b, t, j)) map[t * S + j] = -INFINITY;
                }
            size_t iterations = s->sinkhorn_iterations > 1 ? s->sinkhorn_iterations : 1;
            for (size_t i = 0; i < iterations; i++) {
                bool over_keys = i % 2 == 0;
                for (size_t line = 0; line < (over_keys ? T : S); line++) {
                    double *x = over_keys ? map + line * S : map + line;
                    size_t count = over_keys ? S : T, step = over_keys ? 1 : S;
                    double total = log_sum(x, count, step);
                    if (total == -INFINITY) continue;
                    for (size_t c = 0; c < count; c++) x[c * step] -= total;
                }
            }
            for (size_t i = 0; i < T * S; i++) map[i] = exp(map[i]) * (a->dropped != NULL ? (double)a->dropped[i] : 1);
            for (size_t t = 0; t < T; t++)
                for (size_t d = 0; d < s->D; d++) {
                    double sum = 0;
                    for (size_t j = 0; j < S; j++)
                        sum += map[t * S + j] * a->v.d[(b * S + j) * stride(s->value_stride, s) + h * s->D + d];
                    a->out[(b * T + t) * stride(s->out_stride, s) + h * s->D + d] = sum;
                }
        }
}

static double loss(void *context) {
    attention *a = context;
    naive(a);
    return weighted_sum(a->out, a->dout.d, a->dout.n);
}

static float *copy_of(const float *source, size_t n) {
    float *out = floats_filled(n, 0);
    memcpy(out, source, n * sizeof(float));
    return out;
}

static void check(attention_shape shape) {
    attention a = {.shape = shape};
    const attention_shape *s = &a.shape;
    size_t width = s->H * s->D;
    size_t qn = s->B * s->T * stride(s->query_stride, s), kn = s->B * s->S * stride(s->key_stride, s);
    size_t vn = s->B * s->S * stride(s->value_stride, s), outn = s->B * s->T * stride(s->out_stride, s);
    a.q = twin_random(qn, 0, 1, "q");
    a.k = twin_random(kn, 0, 1, "k");
    a.v = twin_random(vn, 0, 1, "v");
    a.dout = twin_random(outn, 0, 1, "dout");
    /* What lies between the rows is not the attention's: nothing there counts in the loss. */
    for (size_t i = 0; i < outn; i++)
        if (i % stride(s->out_stride, s) >= width) a.dout.d[i] = 0;
    a.bias = twin_random(s->H * s->T * s->S, 0, 1, "bias");
    bool with_bias = shape.bias != NULL;
    if (with_bias) a.shape.bias = a.bias.f;
    a.weights = doubles_zeroed(s->T * s->S);
    a.out = doubles_zeroed(outn);
    float *dropped = floats_filled(s->T * s->S, 1.0f);
    if (s->dropout > 0) {
        dropout_forward(dropped, dropped, s->dropout, s->seed, s->stream, 0, s->T * s->S);
        a.dropped = dropped;
    }

    limn_error error = {0};
    limn_arena *arena = limn_arena_create((size_t)1 << 30, &error);
    assert_non_null(arena);
    float *out = floats_filled(outn, 0);
    float *dq = floats_filled(qn, 0), *dk = floats_filled(kn, 0), *dv = floats_filled(vn, 0);
    float *dbias = floats_filled(a.bias.n, 0);
    /* What must be written, and only that. */
    for (size_t i = 0; i < outn; i++) out[i] = i % stride(s->out_stride, s) < width ? NAN : 0;
    for (size_t i = 0; i < qn; i++) dq[i] = i % stride(s->query_stride, s) < width ? NAN : 0;
    for (size_t i = 0; i < kn; i++) dk[i] = i % stride(s->key_stride, s) < width ? NAN : 0;
    for (size_t i = 0; i < vn; i++) dv[i] = i % stride(s->value_stride, s) < width ? NAN : 0;

    const numbers q = numbers_f32(a.q.f), k = numbers_f32(a.k.f), v = numbers_f32(a.v.f), d = numbers_f32(a.dout.f);
    attention_forward(numbers_f32(out), q, k, v, s, arena);
    assert_int_equal(limn_arena_mark(arena), 0);
    naive(&a);
    check_close("out", out, a.out, outn, 5e-6);
    attention_backward(numbers_f32(dq), numbers_f32(dk), numbers_f32(dv), with_bias ? dbias : NULL, d, q, k, v, s, arena);
    assert_int_equal(limn_arena_mark(arena), 0);
    check_gradient("dq", dq, a.q.d, qn, loss, &a, 3e-5);
    check_gradient("dk", dk, a.k.d, kn, loss, &a, 3e-5);
    check_gradient("dv", dv, a.v.d, vn, loss, &a, 3e-5);
    if (with_bias) check_gradient("dbias", dbias, a.bias.d, a.bias.n, loss, &a, 3e-5);

    /* With other threads, the same bits. */
    int before = omp_get_max_threads();
    float *first = copy_of(dk, kn), *first_out = copy_of(out, outn);
    for (int threads = 1; threads <= 3; threads++) {
        omp_set_num_threads(threads);
        attention_forward(numbers_f32(out), q, k, v, s, arena);
        assert_memory_equal(first_out, out, outn * sizeof(float));
        attention_backward(numbers_f32(dq), numbers_f32(dk), numbers_f32(dv), NULL, d, q, k, v, s, arena);
        assert_memory_equal(first, dk, kn * sizeof(float));
    }
    omp_set_num_threads(before);
    const numbers none = {NULL, NULL};
    attention_backward(none, none, none, NULL, d, q, k, v, s, arena);

    limn_arena_destroy(arena);
    twin_free(&a.q);
    twin_free(&a.k);
    twin_free(&a.v);
    twin_free(&a.bias);
    twin_free(&a.dout);
    free(a.weights);
    free(a.out);
    free(dropped);
    free(out);
    free(dq);
    free(dk);
    free(dv);
    free(dbias);
    free(first);
    free(first_out);
}

static const float wanted_bias[1]; /* its address says: with a bias */

static void plain_attention(void **state) {
    (void)state;
    check((attention_shape){.B = 2, .T = 7, .S = 11, .H = 3, .D = 5, .scale = 0.4f});
    check((attention_shape){.B = 1, .T = 1, .S = 9, .H = 2, .D = 4, .scale = 0.5f});
    check((attention_shape){.B = 2, .T = 7, .S = 11, .H = 3, .D = 5, .scale = 0.4f, .bias = wanted_bias});
}

static void causal_attention(void **state) {
    (void)state;
    check((attention_shape){.B = 2, .T = 9, .S = 9, .H = 2, .D = 4, .scale = 0.5f, .causal = true});
    check((attention_shape){.B = 2, .T = 9, .S = 9, .H = 2, .D = 4, .scale = 0.5f, .causal = true, .bias = wanted_bias});
    /* More keys than queries, and fewer. */
    check((attention_shape){.B = 1, .T = 5, .S = 12, .H = 2, .D = 4, .scale = 0.5f, .causal = true});
    check((attention_shape){.B = 1, .T = 12, .S = 5, .H = 2, .D = 4, .scale = 0.5f, .causal = true});
}

static void several_blocks_of_queries(void **state) {
    (void)state;
    check((attention_shape){.B = 1, .T = 150, .S = 40, .H = 1, .D = 3, .scale = 0.5f});
    check((attention_shape){.B = 1, .T = 150, .S = 150, .H = 1, .D = 3, .scale = 0.5f, .causal = true, .bias = wanted_bias});
}

static void masked_keys(void **state) {
    (void)state;
    /* The second picture's captions are of different lengths; nothing at all is seen in the third. */
    static const int32_t mask[3 * 8] = {1, 1, 1, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 0, 1};
    check((attention_shape){.B = 3, .T = 6, .S = 8, .H = 2, .D = 4, .scale = 0.5f, .key_mask = mask, .bias = wanted_bias});
    check((attention_shape){.B = 3, .T = 8, .S = 8, .H = 2, .D = 4, .scale = 0.5f, .key_mask = mask, .causal = true});
}

static void rows_inside_longer_ones(void **state) {
    (void)state;
    check((attention_shape){.B = 2,
                            .T = 6,
                            .S = 6,
                            .H = 2,
                            .D = 4,
                            .scale = 0.5f,
                            .causal = true,
                            .query_stride = 24,
                            .key_stride = 25,
                            .value_stride = 9,
                            .out_stride = 11});
}

static void dropped_weights(void **state) {
    (void)state;
    check((attention_shape){.B = 2, .T = 70, .S = 9, .H = 2, .D = 4, .scale = 0.5f, .dropout = 0.3f, .seed = 3, .stream = 4});
    check(
        (attention_shape){.B = 1, .T = 70, .S = 70, .H = 2, .D = 3, .scale = 0.5f, .causal = true, .dropout = 0.3f, .seed = 3});
    check((attention_shape){.B = 2, .T = 6, .S = 7, .H = 2, .D = 4, .scale = 0.5f, .sinkhorn_iterations = 3, .dropout = 0.3f});
}

static void sinkhorn(void **state) {
    (void)state;
    static const int32_t mask[2 * 7] = {1, 1, 0, 1, 1, 0, 0, 1, 1, 1, 1, 1, 1, 1};
    for (size_t iterations = 1; iterations <= 5; iterations++) {
        check((attention_shape){.B = 2, .T = 6, .S = 7, .H = 2, .D = 4, .scale = 0.5f, .sinkhorn_iterations = iterations});
        check((attention_shape){.B = 2,
                                .T = 6,
                                .S = 7,
                                .H = 2,
                                .D = 4,
                                .scale = 0.5f,
                                .sinkhorn_iterations = iterations,
                                .key_mask = mask,
                                .bias = wanted_bias});
    }
    check((attention_shape){.B = 1, .T = 70, .S = 8, .H = 1, .D = 3, .scale = 0.5f, .sinkhorn_iterations = 3});
}

/* ---------------------------------------------------------------- in bfloat16 */

static uint16_t *rounded_copy(const float *from, size_t n) {
    uint16_t *out = malloc(n * sizeof *out);
    round_to_bf16(out, from, n);
    return out;
}

static float *expanded_copy(const uint16_t *from, size_t n) {
    float *out = floats_filled(n, 0);
    expand_bf16(out, from, n);
    return out;
}

/* How far `got` is from `expected`, relative to its length; what lies between the rows must be as it was (1). */
static void check_rounded(const char *name, const uint16_t *got, const float *expected, size_t n, size_t row, size_t width) {
    double difference = 0, length = 0;
    for (size_t i = 0; i < n; i++) {
        const double value = (double)limn_bf16_to_float(got[i]);
        if (i % row >= width) {
            if (value != 1) fail_msg("%s: element %zu between the rows is written", name, i);
            continue;
        }
        difference += (value - (double)expected[i]) * (value - (double)expected[i]);
        length += (double)expected[i] * (double)expected[i];
    }
    if (!(sqrt(difference) <= 0.01 * sqrt(length))) fail_msg("%s: relative error %.3g", name, sqrt(difference / length));
}

typedef struct {
    float *qkv, *dout, *out, *dqkv, *dbias; /* qkv (B,T,3·H·D) */
    uint16_t *half_qkv, *half_dout, *half_out, *half_dqkv;
    float *half_dbias;
} rounded_case;

static void run_rounded(const attention_shape *s, rounded_case *c, limn_arena *arena) {
    const size_t C = s->H * s->D;
    const numbers qkv = {.bf16 = c->half_qkv}, out = {.bf16 = c->half_out}, dqkv = {.bf16 = c->half_dqkv};
    attention_forward(out, qkv, numbers_from(qkv, C), numbers_from(qkv, 2 * C), s, arena);
    attention_backward(dqkv, numbers_from(dqkv, C), numbers_from(dqkv, 2 * C), s->bias != NULL ? c->half_dbias : NULL,
                       (numbers){.bf16 = c->half_dout}, qkv, numbers_from(qkv, C), numbers_from(qkv, 2 * C), s, arena);
}

static size_t larger_scratch(const attention_shape *s) {
    const size_t half = attention_scratch_bytes(s, true), single = attention_scratch_bytes(s, false);
    return half > single ? half : single;
}

/* Queries, keys and values as the thirds of rows in bfloat16, against the same numbers in float32. */
static void check_half(attention_shape shape) {
    attention_shape *s = &shape;
    const size_t C = s->H * s->D, n = s->B * s->T * C, outs = s->B * s->T * (C + 7), maps = s->H * s->T * s->T;
    s->S = s->T;
    s->query_stride = s->key_stride = s->value_stride = 3 * C;
    s->out_stride = C + 7;
    twin random = twin_random(3 * n + outs, 0, 1, "rounded"), bias = twin_random(maps, 0, 1, "bias");
    if (s->bias != NULL) s->bias = bias.f;
    rounded_case c = {.half_qkv = rounded_copy(random.f, 3 * n), .half_dout = rounded_copy(random.f + 3 * n, outs)};
    c.qkv = expanded_copy(c.half_qkv, 3 * n);
    c.dout = expanded_copy(c.half_dout, outs);
    c.out = floats_filled(outs, 1);
    c.dqkv = floats_filled(3 * n, NAN);
    c.half_out = rounded_copy(c.out, outs);
    c.half_dqkv = rounded_copy(c.dqkv, 3 * n);
    c.dbias = floats_filled(maps, 0);
    c.half_dbias = floats_filled(maps, 0);
    limn_error error = {0};
    limn_arena *arena = limn_arena_create(larger_scratch(s), &error);
    assert_non_null(arena);
    const numbers q = numbers_f32(c.qkv), k = numbers_from(q, C), v = numbers_from(q, 2 * C), d = numbers_f32(c.dqkv);
    attention_forward(numbers_f32(c.out), q, k, v, s, arena);
    attention_backward(d, numbers_from(d, C), numbers_from(d, 2 * C), s->bias != NULL ? c.dbias : NULL, numbers_f32(c.dout), q,
                       k, v, s, arena);
    run_rounded(s, &c, arena);
    check_rounded("out in bf16", c.half_out, c.out, outs, C + 7, C);
    static const char *const names[] = {"dq in bf16", "dk in bf16", "dv in bf16"};
    for (size_t i = 0; i < 3; i++) {
        uint16_t *got = malloc(n * sizeof *got);
        float *expected = floats_filled(n, 0);
        for (size_t r = 0; r < s->B * s->T; r++) {
            memcpy(got + r * C, c.half_dqkv + (3 * r + i) * C, C * sizeof *got);
            memcpy(expected + r * C, c.dqkv + (3 * r + i) * C, C * sizeof *expected);
        }
        check_rounded(names[i], got, expected, n, C, C);
        free(got);
        free(expected);
    }
    if (s->bias != NULL) {
        double difference = 0, length = 0;
        for (size_t i = 0; i < maps; i++) {
            difference += pow((double)c.dbias[i] - (double)c.half_dbias[i], 2);
            length += pow((double)c.dbias[i], 2);
        }
        assert_true(sqrt(difference) <= 0.01 * sqrt(length));
    }
    limn_arena_destroy(arena);
    /* With other threads, the same bits. */
    const int before = omp_get_max_threads();
    uint16_t *first = malloc(3 * n * sizeof *first), *first_out = malloc(outs * sizeof *first_out);
    memcpy(first, c.half_dqkv, 3 * n * sizeof *first);
    memcpy(first_out, c.half_out, outs * sizeof *first_out);
    for (int threads = 1; threads <= 3; threads++) {
        omp_set_num_threads(threads);
        arena = limn_arena_create(attention_scratch_bytes(s, true), &error);
        assert_non_null(arena);
        run_rounded(s, &c, arena);
        assert_memory_equal(first, c.half_dqkv, 3 * n * sizeof *first);
        assert_memory_equal(first_out, c.half_out, outs * sizeof *first_out);
        limn_arena_destroy(arena);
    }
    omp_set_num_threads(before);
    twin_free(&random);
    twin_free(&bias);
    void *const all[] = {c.qkv,       c.dout,     c.out,       c.dqkv,       c.dbias, c.half_qkv,
                         c.half_dout, c.half_out, c.half_dqkv, c.half_dbias, first,   first_out};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}

static void check_half_shapes(void) {
    static const int32_t mask[2 * 77] = {1, 1, 0, 1, 1, [20] = 1, [76] = 1, [77] = 1, [90] = 1};
    check_half((attention_shape){.B = 2, .T = 77, .H = 3, .D = 64, .scale = 0.125f});
    check_half((attention_shape){.B = 2, .T = 77, .H = 3, .D = 20, .scale = 0.25f, .causal = true, .bias = wanted_bias});
    check_half((attention_shape){.B = 2, .T = 77, .H = 2, .D = 5, .scale = 0.4f, .key_mask = mask});
    check_half((attention_shape){.B = 1, .T = 150, .H = 2, .D = 33, .scale = 0.2f, .causal = true, .dropout = 0.3f, .seed = 3});
    check_half((attention_shape){.B = 1, .T = 130, .H = 2, .D = 40, .scale = 0.2f, .sinkhorn_iterations = 3});
    check_half((attention_shape){.B = 3, .T = 1, .H = 2, .D = 8, .scale = 0.4f});
    check_half((attention_shape){.B = 3, .T = 13, .H = 1, .D = 1, .scale = 1.0f});
}

static void bfloat16_rows(void **state) {
    (void)state;
    check_half_shapes();
}

static void bfloat16_rows_with_fewer_instructions(void **state) {
    (void)state;
    if (!packed_linear_choose_kernels("avx2")) skip();
    check_half_shapes();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_attention),
        cmocka_unit_test(causal_attention),
        cmocka_unit_test(several_blocks_of_queries),
        cmocka_unit_test(masked_keys),
        cmocka_unit_test(dropped_weights),
        cmocka_unit_test(sinkhorn),
        cmocka_unit_test(rows_inside_longer_ones),
        cmocka_unit_test(bfloat16_rows),
        cmocka_unit_test_teardown(bfloat16_rows_with_fewer_instructions, choose_best),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
