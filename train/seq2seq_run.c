/* limn-train: caption tokens to picture tokens. */
#include "seq2seq/seq2seq.h"
#include "tokenizer/tokenizer.h"
#include "train/seq2seq_samples.h"
#include "train/seq2seq_settings.h"
#include "train/watch.h"
#include "vqgan/vqgan.h"

#include <stdlib.h>

/* What decides how captions become tokens. tokenizer.json stands for vocab.json and merges.txt where it is there. */
static const char *const TOKENIZER_FILES[] = {"tokenizer.json", "special_tokens_map.json", "tokenizer_config.json",
                                              TEXT_NORMALIZER_WORDS, NULL};
static const char *const PLAIN_TOKENIZER_FILES[] = {"vocab.json", "merges.txt", "special_tokens_map.json",
                                                    "tokenizer_config.json", TEXT_NORMALIZER_WORDS, NULL};
static const char *const VQGAN_FILES[] = {"config.json", "model.safetensors", NULL};

typedef struct {
    seq2seq_settings settings;
    world *all;
    pair_share share; /* of each step, this rank's */
    seq2seq *model;
    caption_encoder captions;
    const char *words; /* its folder, whose word frequencies go into every model folder */
    vqgan *pictures;   /* the shards must have been made by it */
    const char *vqgan; /* its folder, whose files go into every model folder */
    pair_data data;
    train_optimizer optimizer;
    limn_arena *arena;
    uint64_t rehearsals;
    pair_rows rows; /* of one forward pass */
    double loss;
    train_metric *metrics;
    seq2seq_samples samples;
    train_run folder;
} seq2seq_run;

static seq2seq_batch batch_of(seq2seq_run *run, size_t B) {
    const pair_rows *rows = &run->rows;
    seq2seq_shift_right(seq2seq_get_config(run->model), rows->decoder_input_ids, rows->labels, B);
    return (seq2seq_batch){B, rows->input_ids, rows->attention_mask, rows->decoder_input_ids, rows->labels};
}

/* Dropout is a function of this: of the place of a forward pass among those of all ranks where these are of the same pairs for any
 * number of ranks, else of its first pair's. */
static uint64_t pass_number(const seq2seq_run *run, uint64_t row) {
    size_t B = run->settings.train.batch_size;
    return run->share.stride % (B * run->share.ranks) == 0 ? row / B : row;
}

static void announce(void *self, size_t first, size_t count) {
    train_optimizer_ready(&((seq2seq_run *)self)->optimizer, first, count);
}

/* Adds the gradients of this rank's pairs of one step, in forward passes of at most `batch_size`. With `announces` they are on their way
 * to their owners as soon as the last pass has made them. */
static int accumulate(seq2seq_run *run, uint64_t step, bool announces, limn_error *error) {
    const train_settings *settings = &run->settings.train;
    const pair_share *share = &run->share;
    run->loss = 0;
    for (uint64_t done = 0; done < share->count; done += settings->batch_size) {
        uint64_t left = share->count - done, row = share->first + done;
        size_t rows = left < settings->batch_size ? (size_t)left : settings->batch_size;
        if (pair_stream_fill(run->data.stream, (step - 1) * share->stride + row, rows, run->rows.input_ids,
                             run->rows.attention_mask, run->rows.labels, error))
            return -1;
        seq2seq_batch batch = batch_of(run, rows);
        seq2seq_step_options options = {.grad_scale = (float)rows / (float)share->stride,
                                        .first = done == 0,
                                        .seed = settings->seed,
                                        .step = step,
                                        .micro_batch = pass_number(run, row),
                                        .precision = run->settings.precision,
                                        .gradients_ready = announces && rows == left ? announce : NULL,
                                        .self = run};
        run->loss += seq2seq_forward_backward(run->model, &batch, &options, run->arena) * (double)rows / (double)share->stride;
        limn_arena_release(run->arena, 0);
    }
    return 0;
}

static int rehearse(void *self, limn_error *error) {
    seq2seq_run *run = self;
    return accumulate(run, ++run->rehearsals, false, error);
}

static int step(void *self, uint64_t number, limn_error *error) {
    seq2seq_run *run = self;
    double begin = limn_seconds(), waited = pair_stream_waited(run->data.stream), norm;
    train_optimizer_begin(&run->optimizer);
    if (accumulate(run, number, true, error) || train_optimizer_sum(&run->optimizer, &norm, error) ||
        world_sum(run->all, &run->loss, 1, error))
        return -1;
    train_before_update(&run->folder);
    if (train_optimizer_step(&run->optimizer, &run->settings.train.schedule, run->settings.train.max_grad_norm, norm, number, NULL, error))
        return -1;
    run->metrics[0].value = (float)run->loss;
    run->metrics[1].value = (float)norm;
    run->metrics[2].value = (float)((pair_stream_waited(run->data.stream) - waited) / (limn_seconds() - begin));
    return 0;
}

