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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_attention),           cmocka_unit_test(causal_attention),
        cmocka_unit_test(several_blocks_of_queries), cmocka_unit_test(masked_keys),
        cmocka_unit_test(dropped_weights),           cmocka_unit_test(sinkhorn),
        cmocka_unit_test(rows_inside_longer_ones),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
