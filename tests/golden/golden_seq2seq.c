/* golden-seq2seq DIR: config.json, flax_model.msgpack and golden.safetensors of the original DALL·E Mini against ours. */
#include "nn/nn.h"
#include "seq2seq/seq2seq.h"
#include "tests/golden/golden.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const parts[] = {"states", "logits", "loss", "grad", "losses_adamw", "losses_adafactor", "guided_greedy_scale3"};
enum { PARTS = sizeof parts / sizeof *parts };
/* Trainings of a few steps, whose losses are compared. */
static const char *const trainings[] = {"losses_adamw", "losses_adafactor"};
enum { TRAININGS = sizeof trainings / sizeof *trainings };

typedef struct {
    golden *report;
    const char *directory;
    tensor_file *file;
    seq2seq_config config;
    seq2seq_batch batch;
    int32_t *arrays[4];
    limn_arena *arena;
    size_t over, rounding; /* results over their tolerance; those of them that the last bit moves over it as well */
} comparison;

/* ---------------------------------------------------------------- inputs */

static int32_t *read_ids(const comparison *c, const char *name, size_t columns, limn_error *error) {
    const tensor *t = tensor_file_need(c->file, name, 2, (size_t[]){c->batch.B, columns}, error);
    if (t == NULL) return NULL;
    int32_t *ids = limn_allocate(t->count, sizeof *ids, error);
    for (size_t i = 0; ids != NULL && i < t->count; i++) {
        int64_t value;
        tensor_to_int64(t, i, 1, &value);
        if (value < INT32_MIN || value > INT32_MAX) {
            limn_fail(error, "%s: %s holds %lld", tensor_file_path(c->file), name, (long long)value);
            free(ids);
            return NULL;
        }
        ids[i] = (int32_t)value;
    }
    return ids;
}

static int read_batch(comparison *c, limn_error *error) {
    const tensor *labels = tensor_file_find(c->file, "labels");
    if (labels == NULL || labels->rank != 2 || labels->shape[0] == 0)
        return limn_fail(error, "%s: no labels (B, T)", tensor_file_path(c->file));
    c->batch.B = labels->shape[0];
    static const char *const names[] = {"input_ids", "attention_mask", "decoder_input_ids", "labels"};
    for (size_t i = 0; i < 4; i++) {
        c->arrays[i] = read_ids(c, names[i], i < 2 ? c->config.max_text_length : c->config.image_length, error);
        if (c->arrays[i] == NULL) return -1;
    }
    c->batch.input_ids = c->arrays[0];
    c->batch.attention_mask = c->arrays[1];
    c->batch.decoder_input_ids = c->arrays[2];
    c->batch.labels = c->arrays[3];
    return seq2seq_check_batch(&c->config, &c->batch, error);
}

static int begin(comparison *c, limn_error *error) {
    char path[4096];
    if (limn_path_join(path, sizeof path, c->directory, "config.json", error) != 0) return -1;
    json_t *json = limn_json_load(path, error);
    if (json == NULL) return -1;
    int status = seq2seq_config_read(&c->config, json, path, false, error);
    json_decref(json);
    if (status != 0) return -1;
    if (limn_path_join(path, sizeof path, c->directory, "golden.safetensors", error) != 0) return -1;
    c->file = safetensors_open(path, error);
    if (c->file == NULL || read_batch(c, error) != 0) return -1;
    size_t floats = seq2seq_activation_floats(&c->config, c->batch.B, PRECISION_FP32);
    if (floats > SIZE_MAX / sizeof(float)) return limn_fail(error, "%s: a batch of %zu is too large", path, c->batch.B);
    c->arena = limn_arena_create(floats * sizeof(float), error);
    return c->arena != NULL ? 0 : -1;
}

static void end(comparison *c) {
    limn_arena_destroy(c->arena);
    for (size_t i = 0; i < 4; i++) free(c->arrays[i]);
    tensor_file_close(c->file);
    seq2seq_config_free(&c->config);
}

/* ---------------------------------------------------------------- what our model gives */

/* Everything that is compared in floats. Parts that are not wanted stay zero. */
typedef struct {
    float *states, *logits; /* (B,S,C), (B,T,V) */
    float *loss;            /* (1) */
    float *grads;           /* as the parameters lie in memory */
    float *losses[TRAININGS]; /* (steps) */
} outcome;

