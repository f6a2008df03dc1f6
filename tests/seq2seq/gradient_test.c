/* The gradients of whole models against central differences of the loss, tensor by tensor, over many configurations. */
#include "tests/seq2seq/tiny.h"

typedef struct {
    seq2seq *model;
    tiny_batch data;
    limn_arena *arena;
    seq2seq_step_options options;
} run;

static double loss_of(run *r) {
    return seq2seq_forward_backward(r->model, &r->data.batch, &r->options, r->arena);
}

/* How far rounding alone moves the loss: every weight moved by its last bit. Deep tiny models can be wild. */
static double noise_of(run *r) {
    parameters *set = seq2seq_get_parameters(r->model);
    float *kept = copy_of(set->storage, set->size);
    double loss = loss_of(r), noise = 1e-7;
    for (uint64_t turn = 0; turn < 3; turn++) {
        for (size_t i = 0; i < set->size; i++)
            set->storage[i] = nextafterf(kept[i], limn_random_u32(turn, 0, i) & 1 ? INFINITY : -INFINITY);
        noise = fmax(noise, fabs(loss_of(r) - loss));
    }
    memcpy(set->storage, kept, set->size * sizeof *kept);
    free(kept);
    return noise;
}

/* The loss's slope along `direction` (unit length) by central differences of two steps, so that its third derivative cancels.
 */
static double slope_along(run *r, parameter *p, const float *kept, const double *direction, double step) {
    double slopes[2];
    for (int half = 0; half < 2; half++) {
        double losses[2], h = half ? step / 2 : step;
        for (int side = 0; side < 2; side++) {
            for (size_t i = 0; i < p->size; i++)
                p->mutable_value[i] = (float)((double)kept[i] + (side ? h : -h) * direction[i]);
            losses[side] = loss_of(r);
        }
        slopes[half] = (losses[1] - losses[0]) / (2 * h);
    }
    return (4 * slopes[1] - slopes[0]) / 3;
}

/* The slope along the computed gradient of one tensor must be that gradient's length: an error in any of its elements makes it
 * shorter or longer than the slope. Returns false where rounding hides the slope. */
static bool check_tensor(run *r, parameter *p, const float *grad, double noise, const char *what) {
    double length = 0, weight = 0, slope = 0;
    float *kept = copy_of(p->value, p->size);
    double *direction = malloc(p->size * sizeof *direction);
    for (size_t i = 0; i < p->size; i++) {
        length += (double)grad[i] * (double)grad[i];
        weight += (double)kept[i] * (double)kept[i];
    }
    length = sqrt(length);
    for (size_t i = 0; i < p->size; i++) direction[i] = length > 0 ? (double)grad[i] / length : 0;
    /* Steps that change the loss by a thousandth or so, but the weights by no more than a thirtieth; smaller ones where the
     * loss bends more sharply than that. */
    double step = fmin(4e-3 / (length + 1e-9), sqrt(weight) / 30);
    bool agree = false, measured = false;
    for (int attempt = 0; attempt < 4 && !agree && 4 * noise / step < 0.1 * length; attempt++, step /= 3) {
        slope = slope_along(r, p, kept, direction, step);
        agree = fabs(slope - length) <= 0.01 * length + 4 * noise / step;
        measured = true;
    }
    memcpy(p->mutable_value, kept, p->size * sizeof *kept);
    free(kept);
    free(direction);
    if (measured && !agree) fail_msg("%s: gradient %.6g, slope %.6g, step %.3g: %s", p->name, length, slope, step, what);
    return measured;
}

static void check_combinations(bool dropout) {
    limn_set_threads(1); /* these models are too small to share */
    size_t tensors = 0, measured = 0;
    for (size_t index = 0; index < COMBINATIONS; index++) {
        seq2seq_config config = combination(index, dropout);
        run r = {.model = tiny_model(&config, index), .data = make_batch(&config, TINY_B, index)};
        r.arena = planned_arena(&config, TINY_B);
        r.options = (seq2seq_step_options){.grad_scale = 1, .seed = 5, .step = 7, .micro_batch = 1};
        parameters *set = seq2seq_get_parameters(r.model);
        double loss = loss_of(&r);
        if (!dropout) {
            double evaluated = seq2seq_evaluate(r.model, &r.data.batch, PRECISION_FP32, NULL, NULL, NULL, r.arena);
            assert_float_equal(loss, evaluated, 1e-6);
        }
        float *grads = copy_of(set->grads, set->size);
        double noise = noise_of(&r);
        for (size_t i = 0, offset = 0; i < set->count; offset += set->list[i++].size) {
            tensors++;
            measured += check_tensor(&r, &set->list[i], grads + offset, noise, describe(&config));
        }
        free(grads);
        limn_arena_destroy(r.arena);
        free_batch(&r.data);
        seq2seq_free(r.model);
        seq2seq_config_free(&config);
    }
    assert_true(measured * 10 > tensors * 8);
}

