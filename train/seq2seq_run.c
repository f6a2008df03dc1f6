/* limn-train: caption tokens to picture tokens. */
#include "seq2seq/seq2seq.h"
#include "tokenizer/tokenizer.h"
#include "train/data.h"
#include "train/loop.h"
#include "train/seq2seq_samples.h"
#include "vqgan/vqgan.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const OWN_KEYS[] = {"condition_dropout", "sample_prompts", "sample_guidance", "sample_top_k", NULL};
static const char *const VQGAN_FILES[] = {"config.json", "model.safetensors", NULL};

typedef struct {
    train_settings settings;
    double condition_dropout; /* share of captions that are replaced by the empty one, for guidance (arXiv 2207.12598) */
    seq2seq *model;
    caption_encoder captions;
    const char *words; /* its folder, whose word frequencies go into every model folder */
    vqgan *pictures;   /* the shards must have been made by it */
    const char *vqgan; /* its folder, whose files go into every model folder */
    pair_set data, valid;
    float *m, *v; /* AdamW's moments */
    limn_arena *arena;
    uint64_t *order, epoch;
    int32_t *input_ids, *attention_mask, *decoder_input_ids, *labels; /* of one forward pass */
    double loss;
    train_metric *metrics;
    seq2seq_samples samples;
    train_run folder;
} seq2seq_run;

static int fill_row(seq2seq_run *run, const pair_set *set, size_t row, size_t n, uint64_t choice, bool blank,
                    limn_error *error) {
    const seq2seq_config *config = seq2seq_get_config(run->model);
    size_t S = config->max_text_length, T = config->image_length, size = 0;
    const char *caption = pair_set_caption(set, n, choice, &size);
    int32_t *ids = run->input_ids + row * S, *mask = run->attention_mask + row * S;
    if (blank ? caption_encoder_encode_blank(&run->captions, ids, mask, S, error)
              : caption_encoder_encode(&run->captions, caption, size, ids, mask, S, error))
        return -1;
    for (size_t t = 0; t < T; t++) run->labels[row * T + t] = set->tokens[n * T + t];
    return 0;
}

static seq2seq_batch batch_of(seq2seq_run *run, size_t B) {
    seq2seq_shift_right(seq2seq_get_config(run->model), run->decoder_input_ids, run->labels, B);
    return (seq2seq_batch){B, run->input_ids, run->attention_mask, run->decoder_input_ids, run->labels};
}

/* Adds the gradients of one step: `accumulation` forward passes of `batch_size` pairs. */
static int accumulate(seq2seq_run *run, uint64_t step, limn_error *error) {
    const train_settings *settings = &run->settings;
    size_t B = settings->batch_size;
    uint64_t blank_stream = limn_random_stream("blank captions"), choice_stream = limn_random_stream("caption choice");
    parameters_zero_grads(seq2seq_get_parameters(run->model));
    run->loss = 0;
    for (size_t pass = 0; pass < settings->accumulation; pass++) {
        uint64_t first = ((step - 1) * settings->accumulation + pass) * B;
        for (size_t row = 0; row < B; row++) {
            uint64_t draw = first + row;
            size_t n = data_order_at(run->order, &run->epoch, run->data.count, settings->seed, draw);
            bool blank = limn_random_uniform(settings->seed, blank_stream, draw) < (float)run->condition_dropout;
            if (fill_row(run, &run->data, row, n, limn_random_u32(settings->seed, choice_stream, draw), blank, error))
                return -1;
        }
        seq2seq_batch batch = batch_of(run, B);
        seq2seq_step_options options = {1.0f / (float)settings->accumulation, settings->seed, step, pass};
        run->loss += seq2seq_forward_backward(run->model, &batch, &options, run->arena) / (double)settings->accumulation;
        limn_arena_release(run->arena, 0);
    }
    return 0;
}

static int rehearse(void *self, limn_error *error) {
    seq2seq_run *run = self;
    return accumulate(run, 1, error);
}

static int step(void *self, uint64_t number, limn_error *error) {
    seq2seq_run *run = self;
    if (accumulate(run, number, error)) return -1;
    train_before_update(&run->folder);
    float norm = train_adamw(seq2seq_get_parameters(run->model), run->m, run->v, &run->settings, number);
    run->metrics[0].value = (float)run->loss;
    run->metrics[1].value = norm;
    return 0;
}

/* Mean loss over all pairs of the validation set, each with its first caption. */
static int validate(void *self, json_t *line, limn_error *error) {
    seq2seq_run *run = self;
    double sum = 0;
    size_t B = run->settings.batch_size;
    for (size_t first = 0; first < run->valid.count; first += B) {
        size_t rows = run->valid.count - first < B ? run->valid.count - first : B;
        for (size_t row = 0; row < rows; row++)
            if (fill_row(run, &run->valid, row, first + row, 0, false, error)) return -1;
        seq2seq_batch batch = batch_of(run, rows);
        sum += (double)rows * seq2seq_evaluate(run->model, &batch, NULL, NULL, NULL, run->arena);
        limn_arena_release(run->arena, 0);
    }
    double mean = sum / (double)run->valid.count;
    json_object_set_new(line, "valid_loss", isfinite(mean) ? json_real(mean) : json_null());
    return 0;
}