static void outcome_free(outcome *o) {
    free(o->states);
    free(o->logits);
    free(o->loss);
    free(o->grads);
    for (size_t i = 0; i < TRAININGS; i++) free(o->losses[i]);
}

static size_t training_steps(const comparison *c, size_t training) {
    const tensor *expected = tensor_file_find(c->file, trainings[training]);
    return expected != NULL ? expected->count : 0;
}

/* Adafactor takes the stacked kernels of all layers for one tensor, which ours are not. */
static bool has_stacked_layers(const comparison *c) {
    for (size_t i = 0; i < tensor_file_count(c->file); i++)
        if (strstr(tensor_file_at(c->file, i)->name, "/FlaxBartEncoderLayers/") != NULL) return true;
    return false;
}

static bool wants_training(const comparison *c, size_t training) {
    if (!golden_wants(c->report, trainings[training])) return false;
    return training == 0 || (training_steps(c, training) > 0 && !has_stacked_layers(c));
}

static optimizer *create_optimizer(parameters *set, size_t training, limn_error *error) {
    optimizer_options options = optimizer_defaults(training == 0 ? OPTIMIZER_ADAMW : OPTIMIZER_ADAFACTOR);
    options.weight_decay = 0.01;
    options.adafactor.min_dim_size_to_factor = 16;
    optimizer_tensor *tensors = limn_allocate(set->count, sizeof *tensors, error);
    if (tensors == NULL) return NULL;
    optimizer_tensors_of(tensors, set);
    optimizer *created = optimizer_create(&options, tensors, set->count, error);
    free(tensors);
    return created;
}

/* The weights are afterwards what they were before. */
static int train(comparison *c, seq2seq *model, size_t training, float *losses, limn_error *error) {
    parameters *set = seq2seq_get_parameters(model);
    optimizer *moves = create_optimizer(set, training, error);
    float *start = moves != NULL ? limn_allocate(set->size, sizeof *start, error) : NULL;
    const seq2seq_step_options options = {.grad_scale = 1};
    if (start != NULL) memcpy(start, set->storage, set->size * sizeof *start);
    for (size_t step = 0; start != NULL && step < training_steps(c, training); step++) {
        parameters_zero_grads(set);
        losses[step] = (float)seq2seq_forward_backward(model, &c->batch, &options, c->arena);
        optimizer_step(moves, &(optimizer_pass){.learning_rate = 0.01, .step = step + 1, .grad_scale = 1});
    }
    if (start != NULL) memcpy(set->storage, start, set->size * sizeof *start);
    int status = start != NULL ? 0 : -1;
    optimizer_free(moves);
    free(start);
    return status;
}

/* `nudge` 0: the weights as they are; else every weight is moved by its last bit, up or down as a random number says. */
static int run(comparison *c, seq2seq *model, uint64_t nudge, outcome *o, limn_error *error) {
    parameters *set = seq2seq_get_parameters(model);
    for (size_t i = 0; nudge != 0 && i < set->size; i++)
        set->storage[i] = nextafterf(set->storage[i], limn_random_u32(nudge, 0, i) & 1 ? INFINITY : -INFINITY);
    size_t rows = c->batch.B * c->config.image_length;
    *o = (outcome){0};
    o->states = limn_allocate(c->batch.B * c->config.max_text_length * c->config.d_model, sizeof(float), error);
    if (o->states != NULL) o->logits = limn_allocate(rows * (c->config.image_vocab_size + 1), sizeof(float), error);
    if (o->logits != NULL) o->loss = limn_allocate(1, sizeof(float), error);
    if (o->loss != NULL) o->grads = limn_allocate(set->size, sizeof(float), error);
    if (o->grads == NULL) return -1;
    for (size_t i = 0; i < TRAININGS; i++)
        if ((o->losses[i] = limn_allocate(training_steps(c, i) + 1, sizeof(float), error)) == NULL) return -1;
    *o->loss = (float)seq2seq_evaluate(model, &c->batch, PRECISION_FP32, o->states, o->logits, NULL, c->arena);
    if (golden_wants(c->report, "grad")) {
        const seq2seq_step_options options = {.grad_scale = 1};
        seq2seq_forward_backward(model, &c->batch, &options, c->arena);
        memcpy(o->grads, set->grads, set->size * sizeof(float));
    }
    int status = 0;
    for (size_t i = 0; i < TRAININGS && status == 0; i++)
        if (wants_training(c, i)) status = train(c, model, i, o->losses[i], error);
    return status;
}

