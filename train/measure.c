/* How fast a configuration trains on this machine, with random weights and random data. */
#include "train/seq2seq_settings.h"

typedef struct {
    world *all;
    seq2seq *model;
    train_optimizer optimizer;
    pair_rows rows;
    limn_arena *arena;
} bench;

static int allocate(bench *self, const seq2seq_config *config, size_t B, nn_precision precision, optimizer_kind kind,
                    limn_error *error) {
    size_t text = B * config->max_text_length, image = B * config->image_length;
    pair_rows *rows = &self->rows;
    if (pair_rows_create(rows, B, config->max_text_length, config->image_length, error)) return -1;
    self->arena = limn_arena_create(seq2seq_training_bytes(self->model, B, precision), error);
    if (!self->arena) return -1;
    const optimizer_settings settings = {.options = optimizer_defaults(kind)};
    if (train_optimizer_create(&self->optimizer, seq2seq_get_parameters(self->model), &settings, NULL, self->all,
                               precision, error))
        return -1;
    for (size_t i = 0; i < text; i++) {
        rows->input_ids[i] = (int32_t)limn_random_below(1, 0, i, config->encoder_vocab_size);
        rows->attention_mask[i] = 1;
    }
    for (size_t i = 0; i < image; i++) rows->labels[i] = (int32_t)limn_random_below(1, 1, i, config->image_vocab_size);
    seq2seq_shift_right(config, rows->decoder_input_ids, rows->labels, B);
    return 0;
}

static void announce(void *self, size_t first, size_t count) {
    train_optimizer_ready(&((bench *)self)->optimizer, first, count);
}

static int run_steps(bench *self, size_t batch, size_t steps, nn_precision precision, train_measurement *out, limn_error *error) {
    const learning_rate_schedule schedule = {.learning_rate = 1e-4, .steps = steps};
    const pair_rows *rows = &self->rows;
    seq2seq_batch data = {batch, rows->input_ids, rows->attention_mask, rows->decoder_input_ids, rows->labels};
    for (uint64_t step = 1; step <= steps + 1 && !limn_stop_requested(); step++) {
        double begin = limn_seconds();
        seq2seq_step_options options = {.grad_scale = 1.0f / (float)world_size(self->all),
                                        .first = true,
                                        .seed = 1,
                                        .step = step,
                                        .precision = precision,
                                        .gradients_ready = announce,
                                        .self = self};
        train_optimizer_begin(&self->optimizer);
        double loss = seq2seq_forward_backward(self->model, &data, &options, self->arena);
        limn_arena_release(self->arena, 0);
        double middle = limn_seconds(), norm;
        if (train_optimizer_sum(&self->optimizer, &norm, error) ||
            train_optimizer_step(&self->optimizer, &schedule, 1, norm, step, NULL, error))
            return -1;
        double seconds = limn_seconds() - begin, moving = limn_seconds() - middle;
        /* The first step touches memory for the first time. */
        limn_log(out->rank ? LIMN_LOG_DEBUG : LIMN_LOG_INFO, "step %llu%s: %.3f s, loss %.4f", (unsigned long long)step, step == 1 ? " (warm-up)" : "",
                 seconds, loss);
        if (step > 1 && (step == 2 || seconds < out->seconds)) out->seconds = seconds;
        if (step > 1 && (step == 2 || moving < out->optimizer_seconds)) out->optimizer_seconds = moving;
    }
    return 0;
}

int train_measure_seq2seq(const char *path, nn_precision precision, size_t batch, size_t steps, optimizer_kind kind,
                          train_measurement *out, limn_error *error) {
    bench self = {.all = world_start(error)};
    if (!self.all) return -1;
    size_t ranks = world_size(self.all), own = batch / ranks;
    *out = (train_measurement){.batch = batch, .rank = world_rank(self.all), .ranks = ranks};
    limn_share_threads(world_neighbours(self.all));
    seq2seq_config config;
    int status = batch % ranks == 0 ? 0 : limn_fail_usage(error, "--batch %zu cannot be shared evenly by %zu ranks", batch, ranks);
    if (status == 0) status = train_read_seq2seq(path, &config, error);
    if (status == 0) {
        self.model = seq2seq_create(&config, 1, true, error);
        status = self.model ? allocate(&self, &config, own, precision, kind, error) : -1;
        out->flops = seq2seq_training_flops(&config, batch, NULL);
        seq2seq_config_free(&config);
    }
    if (status == 0) status = run_steps(&self, own, steps, precision, out, error);
    if (status == 0 && limn_stop_requested()) status = limn_fail(error, "stopped before it was measured");
    status = world_finish(self.all, status, error);
    seq2seq_free(self.model);
    limn_arena_destroy(self.arena);
    train_optimizer_free(&self.optimizer);
    pair_rows_free(&self.rows);
    return status;
}