/* Mean loss over all pairs of a set kept from training, each with its first caption. Each rank takes its part. */
static int measure_loss(seq2seq_run *run, valid_set *kept, double *out, limn_error *error) {
    size_t B = run->settings.train.batch_size;
    double sum = 0;
    uint64_t begin = kept->epoch++ * kept->set.total + kept->first; /* every epoch of such a stream is the same */
    for (uint64_t done = 0; done < kept->count; done += B) {
        size_t rows = kept->count - done < B ? (size_t)(kept->count - done) : B;
        if (pair_stream_fill(kept->stream, begin + done, rows, run->rows.input_ids, run->rows.attention_mask, run->rows.labels, error))
            return -1;
        seq2seq_batch batch = batch_of(run, rows);
        sum += (double)rows * seq2seq_evaluate(run->model, &batch, run->settings.precision, NULL, NULL, NULL, run->arena);
        limn_arena_release(run->arena, 0);
    }
    if (world_sum(run->all, &sum, 1, error)) return -1;
    *out = sum / (double)kept->set.total;
    return 0;
}

static int validate(void *self, json_t *line, limn_error *error) {
    seq2seq_run *run = self;
    for (size_t i = 0; i < run->data.valid_count; i++) {
        valid_set *kept = &run->data.valid[i];
        double mean;
        if (measure_loss(run, kept, &mean, error)) return -1;
        if (i == 0) train_set_number(line, "valid_loss", mean);
        train_set_number(line, kept->metric, mean);
    }
    if (!run->optimizer.ema) return 0;
    double mean;
    if (train_optimizer_exchange(&run->optimizer, error)) return -1;
    int status = measure_loss(run, &run->data.valid[0], &mean, error);
    if (train_optimizer_exchange(&run->optimizer, status ? NULL : error) || status) return -1;
    train_set_number(line, "valid_loss_ema", mean);
    return 0;
}

static int sample(void *self, picture *out, limn_error *error) {
    seq2seq_run *run = self;
    return seq2seq_samples_draw(&run->samples, run->model, run->pictures, out, error);
}

/* What is drawn: sample_prompts, or captions from all over the first set kept from training. Rank 0 draws. */
static int choose_samples(seq2seq_run *run, const json_t *section, const char *file, limn_error *error) {
    seq2seq_samples *samples = &run->samples;
    samples->options = run->settings.drawing;
    if (seq2seq_samples_create(samples, seq2seq_get_config(run->model)->max_text_length, error) ||
        seq2seq_samples_add_prompts(samples, &run->captions, section, file, error))
        return -1;
    if (samples->options.count || !run->data.valid_count || !run->settings.train.sample_every || world_rank(run->all)) return 0;
    const pair_set *kept = &run->data.valid[0].set;
    size_t count = kept->total < SAMPLE_CAPTIONS ? (size_t)kept->total : SAMPLE_CAPTIONS;
    uint64_t pairs[SAMPLE_CAPTIONS];
    limn_buffer captions[SAMPLE_CAPTIONS] = {{0}};
    for (size_t i = 0; i < count; i++) pairs[i] = i * kept->total / count;
    int status = pair_set_captions(kept, pairs, count, captions, error);
    for (size_t i = 0; i < count; i++) {
        if (status == 0) status = seq2seq_samples_add(samples, &run->captions, captions[i].data, captions[i].size, error);
        limn_buffer_free(&captions[i]);
    }
    return status;
}