/* ---------------------------------------------------------------- comparing */

/* Nudged runs judge nothing: a result over its tolerance fails. They only say, beside the failure, how far the weights' last
 * bit moves the same result, which tells a wrong formula from a golden that rounding decides. */
enum { NUDGES = 3, OUTCOMES = 1 + NUDGES };

static double largest_difference(const float *a, const float *b, size_t count) {
    double largest = 0;
    for (size_t i = 0; i < count; i++) {
        double difference = fabs((double)a[i] - (b != NULL ? (double)b[i] : 0));
        if (!(difference <= largest)) largest = difference; /* also when it is not a number */
    }
    return largest;
}

/* versions[0] is ours, the others those of nudged weights, all (count). reference 0: the largest expected value. */
static int compare(comparison *c, const char *name, const float *const *versions, size_t count, const tensor *expected,
                   double reference, double tolerance, limn_error *error) {
    if (expected != NULL && expected->count == count && count > 0) {
        float *want = limn_allocate(count, sizeof *want, error);
        if (want == NULL) return -1;
        tensor_to_float(expected, 0, count, want);
        if (reference <= 0) reference = largest_difference(want, NULL, count);
        bool over = !(largest_difference(versions[0], want, count) <= tolerance * reference);
        free(want);
        double reach = 0;
        for (size_t i = 1; i < OUTCOMES; i++) reach = fmax(reach, largest_difference(versions[0], versions[i], count));
        if (over)
            printf("note %s: moving the weights by their last bit moves it by %.3g of %.4g\n", name, reach / reference,
                   reference);
        c->over += over;
        c->rounding += over && reach > tolerance * reference;
    }
    golden_compare(c->report, name, versions[0], count, expected, reference, tolerance);
    return 0;
}

static int compare_forward(comparison *c, const outcome *o, limn_error *error) {
    size_t rows = c->batch.B * c->config.image_length;
    const float *states[OUTCOMES], *logits[OUTCOMES], *loss[OUTCOMES];
    for (size_t i = 0; i < OUTCOMES; i++) {
        states[i] = o[i].states;
        logits[i] = o[i].logits;
        loss[i] = o[i].loss;
    }
    int status = 0;
    if (golden_wants(c->report, "states"))
        status = compare(c, "encoder_last_hidden_state", states, c->batch.B * c->config.max_text_length * c->config.d_model,
                         tensor_file_find(c->file, "encoder_last_hidden_state"), 0, 5e-5, error);
    if (status == 0 && golden_wants(c->report, "logits"))
        status = compare(c, "logits", logits, rows * (c->config.image_vocab_size + 1), tensor_file_find(c->file, "logits"), 0,
                         5e-5, error);
    if (status == 0 && golden_wants(c->report, "loss"))
        status = compare(c, "loss", loss, 1, tensor_file_find(c->file, "loss"), 1, 1e-5, error);
    return status;
}

/* The gradient of a Flax tensor in its layout, put together from our parameters; returns the number of floats placed. */
static size_t gather(const seq2seq *model, const parameters *set, const float *grads, bool scanned, const char *path,
                     size_t room, float *out) {
    size_t placed = 0, offset = 0;
    for (size_t i = 0; i < set->count; offset += set->list[i++].size) {
        const parameter *p = &set->list[i];
        tensor_place place;
        seq2seq_place_of(model, i, scanned ? SEQ2SEQ_FLAX_SCANNED : SEQ2SEQ_FLAX, &place);
        if (strcmp(place.name, path) != 0 || (place.layer + 1) * p->size > room) continue;
        tensor_place_from_pytorch(&place, out + place.layer * p->size, grads + offset);
        placed += p->size;
    }
    return placed;
}