static int sample(void *self, picture *out, limn_error *error) {
    seq2seq_run *run = self;
    return seq2seq_samples_draw(&run->samples, run->model, run->pictures, out, error);
}

/* What is drawn: sample_prompts, or captions from all over the validation set. */
static int choose_samples(seq2seq_run *run, const json_t *section, const char *file, limn_error *error) {
    if (seq2seq_samples_create(&run->samples, seq2seq_get_config(run->model)->max_text_length, error) ||
        seq2seq_samples_add_prompts(&run->samples, &run->captions, section, file, error))
        return -1;
    size_t count = run->valid.count < SAMPLE_CAPTIONS ? run->valid.count : SAMPLE_CAPTIONS;
    if (run->samples.options.count) return 0;
    for (size_t i = 0; i < count; i++) {
        size_t size;
        const char *caption = pair_set_caption(&run->valid, i * run->valid.count / count, 0, &size);
        if (seq2seq_samples_add(&run->samples, &run->captions, caption, size, error)) return -1;
    }
    return 0;
}

static int save(void *self, const char *directory, limn_error *error) {
    seq2seq_run *run = self;
    char folder[4096], from[4096], to[4096];
    if (seq2seq_save(run->model, directory, error) || tokenizer_save(run->captions.tokenizer, directory, error) ||
        limn_path_join(folder, sizeof folder, directory, "vqgan", error) || limn_make_directories(folder, error))
        return -1;
    for (size_t i = 0; VQGAN_FILES[i]; i++)
        if (limn_path_join(from, sizeof from, run->vqgan, VQGAN_FILES[i], error) ||
            limn_path_join(to, sizeof to, folder, VQGAN_FILES[i], error) || train_link_or_copy(from, to, error))
            return -1;
    if (!run->captions.normalizer) return 0;
    if (limn_path_join(from, sizeof from, run->words, TEXT_NORMALIZER_WORDS, error) ||
        limn_path_join(to, sizeof to, directory, TEXT_NORMALIZER_WORDS, error))
        return -1;
    return limn_file_exists(from) ? train_link_or_copy(from, to, error) : 0;
}

/* Weights from another folder into the model in training, by name. */
static int load(void *self, const char *directory, limn_error *error) {
    seq2seq_run *run = self;
    seq2seq *source = seq2seq_load(directory, false, error);
    if (!source) return -1;
    int status = train_copy_parameters(seq2seq_get_parameters(run->model), seq2seq_get_parameters(source), directory, error);
    seq2seq_free(source);
    return status;
}

static int read_set(void *self, bool valid, const limn_strings *paths, size_t *count, limn_error *error) {
    seq2seq_run *run = self;
    pair_set *set = valid ? &run->valid : &run->data;
    if (pair_set_read(set, paths, vqgan_token_count(run->pictures), vqgan_get_config(run->pictures)->n_embed,
                      vqgan_get_sha256(run->pictures), error))
        return -1;
    *count = set->count;
    return 0;
}

static int allocate(seq2seq_run *run, limn_error *error) {
    const seq2seq_config *config = seq2seq_get_config(run->model);
    size_t B = run->settings.batch_size, S = config->max_text_length, T = config->image_length;
    size_t size = seq2seq_get_parameters(run->model)->size;
    run->m = limn_allocate(size, sizeof *run->m, error);
    run->v = limn_allocate(size, sizeof *run->v, error);
    run->order = limn_allocate(run->data.count, sizeof *run->order, error);
    run->input_ids = limn_allocate(B * S, sizeof *run->input_ids, error);
    run->attention_mask = limn_allocate(B * S, sizeof *run->attention_mask, error);
    run->decoder_input_ids = limn_allocate(B * T, sizeof *run->decoder_input_ids, error);
    run->labels = limn_allocate(B * T, sizeof *run->labels, error);
    run->arena = limn_arena_create(seq2seq_activation_floats(config, B) * sizeof(float), error);
    return run->m && run->v && run->order && run->input_ids && run->attention_mask && run->decoder_input_ids && run->labels &&
                   run->arena
               ? 0
               : -1;
}

static void release(seq2seq_run *run) {
    seq2seq_free(run->model);
    caption_encoder_free(&run->captions);
    vqgan_free(run->pictures);
    pair_set_free(&run->data);
    pair_set_free(&run->valid);
    limn_arena_destroy(run->arena);
    seq2seq_samples_free(&run->samples);
    void *blocks[] = {run->m, run->v, run->order, run->input_ids, run->attention_mask, run->decoder_input_ids, run->labels};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) free(blocks[i]);
}