static void test_gradients(void **state) {
    (void)state;
    check_combinations(false);
}

static void test_gradients_with_dropout(void **state) {
    (void)state;
    check_combinations(true);
}

/* Two micro-batches of half weight add up to the batch of both. */
static void test_accumulation(void **state) {
    (void)state;
    seq2seq_config config = combination(0, false);
    seq2seq *model = tiny_model(&config, 1);
    parameters *set = seq2seq_get_parameters(model);
    tiny_batch whole = make_batch(&config, 4, 9);
    limn_arena *arena = planned_arena(&config, 4);
    seq2seq_step_options options = {.grad_scale = 1};
    double loss = seq2seq_forward_backward(model, &whole.batch, &options, arena), sum = 0;
    float *grads = copy_of(set->grads, set->size);
    for (size_t i = 0; i < set->size; i++) set->grads[i] = NAN; /* of the step before; the first half begins anew */
    options.grad_scale = 0.5f;
    for (size_t half = 0; half < 2; half++) {
        options.first = half == 0;
        size_t text = half * 2 * config.max_text_length, image = half * 2 * config.image_length;
        seq2seq_batch part = {.B = 2,
                              .input_ids = whole.arrays[0] + text,
                              .attention_mask = whole.arrays[1] + text,
                              .decoder_input_ids = whole.arrays[2] + image,
                              .labels = whole.arrays[3] + image};
        sum += seq2seq_forward_backward(model, &part, &options, arena) / 2;
    }
    assert_float_equal(loss, sum, 1e-6);
    for (size_t i = 0; i < set->size; i++) assert_float_equal(grads[i], set->grads[i], 2e-5);
    free(grads);
    limn_arena_destroy(arena);
    free_batch(&whole);
    seq2seq_free(model);
    seq2seq_config_free(&config);
}

/* The same step gives the same bits; another step, micro-batch or seed another loss. */
static void test_dropout_is_reproducible(void **state) {
    (void)state;
    seq2seq_config config = combination(0, true);
    run r = {.model = tiny_model(&config, 1), .data = make_batch(&config, TINY_B, 1), .arena = planned_arena(&config, TINY_B)};
    parameters *set = seq2seq_get_parameters(r.model);
    r.options = (seq2seq_step_options){.grad_scale = 1, .seed = 1, .step = 1};
    double first = loss_of(&r);
    float *grads = copy_of(set->grads, set->size);
    parameters_zero_grads(set);
    assert_true(loss_of(&r) == first);
    assert_memory_equal(grads, set->grads, set->size * sizeof *grads);
    r.options.step = 2;
    assert_true(loss_of(&r) != first);
    r.options.step = 1;
    r.options.micro_batch = 1;
    assert_true(loss_of(&r) != first);
    r.options.micro_batch = 0;
    r.options.seed = 2;
    assert_true(loss_of(&r) != first);
    free(grads);
    limn_arena_destroy(r.arena);
    free_batch(&r.data);
    seq2seq_free(r.model);
    seq2seq_config_free(&config);
}

/* Gradient checkpointing changes memory, not one bit of the result. */
static void test_checkpointing_is_the_same(void **state) {
    (void)state;
    for (size_t index = 0; index < 12; index++) {
        double losses[2];
        float *grads[2];
        size_t size = 0;
        for (int on = 0; on < 2; on++) {
            seq2seq_config config = combination(index, true);
            config.gradient_checkpointing = on;
            run r = {.model = tiny_model(&config, 1),
                     .data = make_batch(&config, TINY_B, 1),
                     .arena = planned_arena(&config, TINY_B)};
            r.options = (seq2seq_step_options){.grad_scale = 1, .seed = 1, .step = 1};
            losses[on] = loss_of(&r);
            size = seq2seq_get_parameters(r.model)->size;
            grads[on] = copy_of(seq2seq_get_parameters(r.model)->grads, size);
            limn_arena_destroy(r.arena);
            free_batch(&r.data);
            seq2seq_free(r.model);
            seq2seq_config_free(&config);
        }
        assert_true(losses[0] == losses[1]);
        assert_memory_equal(grads[0], grads[1], size * sizeof(float));
        free(grads[0]);
        free(grads[1]);
    }
}

/* ---------------------------------------------------------------- mixed precision */