static int compare_gradients(comparison *c, const outcome *o, seq2seq *model, limn_error *error) {
    static const char prefix[] = "grad/";
    const size_t skip = sizeof prefix - 1;
    const parameters *set = seq2seq_get_parameters(model);
    double largest_of_all = 0;
    bool scanned = false;
    size_t largest_count = 1;
    for (size_t i = 0; i < tensor_file_count(c->file); i++) {
        const tensor *t = tensor_file_at(c->file, i);
        if (strncmp(t->name, prefix, skip) != 0) continue;
        if (strstr(t->name, "/FlaxBartEncoderLayers/") != NULL) scanned = true;
        if (t->count > largest_count) largest_count = t->count;
    }
    float *block = limn_allocate(largest_count, (OUTCOMES + 1) * sizeof *block, error);
    if (block == NULL) return -1;
    float *want = block + OUTCOMES * largest_count;
    const float *versions[OUTCOMES];
    for (size_t i = 0; i < OUTCOMES; i++) versions[i] = block + i * largest_count;

    /* First the largest of all, which is a reference; then each. */
    size_t compared = 0;
    int status = 0;
    for (int turn = 0; turn < 2; turn++)
        for (size_t i = 0; i < tensor_file_count(c->file) && status == 0; i++) {
            const tensor *t = tensor_file_at(c->file, i);
            if (strncmp(t->name, prefix, skip) != 0) continue;
            tensor_to_float(t, 0, t->count, want);
            double largest = largest_difference(want, NULL, t->count);
            if (turn == 0) {
                largest_of_all = fmax(largest_of_all, largest);
                continue;
            }
            size_t count = 0;
            for (size_t k = 0; k < OUTCOMES; k++)
                count = gather(model, set, o[k].grads, scanned, t->name + skip, t->count, block + k * largest_count);
            status = compare(c, t->name, versions, count, t, fmax(largest, largest_of_all / 100), 1e-4, error);
            compared += count;
        }
    free(block);
    char detail[128];
    snprintf(detail, sizeof detail, "%zu of the model's %zu parameters have a golden gradient", compared, set->size);
    if (status == 0) golden_check(c->report, "grad", compared == set->size, detail);
    return status;
}

static int compare_training(comparison *c, size_t training, const outcome *o, limn_error *error) {
    const char *name = trainings[training];
    const tensor *expected = tensor_file_find(c->file, name);
    if (expected == NULL || expected->count == 0) return limn_fail(error, "%s: no %s", tensor_file_path(c->file), name);
    /* Of a trajectory the whole counts: it may part from another at any step and cross it again. */
    const float *losses[OUTCOMES];
    for (size_t i = 0; i < OUTCOMES; i++) losses[i] = o[i].losses[training];
    return compare(c, name, losses, expected->count, expected, 1, 1e-3, error);
}

static int compare_floats(comparison *c, limn_error *error) {
    outcome outcomes[OUTCOMES] = {{0}};
    seq2seq *model = NULL;
    int status = 0;
    for (uint64_t i = 0; i < OUTCOMES && status == 0; i++) {
        seq2seq_free(model);
        model = seq2seq_load(c->directory, true, error);
        status = model != NULL ? run(c, model, i, &outcomes[i], error) : -1;
    }
    if (status == 0) status = compare_forward(c, outcomes, error);
    if (status == 0 && golden_wants(c->report, "grad")) status = compare_gradients(c, outcomes, model, error);
    for (size_t i = 0; i < TRAININGS && status == 0; i++)
        if (wants_training(c, i)) status = compare_training(c, i, outcomes, error);
    seq2seq_free(model);
    for (size_t i = 0; i < OUTCOMES; i++) outcome_free(&outcomes[i]);
    return status;
}

/* ---------------------------------------------------------------- drawing */

/* What is drawn at once: a row for each caption and one without any, B of them. */
typedef struct {
    seq2seq *model;
    int32_t *ids, *mask; /* (B+1,S) */
    int32_t *tokens;     /* (2B) */
    size_t *row_text;    /* (2B) */
    float *logits;       /* (2B,V) */
} greedy;

static void greedy_end(greedy *self) {
    seq2seq_free(self->model);
    free(self->ids);
    free(self->mask);
    free(self->tokens);
    free(self->row_text);
    free(self->logits);
}

