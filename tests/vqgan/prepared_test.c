/* Coding with packed weights: as without them in fp32, near to it in bf16; and what is said when they cannot be had. */
#include "tests/vqgan/tools.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SIDE = 16, TOKENS = 16, WIDTH = 8 };

static size_t floats_of(size_t B) {
    return B * SIDE * SIDE * 3;
}

typedef struct {
    int32_t *tokens;
    float *latent, *drawn;
} coded;

static coded code(const vqgan *model, const float *pictures, const int32_t *tokens, size_t B, limn_arena *arena) {
    coded out = {zeroed(B * TOKENS, sizeof *out.tokens), zeroed(B * TOKENS * WIDTH, sizeof(float)),
                 zeroed(floats_of(B), sizeof(float))};
    vqgan_encode(model, out.tokens, out.latent, pictures, B, arena);
    vqgan_decode(model, out.drawn, tokens ? tokens : out.tokens, B, arena);
    assert_int_equal(limn_arena_mark(arena), 0);
    return out;
}

static void free_coded(coded *self) {
    free(self->tokens);
    free(self->latent);
    free(self->drawn);
}

/* Largest difference in units of the largest value. */
static double apart(const float *a, const float *b, size_t n) {
    double worst = 0, largest = 0;
    for (size_t i = 0; i < n; i++) {
        worst = fmax(worst, fabs((double)a[i] - (double)b[i]));
        largest = fmax(largest, fabs((double)b[i]));
    }
    return worst / largest;
}

static double decibels(const float *got, const float *expected, size_t n) {
    double squares = 0;
    float least = INFINITY, most = -INFINITY;
    for (size_t i = 0; i < n; i++) {
        squares += pow((double)got[i] - (double)expected[i], 2);
        least = fminf(least, expected[i]);
        most = fmaxf(most, expected[i]);
    }
    return 10 * log10(pow((double)(most - least), 2) * (double)n / squares);
}

static void prepare(vqgan *model, nn_precision precision, vqgan_half half) {
    limn_error error = {0};
    if (vqgan_prepare(model, precision, half, &error)) fail_msg("%s", error.message);
}

static void compare(const char *assignment, size_t B) {
    vqgan *model = tiny_model(assignment, false);
    limn_arena *arena = tiny_arena();
    float *pictures = tiny_pictures(B, 3);
    coded plain = code(model, pictures, NULL, B, arena);
    prepare(model, PRECISION_FP32, VQGAN_BOTH);
    coded packed = code(model, pictures, plain.tokens, B, arena);
    assert_memory_equal(packed.tokens, plain.tokens, B * TOKENS * sizeof(int32_t));
    assert_true(apart(packed.latent, plain.latent, B * TOKENS * WIDTH) < 2e-5);
    assert_true(apart(packed.drawn, plain.drawn, floats_of(B)) < 2e-5);
    prepare(model, PRECISION_BF16, VQGAN_BOTH); /* again, in another precision */
    coded rounded = code(model, pictures, plain.tokens, B, arena);
    size_t same = 0;
    for (size_t i = 0; i < B * TOKENS; i++) same += rounded.tokens[i] == plain.tokens[i];
    if (!(decibels(rounded.drawn, plain.drawn, floats_of(B)) > 40))
        fail_msg("bf16 draws at %.1f dB", decibels(rounded.drawn, plain.drawn, floats_of(B)));
    if (same < B * TOKENS * 9 / 10) fail_msg("bf16 takes fp32's token at %zu places of %zu", same, B * TOKENS);
    assert_true(apart(rounded.drawn, plain.drawn, floats_of(B)) > 1e-4); /* or nothing was rounded */
    free_coded(&plain);
    free_coded(&packed);
    free_coded(&rounded);
    free(pictures);
    limn_arena_destroy(arena);
    vqgan_free(model);
}

static void as_without(void **state) {
    (void)state;
    compare(NULL, 1);
    compare(NULL, 3);
    compare(NULL, 21); /* more than are in memory at once */
}