static int read_settings(seq2seq_run *run, const json_t *config, const char *file, limn_error *error) {
    json_t *section = train_section(config, file, "train", "seq2seq", error);
    run->settings = (train_settings){.schedule = {.learning_rate = 5e-4, .warmup_steps = 100, .steps = 1000},
                                     .adamw = {.beta1 = 0.9, .beta2 = 0.99, .epsilon = 1e-8, .weight_decay = 0.01},
                                     .max_grad_norm = 1,
                                     .batch_size = 8,
                                     .accumulation = 1,
                                     .log_every = 20,
                                     .valid_every = 200,
                                     .sample_every = 1000,
                                     .checkpoint_every = 500,
                                     .keep_checkpoints = 2,
                                     .keep_best = true,
                                     .max_loss_rise = 3,
                                     .seed = 1};
    run->condition_dropout = 0.1;
    sampling_options *drawing = &run->samples.options;
    *drawing = (sampling_options){.guidance = 3, .temperature = 1, .top_k = 256, .top_p = 1};
    if (!section || train_settings_read(&run->settings, section, file, OWN_KEYS, error) ||
        limn_json_get_float(section, file, "condition_dropout", 0, 1, &run->condition_dropout, error) ||
        limn_json_get_float(section, file, "sample_guidance", -1e3, 1e3, &drawing->guidance, error) ||
        limn_json_get_size(section, file, "sample_top_k", 0, SIZE_MAX / 2, &drawing->top_k, error))
        return -1;
    drawing->seed = run->settings.seed; /* the same at every step: one sees what has changed */
    return 0;
}

/* The model, its tokenizer and its data; what decides the run is gathered in `decides`. */
static int prepare(seq2seq_run *run, const train_options *options, json_t *config, json_t *decides, limn_error *error) {
    json_t *section = train_section(config, options->config, "seq2seq", NULL, error), *inputs = json_object();
    json_object_set(decides, "seq2seq", section);
    json_object_set(decides, "train", json_object_get(json_object_get(config, "train"), "seq2seq"));
    json_object_set_new(decides, "inputs", inputs);
    if (options->init) json_object_set_new(inputs, "init", json_string(options->init));
    run->vqgan = options->vqgan;
    run->words = options->tokenizer;
    if (!section || vqgan_need_converted(options->vqgan, error) ||
        !(run->pictures = vqgan_load(options->vqgan, false, error)) ||
        caption_encoder_load(&run->captions, options->tokenizer, json_is_true(json_object_get(section, "normalize_text")),
                             error) ||
        train_complete_seq2seq(section, options->config, tokenizer_vocabulary_size(run->captions.tokenizer),
                               vqgan_get_config(run->pictures)->n_embed, vqgan_token_count(run->pictures), error))
        return -1;
    json_object_set_new(inputs, "vqgan_sha256", json_string(vqgan_get_sha256(run->pictures)));
    if (train_read_sets(options, ".h5", inputs, run, read_set, error)) return -1;

    seq2seq_config model_config;
    if (seq2seq_config_read(&model_config, section, options->config, true, error)) return -1;
    run->model = seq2seq_create(&model_config, run->settings.seed, true, error);
    seq2seq_config_free(&model_config);
    if (!run->model || allocate(run, error) ||
        choose_samples(run, train_section(config, options->config, "train", "seq2seq", error), options->config, error))
        return -1;
    return options->init ? load(run, options->init, error) : 0;
}

int train_seq2seq(const train_options *options, limn_error *error) {
    json_t *config = train_configuration(options, error);
    if (!config) return -1;
    seq2seq_run run = {.epoch = UINT64_MAX, .folder = {.lock = -1}};
    json_t *decides = json_object();
    int status = read_settings(&run, config, options->config, error);
    if (status == 0) status = prepare(&run, options, config, decides, error);
    if (status == 0) status = train_run_open(&run.folder, options, decides, &run.settings, error);
    if (status == 0) {
        parameters *weights = seq2seq_get_parameters(run.model);
        train_task task = {.self = &run,
                           .section = "train.seq2seq",
                           .unit = "pairs",
                           .flops_per_step =
                               (double)run.settings.accumulation *
                               seq2seq_training_flops(seq2seq_get_config(run.model), run.settings.batch_size, NULL),
                           .precision = PRECISION_FP32,
                           .weights = weights,
                           .samples_per_step = run.settings.batch_size * run.settings.accumulation,
                           .metrics = {{.name = "train_loss"}, {.name = "grad_norm"}},
                           .metric_count = 2,
                           .state = {{"adamw_m", weights->size, run.m}, {"adamw_v", weights->size, run.v}},
                           .state_count = 2,
                           .rehearse = rehearse,
                           .step = step,
                           .fails_before_change = true,
                           .validate = run.valid.count ? validate : NULL,
                           .valid_key = "valid_loss",
                           .sample = run.samples.options.count ? sample : NULL,
                           .sample_text = run.samples.text.data,
                           .save = save,
                           .load = load};
        run.metrics = task.metrics;
        limn_log(LIMN_LOG_INFO, "%.1f million weights, %zu pairs, %zu kept for validation, %s", (double)weights->size * 1e-6,
                 run.data.count, run.valid.count, nn_backend_description());
        status = train_loop(&run.folder, &task, &run.settings, options, error);
    }
    train_run_close(&run.folder);
    release(&run);
    json_decref(decides);
    json_decref(config);
    return status;
}