/* The empty prompt is `<s></s>` padded with 1. */
static int greedy_begin(greedy *self, const comparison *c, limn_error *error) {
    enum { BOS = 0, EOS = 2, PAD = 1 };
    size_t B = c->batch.B, S = c->config.max_text_length, V = c->config.image_vocab_size + 1;
    *self = (greedy){0};
    if (S < 2 || c->config.encoder_vocab_size <= EOS) return limn_fail(error, "%s: no room for an empty prompt", c->directory);
    self->model = seq2seq_load(c->directory, false, error);
    self->ids = limn_allocate((B + 1) * S, sizeof *self->ids, error);
    self->mask = limn_allocate((B + 1) * S, sizeof *self->mask, error);
    self->tokens = limn_allocate(2 * B, sizeof *self->tokens, error);
    self->row_text = limn_allocate(2 * B, sizeof *self->row_text, error);
    self->logits = limn_allocate(2 * B * V, sizeof *self->logits, error);
    if (!self->model || !self->ids || !self->mask || !self->tokens || !self->row_text || !self->logits) return -1;
    memcpy(self->ids, c->batch.input_ids, B * S * sizeof *self->ids);
    memcpy(self->mask, c->batch.attention_mask, B * S * sizeof *self->mask);
    for (size_t s = 0; s < S; s++) {
        self->ids[B * S + s] = s == 0 ? BOS : s == 1 ? EOS : PAD;
        self->mask[B * S + s] = s < 2;
    }
    for (size_t r = 0; r < 2 * B; r++) self->row_text[r] = r < B ? r : B;
    return 0;
}

/* drawn (B,T): argmax over the codes of uncond + 3·(cond − uncond), through the cache; guided (B,T,codes), when not NULL, are
 * those. What follows a token is drawn as if `before` (B,T) had been drawn, when that is not NULL. */
static int greedy_draw(greedy *self, const comparison *c, const int32_t *before, int32_t *drawn, float *guided,
                       limn_error *error) {
    const float scale = 3;
    size_t B = c->batch.B, T = c->config.image_length, codes = c->config.image_vocab_size, V = codes + 1;
    seq2seq_decoder *decoder = seq2seq_decoder_create(self->model, 2 * B, error);
    if (decoder == NULL) return -1;
    for (size_t r = 0; r < 2 * B; r++) self->tokens[r] = (int32_t)c->config.decoder_start_token_id;
    seq2seq_decoder_begin(decoder, self->ids, self->mask, B + 1, self->row_text);
    for (size_t t = 0; t < T; t++) {
        seq2seq_decoder_step(decoder, self->tokens, self->logits);
        for (size_t b = 0; b < B; b++) {
            const float *cond = self->logits + b * V, *uncond = self->logits + (B + b) * V;
            float best = -INFINITY;
            for (size_t k = 0; k < codes; k++) {
                float logit = uncond[k] + scale * (cond[k] - uncond[k]);
                if (guided != NULL) guided[(b * T + t) * codes + k] = logit;
                if (logit > best) {
                    best = logit;
                    drawn[b * T + t] = (int32_t)k;
                }
            }
            self->tokens[b] = self->tokens[B + b] = before != NULL ? before[b * T + t] : drawn[b * T + t];
        }
    }
    seq2seq_decoder_free(decoder);
    return 0;
}