/* The length of a − b, relative to that of b. */
static double distance(const float *a, const float *b, size_t n) {
    double difference = 0, length = 0;
    for (size_t i = 0; i < n; i++) {
        difference += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        length += (double)b[i] * (double)b[i];
    }
    return sqrt(difference / length);
}

static float *gradients_of(run *r, nn_precision precision) {
    parameters *set = seq2seq_get_parameters(r->model);
    parameters_zero_grads(set);
    r->options.precision = precision;
    r->arena = planned_arena_in(seq2seq_get_config(r->model), TINY_B, precision);
    loss_of(r);
    limn_arena_destroy(r->arena);
    return copy_of(set->grads, set->size);
}

/* In bfloat16 the gradient is that of float32, but for its rounding. How much rounding matters to a model is seen from the
 * gradient of its weights rounded to bfloat16. */
static void test_bfloat16(void **state) {
    (void)state;
    limn_set_threads(1);
    size_t measured = 0;
    for (size_t index = 0; index < 2 * COMBINATIONS; index++) {
        seq2seq_config config = combination(index % COMBINATIONS, index >= COMBINATIONS);
        run r = {.model = tiny_model(&config, index), .data = make_batch(&config, TINY_B, index)};
        r.options = (seq2seq_step_options){.grad_scale = 1, .seed = 5, .step = 7};
        parameters *set = seq2seq_get_parameters(r.model);
        float *exact = gradients_of(&r, PRECISION_FP32), *half = gradients_of(&r, PRECISION_BF16);
        for (size_t i = 0; i < set->size; i++) set->storage[i] = limn_bf16_to_float(limn_bf16_from_float(set->storage[i]));
        float *rounded = gradients_of(&r, PRECISION_FP32);
        double sensitivity = distance(rounded, exact, set->size), error = distance(half, exact, set->size);
        if (sensitivity < 0.05) {
            measured++;
            if (!(error <= sensitivity + 0.03))
                fail_msg("relative error %.3g, of rounded weights %.3g: %s", error, sensitivity, describe(&config));
        }
        free(exact);
        free(half);
        free(rounded);
        free_batch(&r.data);
        seq2seq_free(r.model);
        seq2seq_config_free(&config);
    }
    assert_true(measured > COMBINATIONS); /* of twice as many */
}

/* ---------------------------------------------------------------- gradients_ready */

typedef struct {
    const parameters *set;
    float *at_the_call; /* as parameters' grads */
    size_t *calls;      /* for each parameter */
} readiness;

static void note_ready(void *self, size_t first, size_t count) {
    readiness *r = self;
    for (size_t i = first; i < first + count; i++) {
        const parameter *p = &r->set->list[i];
        r->calls[i]++;
        memcpy(r->at_the_call + (p->grad - r->set->grads), p->grad, p->size * sizeof(float));
    }
}

/* Each gradient is announced once, and when it is, it is what it is at the end. */
static void test_gradients_ready(void **state) {
    (void)state;
    for (size_t index = 0; index < 2 * COMBINATIONS; index++) {
        const nn_precision precision = index < COMBINATIONS ? PRECISION_FP32 : PRECISION_BF16;
        seq2seq_config config = combination(index % COMBINATIONS, false);
        run r = {.model = tiny_model(&config, index), .data = make_batch(&config, TINY_B, index)};
        r.arena = planned_arena_in(&config, TINY_B, precision);
        parameters *set = seq2seq_get_parameters(r.model);
        readiness ready = {.set = set};
        ready.at_the_call = malloc(set->size * sizeof(float));
        ready.calls = calloc(set->count, sizeof *ready.calls);
        r.options =
            (seq2seq_step_options){.grad_scale = 1, .precision = precision, .gradients_ready = note_ready, .self = &ready};
        loss_of(&r);
        for (size_t i = 0; i < set->count; i++)
            if (ready.calls[i] != 1)
                fail_msg("%s: announced %zu times: %s", set->list[i].name, ready.calls[i], describe(&config));
        assert_memory_equal(ready.at_the_call, set->grads, set->size * sizeof(float));
        free(ready.at_the_call);
        free(ready.calls);
        limn_arena_destroy(r.arena);
        free_batch(&r.data);
        seq2seq_free(r.model);
        seq2seq_config_free(&config);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gradients),
        cmocka_unit_test(test_gradients_with_dropout),
        cmocka_unit_test(test_accumulation),
        cmocka_unit_test(test_dropout_is_reproducible),
        cmocka_unit_test(test_checkpointing_is_the_same),
        cmocka_unit_test(test_bfloat16),
        cmocka_unit_test(test_gradients_ready),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
