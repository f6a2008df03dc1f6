/* limn-train --plan: what a configuration needs of this machine, without training. */
#include "train/seq2seq_settings.h"

#include <stdlib.h>

typedef struct {
    size_t weights, trained; /* numbers */
    size_t weight_bytes, gradient_bytes, optimizer_bytes, ema_bytes, activation_bytes, total_bytes;
    size_t available_bytes, largest_batch;
    double flops_per_pair;
} plan_result;

/* The largest batch whose activations fit into `room`; 0: none does. */
static size_t largest_batch(const seq2seq *model, nn_precision precision, size_t room) {
    size_t fits = 0, fails = 1;
    while (fails < 1u << 16 && seq2seq_training_bytes(model, fails, precision) <= room) {
        fits = fails;
        fails *= 2;
    }
    while (fails - fits > 1) {
        const size_t middle = fits + (fails - fits) / 2;
        if (seq2seq_training_bytes(model, middle, precision) <= room)
            fits = middle;
        else
            fails = middle;
    }
    return fits;
}

int train_optimizer_bytes(const parameters *set, const optimizer_options *options, size_t *state, size_t *scratch,
                          size_t *padded_size, limn_error *error) {
    optimizer_tensor *tensors = limn_allocate(set->count, sizeof *tensors, error);
    if (!tensors) return -1;
    float none = 0;
    optimizer_tensors_of(tensors, set);
    for (size_t i = 0; i < set->count; i++)
        tensors[i].grad = set->list[i].frozen ? NULL : &none; /* asked for sizes, it is not read */
    if (padded_size) *padded_size = optimizer_padded_size(options, tensors, set->count);
    int status = optimizer_bytes(options, tensors, set->count, state, scratch, error);
    free(tensors);
    return status;
}

static double gib(size_t bytes) {
    return (double)bytes / (double)((size_t)1 << 30);
}

static void print_plan(const plan_result *r, const seq2seq_settings *s, bool json) {
    const size_t batch_size = s->train.batch_size, pairs = batch_size * s->train.accumulation;
    static const char *const optimizers[] = {
        [OPTIMIZER_ADAMW] = "AdamW", [OPTIMIZER_ADAFACTOR] = "Adafactor", [OPTIMIZER_SHAMPOO] = "Shampoo"};
    if (json) {
        printf("{\"weights\": %zu, \"trained\": %zu, \"weight_bytes\": %zu, \"gradient_bytes\": %zu, \"optimizer_bytes\": %zu, "
               "\"ema_bytes\": %zu, \"activation_bytes\": %zu, \"total_bytes\": %zu, \"available_bytes\": %zu, \"batch_size\": "
               "%zu, "
               "\"largest_batch_size\": %zu, \"pairs_per_step\": %zu, \"tflops_per_pair\": %.6f}\n",
               r->weights, r->trained, r->weight_bytes, r->gradient_bytes, r->optimizer_bytes, r->ema_bytes,
               r->activation_bytes, r->total_bytes, r->available_bytes, batch_size, r->largest_batch, pairs,
               r->flops_per_pair * 1e-12);
        return;
    }
    printf("%.1f million weights, %.1f million of them trained, in %s; %zu × %zu = %zu pairs a step, %.3g TFLOP of products a "
           "pair\n",
           (double)r->weights * 1e-6, (double)r->trained * 1e-6, nn_precision_name(s->precision), batch_size,
           s->train.accumulation, pairs, r->flops_per_pair * 1e-12);
    printf("  weights       %8.2f GiB\n  gradients     %8.2f\n  %-13s %8.2f\n", gib(r->weight_bytes), gib(r->gradient_bytes),
           optimizers[s->train.optimizer.options.kind], gib(r->optimizer_bytes));
    if (r->ema_bytes) printf("  their average %8.2f\n", gib(r->ema_bytes));
    printf("  activations   %8.2f, at most, of %zu pairs at a time\n  in all        %8.2f GiB", gib(r->activation_bytes),
           batch_size, gib(r->total_bytes));
    if (r->available_bytes == SIZE_MAX)
        printf("\n");
    else
        printf(" of %.2f that are free on this machine\n", gib(r->available_bytes));
    if (r->available_bytes != SIZE_MAX && r->largest_batch)
        printf("largest batch_size here: %zu\n", r->largest_batch);
    else if (r->available_bytes != SIZE_MAX)
        printf(
            "does not fit here: try \"precision\": \"bf16\", \"gradient_checkpointing\": true, or the optimizer adafactor\n");
}

int train_plan(const train_options *options, bool json, limn_error *error) {
    json_t *config = train_configuration(options, error);
    seq2seq_settings s;
    seq2seq_config model_config;
    int status = config ? seq2seq_settings_read(&s, config, options->config, error) : -1;
    if (status == 0) status = train_seq2seq_config(&model_config, config, options->config, error);
    if (status == 0) {
        plan_result r = {.available_bytes = limn_memory_available()};
        const seq2seq_tuning tuning = {.train = options->train, .lora = s.lora};
        seq2seq *model = seq2seq_describe_tuned(&model_config, &tuning, error);
        const parameters *set = model ? seq2seq_get_parameters(model) : NULL;
        size_t scratch = 0, batch_size = s.train.batch_size;
        status = model ? train_optimizer_bytes(set, &s.train.optimizer.options, &r.optimizer_bytes, &scratch, NULL, error) : -1;
        if (status == 0) {
            for (size_t i = 0; i < set->count; i++) r.trained += set->list[i].frozen ? 0 : set->list[i].size;
            r.weights = set->size;
            r.weight_bytes = set->size * sizeof(float);
            r.gradient_bytes = r.trained * sizeof(float);
            r.optimizer_bytes += scratch;
            r.ema_bytes = s.train.optimizer.ema_decay > 0 ? r.weight_bytes : 0;
            r.activation_bytes = seq2seq_training_bytes(model, batch_size, s.precision);
            const size_t fixed = r.weight_bytes + r.gradient_bytes + r.optimizer_bytes + r.ema_bytes;
            r.total_bytes = r.activation_bytes > SIZE_MAX - fixed ? SIZE_MAX : fixed + r.activation_bytes;
            r.largest_batch = r.available_bytes > fixed ? largest_batch(model, s.precision, r.available_bytes - fixed) : 0;
            r.flops_per_pair = seq2seq_training_flops(&model_config, 1, NULL);
            print_plan(&r, &s, json);
        }
        seq2seq_free(model);
        seq2seq_config_free(&model_config);
    }
    json_decref(config);
    return status;
}