/* Whatever the latents were computed in: their tokens are the nearest codes, the lowest of equals. */
static void codes_are_the_nearest(void **state) {
    (void)state;
    enum { B = 3, CODES = 4500 };
    const nn_precision precisions[] = {PRECISION_FP32, PRECISION_BF16};
    vqgan *model = tiny_model("n_embed=4500", false);
    limn_arena *arena = tiny_arena();
    float *pictures = tiny_pictures(B, 3);
    float *codebook = parameters_find(vqgan_get_parameters(model), "quantize.embedding.weight")->mutable_value;
    for (size_t p = 0; p < 2; p++) {
        prepare(model, precisions[p], VQGAN_ENCODER);
        coded first = code(model, pictures, NULL, B, arena);
        /* some latents themselves are codes, twice, and with neighbours that no product of few digits tells apart */
        for (size_t i = 0; i < B * TOKENS; i++)
            for (size_t d = 0; d < WIDTH; d++) {
                const float value = first.latent[i * WIDTH + d];
                codebook[(90 * i + 7) * WIDTH + d] = value;
                codebook[(90 * i + 50) * WIDTH + d] = i % 3 ? value : value * 1.0001f;
                codebook[(90 * i + 3) * WIDTH + d] = i % 5 ? value * 0.9999f : value;
            }
        prepare(model, precisions[p], VQGAN_ENCODER);
        coded again = code(model, pictures, NULL, B, arena);
        assert_memory_equal(again.latent, first.latent, B * TOKENS * WIDTH * sizeof(float));
        for (size_t i = 0; i < B * TOKENS; i++) {
            double nearest = INFINITY;
            int32_t expected = -1;
            for (size_t v = 0; v < CODES; v++) {
                double distance = 0;
                for (size_t d = 0; d < WIDTH; d++)
                    distance += pow((double)again.latent[i * WIDTH + d] - (double)codebook[v * WIDTH + d], 2);
                if (distance < nearest) nearest = distance, expected = (int32_t)v;
            }
            assert_int_equal(again.tokens[i], expected);
            assert_int_equal(expected, 90 * i + (i % 5 ? 7 : 3));
        }
        free_coded(&first);
        free_coded(&again);
    }
    free(pictures);
    limn_arena_destroy(arena);
    vqgan_free(model);
}

static void with_plain_resampling(void **state) {
    (void)state;
    compare("resamp_with_conv=false", 3);
}

static void either_half(void **state) {
    (void)state;
    vqgan *model = tiny_model(NULL, false);
    limn_arena *arena = tiny_arena();
    float *pictures = tiny_pictures(2, 3);
    coded plain = code(model, pictures, NULL, 2, arena);
    prepare(model, PRECISION_BF16, VQGAN_DECODER);
    coded packed = code(model, pictures, plain.tokens, 2, arena);
    assert_memory_equal(packed.latent, plain.latent, 2 * TOKENS * WIDTH * sizeof(float));
    assert_memory_not_equal(packed.drawn, plain.drawn, floats_of(2) * sizeof(float));
    free_coded(&packed);
    prepare(model, PRECISION_BF16, VQGAN_ENCODER); /* and the decoder is as it was */
    packed = code(model, pictures, plain.tokens, 2, arena);
    assert_memory_not_equal(packed.latent, plain.latent, 2 * TOKENS * WIDTH * sizeof(float));
    assert_memory_equal(packed.drawn, plain.drawn, floats_of(2) * sizeof(float));
    free_coded(&packed);
    free_coded(&plain);
    free(pictures);
    limn_arena_destroy(arena);
    vqgan_free(model);
}

/* Without room in the address space, at any place: an error, and a model that works as it did. */
static void no_memory_is_an_error(void **state) {
    (void)state;
#ifdef __SANITIZE_ADDRESS__
    skip(); /* its address space has no limit */
#endif
    vqgan *model = tiny_model(NULL, false);
    limn_arena *arena = tiny_arena();
    float *pictures = tiny_pictures(1, 3);
    coded plain = code(model, pictures, NULL, 1, arena);
    int refused = 0;
    for (size_t spare = 0; spare < 4; spare++) {
        pid_t child = fork();
        if (child == 0) {
            limn_error error = {0};
            limn_set_threads(1);
            /* what is mapped already, and a little: the first allocations fail, or the later ones */
            size_t pages = 0;
            FILE *file = fopen("/proc/self/statm", "r");
            if (!file || fscanf(file, "%zu", &pages) != 1) _exit(3);
            fclose(file);
            const struct rlimit limit = {pages * 4096 + (spare << 20), RLIM_INFINITY};
            if (setrlimit(RLIMIT_AS, &limit)) _exit(3);
            if (vqgan_prepare(model, PRECISION_FP32, VQGAN_BOTH, &error) == 0) _exit(2);
            if (!strstr(error.message, "cannot be laid out")) _exit(4);
            _exit(0);
        }
        int status = 0;
        waitpid(child, &status, 0);
        assert_true(WIFEXITED(status));
        if (WEXITSTATUS(status) == 0) refused++;
        assert_true(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 2);
    }
    assert_true(refused > 0);
    free_coded(&plain);
    free(pictures);
    limn_arena_destroy(arena);
    vqgan_free(model);
}