/* The weights are saved while the next step is computed: nothing may be changed here. */
static int save_model(const seq2seq_run *run, const float *values, const char *directory, limn_error *error) {
    char folder[4096], from[4096], to[4096];
    if (seq2seq_save_values(run->model, values, directory, error) || tokenizer_save(run->captions.tokenizer, directory, error) ||
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

/* The moving average is a model folder of its own inside. */
static int save(void *self, const char *directory, limn_error *error) {
    seq2seq_run *run = self;
    char folder[4096];
    if (save_model(run, run->optimizer.weights->storage, directory, error)) return -1;
    if (!run->optimizer.ema) return 0;
    if (limn_path_join(folder, sizeof folder, directory, "ema", error)) return -1;
    return save_model(run, run->optimizer.ema, folder, error);
}

static int collect(void *self, limn_error *error) {
    return train_optimizer_collect(&((seq2seq_run *)self)->optimizer, error);
}

static int spread(void *self, limn_error *error) {
    return train_optimizer_spread(&((seq2seq_run *)self)->optimizer, error);
}

static int load(void *self, const char *directory, limn_error *error) {
    return seq2seq_load_into(((seq2seq_run *)self)->model, directory, error);
}

static int allocate(seq2seq_run *run, limn_error *error) {
    const seq2seq_config *config = seq2seq_get_config(run->model);
    size_t B = run->settings.train.batch_size;
    if (pair_rows_create(&run->rows, B, config->max_text_length, config->image_length, error)) return -1;
    run->arena = limn_arena_create(seq2seq_training_bytes(run->model, B, run->settings.precision), error);
    if (!run->arena) return -1;
    return train_optimizer_create(&run->optimizer, seq2seq_get_parameters(run->model), &run->settings.train.optimizer, NULL, run->all,
                                  run->settings.wire, error);
}

static void release(seq2seq_run *run) {
    pair_data_close(&run->data); /* its threads use the rest */
    seq2seq_free(run->model);
    caption_encoder_free(&run->captions);
    vqgan_free(run->pictures);
    limn_arena_destroy(run->arena);
    seq2seq_samples_free(&run->samples);
    train_optimizer_free(&run->optimizer);
    pair_rows_free(&run->rows);
}

static int note_tokenizer(const char *directory, json_t *inputs, limn_error *error) {
    char path[4096], hash[65];
    if (limn_path_join(path, sizeof path, directory, TOKENIZER_FILES[0], error) ||
        train_hash_files(directory, limn_file_exists(path) ? TOKENIZER_FILES : PLAIN_TOKENIZER_FILES, hash, error))
        return -1;
    json_object_set_new(inputs, "tokenizer_sha256", json_string(hash));
    return 0;
}

/* Beside --init the section seq2seq may be left out: then it is that model's. */
static int take_section(json_t *config, const char *init, limn_error *error) {
    char path[4096];
    if (limn_path_join(path, sizeof path, init, "config.json", error)) return -1;
    json_t *section = limn_json_load(path, error);
    if (!section) return -1;
    return json_object_set_new(config, "seq2seq", section) ? limn_fail(error, "%s: no memory for it", path) : 0;
}

/* As many words as the tokenizer has, if these have become more. */
static int widen(json_t *section, const char *init, size_t words, limn_error *error) {
    size_t known = 0;
    if (limn_json_get_size(section, init, "encoder_vocab_size", 1, SIZE_MAX / 2, &known, error)) return -1;
    if (known < words) json_object_set_new(section, "encoder_vocab_size", json_integer((json_int_t)words));
    return 0;
}

/* The model, its tokenizer and its data; what decides the run is gathered in `decides`. */
static int prepare(seq2seq_run *run, const train_options *options, json_t *config, json_t *decides, limn_error *error) {
    const bool from_init = options->init && !json_object_get(config, "seq2seq");
    if (from_init && take_section(config, options->init, error)) return -1;
    json_t *section = train_section(config, options->config, "seq2seq", NULL, error), *inputs = json_object();
    json_object_set(decides, "seq2seq", section);
    json_object_set(decides, "train", json_object_get(json_object_get(config, "train"), "seq2seq"));
    json_object_set_new(decides, "inputs", inputs);
    if (options->init) json_object_set_new(inputs, "init", json_string(options->init));
    if (options->train) json_object_set_new(inputs, "train", json_string(options->train));
    const seq2seq_tuning tuning = {.train = options->train, .lora = run->settings.lora};
    run->vqgan = options->vqgan;
    run->words = options->tokenizer;
    if (!section || vqgan_need_converted(options->vqgan, error) ||
        !(run->pictures = vqgan_load(options->vqgan, false, error)) ||
        caption_encoder_load(&run->captions, options->tokenizer, json_is_true(json_object_get(section, "normalize_text")),
                             error) ||
        (from_init && widen(section, options->init, tokenizer_vocabulary_size(run->captions.tokenizer), error)) ||
        train_complete_seq2seq(section, options->config, tokenizer_vocabulary_size(run->captions.tokenizer),
                               vqgan_get_config(run->pictures)->n_embed, vqgan_token_count(run->pictures), error))
        return -1;
    json_object_set_new(inputs, "vqgan_sha256", json_string(vqgan_get_sha256(run->pictures)));
    if (note_tokenizer(options->tokenizer, inputs, error)) return -1;

    seq2seq_config model_config;
    if (seq2seq_config_read(&model_config, section, options->config, !from_init, error)) return -1;
    size_t text_length = model_config.max_text_length;
    pair_needs needs = {.length = vqgan_token_count(run->pictures),
                        .codebook_size = vqgan_get_config(run->pictures)->n_embed,
                        .vqgan_sha256 = vqgan_get_sha256(run->pictures)};
    if (pair_data_open(&run->data, options, &run->settings.data, &needs, &run->captions, text_length, &run->share, run->settings.train.seed,
                       inputs, error) == 0)
        run->model = seq2seq_create_tuned(&model_config, run->settings.train.seed, &tuning, error);
    seq2seq_config_free(&model_config);
    if (!run->model || (options->init && load(run, options->init, error)) || allocate(run, error)) return -1;
    return choose_samples(run, train_section(config, options->config, "train", "seq2seq", error), options->config, error);
}

/* Where all ranks have stopped after the same step, they leave together, and rank 0 says so. */
static int leave(world *all, int status, bool stopped, limn_error *error) {
    bool leads = world_rank(all) == 0;
    if (!stopped) return world_finish(all, status, error);
    (void)world_finish(all, 0, NULL);
    if (!leads) return 0;
    if (error) error->exit_code = LIMN_EXIT_INTERRUPTED; /* the signal may have come to another rank */
    return status;
}

int train_seq2seq(const train_options *options, limn_error *error) {
    json_t *config = train_configuration(options, error);
    if (!config) return -1;
    seq2seq_run run = {.all = world_start(error), .folder = {.lock = -1}};
    json_t *decides = json_object();
    int status = run.all ? 0 : -1;
    if (status == 0) {
        limn_share_threads(world_neighbours(run.all));
        if (world_rank(run.all) && limn_get_log_level() < LIMN_LOG_ERROR) limn_set_log_level(LIMN_LOG_ERROR); /* rank 0 speaks */
        status = seq2seq_settings_read(&run.settings, config, options->config, error);
        if (status == 0)
            status = pair_share_of(&run.share, world_rank(run.all), world_size(run.all), run.settings.train.batch_size,
                                   run.settings.train.accumulation, error);
        if (status == 0 && options->backend != NULL) status = nn_choose_backend(options->backend, run.settings.precision, error);
        status = world_agree(run.all, status, error);
    }
    if (status == 0) status = world_agree(run.all, prepare(&run, options, config, decides, error), error);
    if (status == 0) status = train_run_open(&run.folder, options, decides, &run.settings.train, run.all, error);
    if (status == 0) {
        parameters *weights = seq2seq_get_parameters(run.model);
        train_task task = {.self = &run,
                           .section = "train.seq2seq",
                           .unit = "pairs",
                           .flops_per_step =
                               (double)run.settings.train.accumulation *
                               seq2seq_training_flops(seq2seq_get_config(run.model), run.settings.train.batch_size, NULL),
                           .precision = run.settings.precision,
                           .weights = weights,
                           .samples_per_step = run.settings.train.batch_size * run.settings.train.accumulation,
                           .metrics = {{.name = "train_loss"}, {.name = "grad_norm"}, {.name = "data_wait"}},
                           .metric_count = 3,
                           .all = run.all,
                           .shared = &run.optimizer.state,
                           .gradient_squares = world_size(run.all) > 1 ? run.optimizer.squares : NULL,
                           .spread = spread,
                           .collect = collect,
                           .rehearse = rehearse,
                           .step = step,
                           .fails_before_change = true,
                           .validate = run.data.valid_count ? validate : NULL,
                           .valid_key = "valid_loss",
                           .sample = run.samples.options.count ? sample : NULL,
                           .sample_text = run.samples.text.data,
                           .save = save,
                           .load = load};
        task.state_count = train_optimizer_state(&run.optimizer, "", task.state);
        run.metrics = task.metrics;
        unsigned long long kept = 0;
        for (size_t i = 0; i < run.data.valid_count; i++) kept += run.data.valid[i].set.total;
        char ranks[64] = "";
        if (world_size(run.all) > 1) snprintf(ranks, sizeof ranks, ", %zu ranks", world_size(run.all));
        limn_log(LIMN_LOG_INFO, "%.1f million weights, %llu pairs, %llu kept for validation, %s%s", (double)weights->size * 1e-6,
                 (unsigned long long)run.data.set.total, kept, nn_backend_description(), ranks);
        status = train_loop(&run.folder, &task, &run.settings.train, options, error);
    }
    bool stopped = run.folder.stopped;
    train_run_close(&run.folder);
    status = leave(run.all, status, stopped, error);
    release(&run);
    json_decref(decides);
    json_decref(config);
    return status;
}