/* How far a lesser precision is from fp32 when both continue the same tokens. */
static int compare_precision(greedy *self, const comparison *c, nn_precision precision, double tolerance, const int32_t *before,
                             const float *exact, limn_error *error) {
    size_t n = c->batch.B * c->config.image_length, codes = c->config.image_vocab_size, equal = 0;
    int32_t *drawn = limn_allocate(n, sizeof *drawn, error);
    float *guided = limn_allocate(n * codes, sizeof *guided, error);
    int status = drawn && guided && seq2seq_prepare(self->model, precision, error) == 0 ? 0 : -1;
    if (status == 0) status = greedy_draw(self, c, before, drawn, guided, error);
    if (status == 0) {
        double difference = 0, sum = 0;
        for (size_t i = 0; i < n; i++) {
            double mean = 0;
            for (size_t k = 0; k < codes; k++) mean += (double)exact[i * codes + k] / (double)codes;
            for (size_t k = 0; k < codes; k++) {
                double error_here = (double)guided[i * codes + k] - (double)exact[i * codes + k];
                difference += error_here * error_here;
                sum += ((double)exact[i * codes + k] - mean) * ((double)exact[i * codes + k] - mean);
            }
            equal += drawn[i] == before[i];
        }
        double share = sqrt(difference / sum);
        char detail[160];
        snprintf(detail, sizeof detail, "guided logits differ by %.2f %% (at most %.0f), %zu of %zu tokens are the same",
                 100 * share, 100 * tolerance, equal, n);
        golden_check(c->report, nn_precision_name(precision), share <= tolerance, detail);
    }
    free(drawn);
    free(guided);
    return status;
}

static const char *const golden_backends[] = {"openblas", "onednn", "limn", "auto"};

static int compare_greedy(comparison *c, limn_error *error) {
    size_t n = c->batch.B * c->config.image_length, codes = c->config.image_vocab_size;
    const tensor *expected = tensor_file_find(c->file, "guided_greedy_scale3");
    greedy self;
    int32_t *drawn = limn_allocate(n, sizeof *drawn, error);
    float *guided = limn_allocate(n * codes, sizeof *guided, error);
    int status = greedy_begin(&self, c, error) == 0 && drawn && guided ? 0 : -1;
    if (status == 0) status = greedy_draw(&self, c, NULL, drawn, guided, error);
    if (status == 0) golden_compare_ids(c->report, "guided_greedy_scale3", drawn, n, expected);
    for (size_t i = 0; i < sizeof golden_backends / sizeof *golden_backends && status == 0; i++) {
        char name[64];
        if (nn_choose_backend(golden_backends[i], PRECISION_FP32, NULL) != 0) continue;
        snprintf(name, sizeof name, "guided_greedy_scale3, packed, %s", golden_backends[i]);
        status = seq2seq_prepare(self.model, PRECISION_FP32, error);
        if (status == 0) status = greedy_draw(&self, c, NULL, drawn, guided, error);
        if (status == 0) golden_compare_ids(c->report, name, drawn, n, expected);
    }
    if (status == 0) status = compare_precision(&self, c, PRECISION_BF16, 0.15, drawn, guided, error);
    if (status == 0) status = compare_precision(&self, c, PRECISION_INT8, 0.25, drawn, guided, error);
    greedy_end(&self);
    free(drawn);
    free(guided);
    return status;
}

/* ---------------------------------------------------------------- */

/* Exits with a usage error when --only has a name that is not one of the parts. */
static void check_only(const golden *report) {
    for (const char *at = report->only; at != NULL && *at;) {
        size_t length = strcspn(at, ",");
        bool known = false;
        for (size_t i = 0; i < PARTS; i++) known = known || (strlen(parts[i]) == length && strncmp(at, parts[i], length) == 0);
        if (!known) {
            fprintf(stderr, "golden-seq2seq: --only: unknown name '%.*s'; known:", (int)length, at);
            for (size_t i = 0; i < PARTS; i++) fprintf(stderr, " %s", parts[i]);
            fprintf(stderr, "\n");
            exit(LIMN_EXIT_USAGE);
        }
        at += length + (at[length] == ',');
    }
}

int main(int argc, char **argv) {
    golden report;
    limn_error error = {0};
    nn_prepare_threads(argv);
    golden_begin(&report, "golden-seq2seq", argc, argv);
    check_only(&report);
    comparison c = {.report = &report, .directory = report.path};
    int status = begin(&c, &error);
    if (status == 0 && (report.only == NULL || strcmp(report.only, "guided_greedy_scale3") != 0))
        status = compare_floats(&c, &error);
    if (status == 0 && golden_wants(&report, "guided_greedy_scale3")) status = compare_greedy(&c, &error);
    if (status != 0) golden_error(&report, &error);
    end(&c);
    if (c.over > 0)
        printf("note: of %zu results over their tolerance, %zu are moved over it by the weights' last bit alone\n", c.over,
               c.rounding);
    return golden_finish(&report);
}