/* Loaded for drawing alone it draws the same, and can be neither prepared anew nor saved. */
static void the_decoder_alone(void **state) {
    (void)state;
    limn_error error = {0};
    char folder[] = "/tmp/limn-vqgan-XXXXXX";
    vqgan *model = tiny_model(NULL, false);
    assert_non_null(mkdtemp(folder));
    if (vqgan_save(model, folder, &error)) fail_msg("%s", error.message);
    limn_arena *arena = limn_arena_create((size_t)1 << 32, NULL);
    int32_t tokens[2 * TOKENS];
    for (int32_t i = 0; i < 2 * TOKENS; i++) tokens[i] = i % (int32_t)vqgan_get_config(model)->n_embed;
    for (int precision = PRECISION_FP32; precision <= PRECISION_BF16; precision++) {
        prepare(model, (nn_precision)precision, VQGAN_BOTH);
        vqgan *alone = vqgan_load_decoder(folder, (nn_precision)precision, &error);
        if (!alone) fail_msg("%s", error.message);
        float *expected = zeroed(floats_of(2), sizeof(float)), *got = zeroed(floats_of(2), sizeof(float));
        vqgan_decode(model, expected, tokens, 2, arena);
        vqgan_decode(alone, got, tokens, 2, arena);
        assert_memory_equal(got, expected, floats_of(2) * sizeof(float));
        assert_false(vqgan_can_encode(alone));
        assert_int_equal(vqgan_prepare(alone, PRECISION_FP32, VQGAN_DECODER, &error), -1);
        assert_non_null(strstr(error.message, "for drawing alone"));
        assert_int_equal(vqgan_save(alone, folder, &error), -1);
        assert_non_null(strstr(error.message, "for drawing alone"));
        vqgan_decode(alone, got, tokens, 2, arena); /* and it is none the worse for it */
        assert_memory_equal(got, expected, floats_of(2) * sizeof(float));
        free(expected);
        free(got);
        vqgan_free(alone);
    }
    assert_null(vqgan_load_decoder("/nonexistent", PRECISION_FP32, &error));
    limn_remove_tree(folder, NULL);
    limn_arena_destroy(arena);
    vqgan_free(model);
}

static void speed_is_measured(void **state) {
    (void)state;
    limn_error error = {0};
    char path[] = "/tmp/limn-vqgan-XXXXXX";
    const int descriptor = mkstemp(path);
    assert_true(descriptor >= 0);
    close(descriptor);
    json_t *section = tiny_json(NULL), *file = json_pack("{s:O}", "vqgan", section);
    vqgan_measurement measured;
    assert_int_equal(json_dump_file(file, path, 0), 0);
    limn_set_log_level(LIMN_LOG_ERROR);
    if (vqgan_measure(path, true, PRECISION_BF16, 2, 1, &measured, &error)) fail_msg("%s", error.message);
    assert_true(measured.seconds > 0 && isfinite(measured.seconds));
    /* the last convolution alone, and no more than if all were as wide and deep as the widest */
    const double last = 2.0 * 2 * SIDE * SIDE * 9 * 32 * 3;
    assert_true(measured.flops > last && measured.flops < 100 * 2.0 * 2 * SIDE * SIDE * 9 * 64 * 64);
    json_object_clear(file);
    assert_int_equal(json_dump_file(file, path, 0), 0);
    assert_int_equal(vqgan_measure(path, false, PRECISION_FP32, 2, 1, &measured, &error), -1);
    assert_non_null(strstr(error.message, "no section vqgan"));
    assert_int_equal(vqgan_measure("/nonexistent", false, PRECISION_FP32, 2, 1, &measured, &error), -1);
    unlink(path);
    json_decref(file);
    json_decref(section);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_without),        cmocka_unit_test(with_plain_resampling), cmocka_unit_test(codes_are_the_nearest),
        cmocka_unit_test(either_half),       cmocka_unit_test(no_memory_is_an_error), cmocka_unit_test(speed_is_measured),
        cmocka_unit_test(the_decoder_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
