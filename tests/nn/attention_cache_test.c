/* Attention over kept keys and values against sums in double. */
#include "tests/nn/gradient_check.h"

typedef struct {
    size_t sequences, H, capacity, D, rows;
} cache_shape;

static const cache_shape shapes[] = {{3, 2, 40, 64, 3}, {2, 3, 17, 5, 4}, {1, 1, 1, 1, 1}, {2, 2, 33, 6, 2}, {2, 1, 64, 31, 5}};
static const nn_precision precisions[] = {PRECISION_FP32, PRECISION_BF16, PRECISION_INT8};
/* Of outputs of size one: rounding to 24, 8 and 7 bits, twice (keys, then values). */
static const double tolerances[] = {[PRECISION_FP32] = 2e-6, [PRECISION_BF16] = 0.05, [PRECISION_INT8] = 0.15};

typedef struct {
    const cache_shape *s;
    twin keys, values, q, bias; /* keys and values (sequences, capacity, H·D) */
    int32_t *mask;
    size_t *row_sequence;
} world;

static void naive(double *out, const world *w, size_t count, bool masked, bool biased, bool shared, double scale) {
    const cache_shape *s = w->s;
    for (size_t r = 0; r < s->rows; r++)
        for (size_t h = 0; h < s->H; h++) {
            size_t sequence = shared ? w->row_sequence[r] : r;
            double weights[64], largest = -INFINITY, sum = 0;
            for (size_t t = 0; t < count; t++) {
                const double *key = w->keys.d + ((sequence * s->capacity + t) * s->H + h) * s->D;
                weights[t] = biased ? w->bias.d[t * s->H + h] : 0;
                for (size_t d = 0; d < s->D; d++) weights[t] += scale * w->q.d[(r * s->H + h) * s->D + d] * key[d];
                if (masked && w->mask[sequence * s->capacity + t] == 0) weights[t] = -INFINITY;
                largest = fmax(largest, weights[t]);
            }
            for (size_t t = 0; t < count; t++) sum += weights[t] = largest > -INFINITY ? exp(weights[t] - largest) : 0;
            for (size_t d = 0; d < s->D; d++) {
                double mixed = 0;
                for (size_t t = 0; t < count && sum > 0; t++)
                    mixed += weights[t] / sum * w->values.d[((sequence * s->capacity + t) * s->H + h) * s->D + d];
                out[(r * s->H + h) * s->D + d] = mixed;
            }
        }
}

/* Positions come one by one, as new_keys where rows are their own sequences, else through attention_cache_store. */
static void check(const cache_shape *s, nn_precision precision, bool shared, bool masked, bool biased, limn_arena *arena) {
    const size_t width = s->H * s->D, count_all = s->sequences * s->capacity;
    const double scale = 1 / sqrt((double)s->D);
    world w = {
        .s = s, .keys = twin_random(count_all * width, 0, 1, "keys"), .values = twin_random(count_all * width, 0, 1, "values")};
    w.q = twin_random(s->rows * width, 0, 1, "q");
    w.bias = twin_random(s->capacity * s->H, 0, 1, "bias");
    w.mask = malloc(count_all * sizeof *w.mask);
    w.row_sequence = malloc(s->rows * sizeof *w.row_sequence);
    for (size_t i = 0; i < count_all; i++) w.mask[i] = i >= s->capacity && i % 3 != 1; /* the first sequence shows nothing */
    for (size_t r = 0; r < s->rows; r++) w.row_sequence[r] = (r * 5 + 1) % s->sequences;
    attention_cache cache = {s->sequences, s->H, s->capacity, s->D, precision, NULL};
    size_t bytes = attention_cache_bytes(&cache);
    cache.memory = aligned_alloc(64, (bytes + 63) / 64 * 64);
    memset(cache.memory, 0xff, bytes); /* NaN: what was there before may not count */
    double *expected = doubles_zeroed(s->rows * width);
    float *out = floats_filled(s->rows * width, NAN), *row = floats_filled(s->sequences * width, 0),
          *value = floats_filled(s->sequences * width, 0);
    for (size_t t = 0; t < s->capacity; t++) {
        for (size_t i = 0; i < s->sequences; i++) {
            memcpy(row + i * width, w.keys.f + (i * s->capacity + t) * width, width * sizeof(float));
            memcpy(value + i * width, w.values.f + (i * s->capacity + t) * width, width * sizeof(float));
        }
        if (shared) attention_cache_store(&cache, row, value, s->sequences, t, 1);
        const cached_attention how = {.rows = s->rows,
                                      .row_sequence = shared ? w.row_sequence : NULL,
                                      .count = t + 1,
                                      .new_keys = shared ? NULL : row,
                                      .new_values = shared ? NULL : value,
                                      .mask = masked ? w.mask : NULL,
                                      .bias = biased ? w.bias.f : NULL,
                                      .scale = (float)scale};
        attention_cache_attend(&cache, out, w.q.f, &how, arena);
        naive(expected, &w, t + 1, masked, biased, shared, scale);
        for (size_t i = 0; i < s->rows * width; i++)
            if (!(fabs((double)out[i] - expected[i]) <= tolerances[precision]))
                fail_msg("%s, %zu positions, D %zu: number %zu is %g, not %g", nn_precision_name(precision), t + 1, s->D, i,
                         (double)out[i], expected[i]);
    }
    /* stored at once, they are the same */
    memset(cache.memory, 0xff, bytes);
    attention_cache_store(&cache, w.keys.f, w.values.f, s->sequences, 0, s->capacity);
    const cached_attention how = {.rows = s->rows,
                                  .row_sequence = shared ? w.row_sequence : NULL,
                                  .count = s->capacity,
                                  .mask = masked ? w.mask : NULL,
                                  .bias = biased ? w.bias.f : NULL,
                                  .scale = (float)scale};
    float *again = floats_filled(s->rows * width, NAN);
    attention_cache_attend(&cache, again, w.q.f, &how, arena);
    assert_memory_equal(again, out, s->rows * width * sizeof(float));
    twin *twins[] = {&w.keys, &w.values, &w.q, &w.bias};
    for (size_t i = 0; i < 4; i++) twin_free(twins[i]);
    void *blocks[] = {w.mask, w.row_sequence, cache.memory, expected, out, row, value, again};
    for (size_t i = 0; i < 8; i++) free(blocks[i]);
}

static void test_attention(void **state) {
    (void)state;
    limn_arena *arena = limn_arena_create((size_t)1 << 30, NULL);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (size_t p = 0; p < 3; p++)
            for (int options = 0; options < 8; options++) {
                bool shared = options & 1;
                if (!shared && shapes[i].rows > shapes[i].sequences) continue;
                check(&shapes[i], precisions[p], shared, options & 2, options & 4, arena);
            }
    limn_arena_destroy(arena);
}

/* A key that is no number spoils its own sequence alone. */
static void test_what_is_no_number(void **state) {
    (void)state;
    enum { ROWS = 2, D = 8, T = 3 };
    limn_arena *arena = limn_arena_create((size_t)1 << 30, NULL);
    for (size_t p = 0; p < 3; p++) {
        attention_cache cache = {ROWS, 1, T, D, precisions[p], NULL};
        cache.memory = limn_arena_bytes(arena, attention_cache_bytes(&cache));
        float keys[ROWS * T * D], values[ROWS * T * D], q[ROWS * D], out[ROWS * D];
        for (size_t i = 0; i < ROWS * T * D; i++) keys[i] = values[i] = (float)i / 16;
        for (size_t i = 0; i < ROWS * D; i++) q[i] = 1;
        keys[D + 2] = NAN;
        attention_cache_store(&cache, keys, values, ROWS, 0, T);
        attention_cache_attend(&cache, out, q, &(cached_attention){.rows = ROWS, .count = T, .scale = 1}, arena);
        for (size_t d = 0; d < D; d++) assert_true(isnan(out[d]) && isfinite(out[D + d]));
    }
    limn_arena_destroy(arena);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_attention), cmocka_unit_test(test_what_is_no_number)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
