/* limn-vqgan train: pictures to a codebook and back. */
#include "pictures/pictures.h"
#include "train/data.h"
#include "train/loop.h"
#include "vqgan/vqgan.h"

#include <stdlib.h>
#include <string.h>

static const char *const OWN_KEYS[] = {"codebook_weight", "discriminator_weight", "discriminator_start", "discriminator_layers",
                                       "discriminator_width", "discriminator_learning_rate", "codebook_start", "revive_every",
                                       "revive_threshold", NULL};

enum { FIT_ROWS_PER_CODE = 64, FIT_ITERATIONS = 10 }; /* k-means */

enum { SAMPLE_COLUMNS = 4, SAMPLE_ROWS = 8 }; /* of pairs original | reconstruction */

enum { L1, CODES_USED, PERPLEXITY, REVIVED, CODEBOOK, GENERATOR, ADAPTIVE_WEIGHT, DISCRIMINATOR, GRAD_NORM, METRICS };

typedef struct {
    train_settings settings, discriminator_settings; /* the same but for the learning rate */
    vqgan_loss_options losses;
    size_t discriminator_start, discriminator_layers, discriminator_width, revive_every;
    size_t codebook_start;   /* steps that go without a codebook, so that the latents have learnt what there is to tell apart */
    double codebook_start_share; /* the same as a share of all steps */
    double revive_threshold; /* uses of a code in the last batches (decayed), as a share of the mean code's */
    vqgan *model;
    vqgan_discriminator *discriminator;
    picture_set data, valid;
    float *m, *v, *discriminator_m, *discriminator_v; /* AdamW's moments */
    float *code_counts;  /* (n_embed), decayed: for the revival */
    float *window_counts; /* (n_embed), since the last line of metrics: for what is reported */
    bool *revived;
    size_t revived_last; /* by the last revival */
    limn_arena *arena;
    uint64_t *order, epoch;
    float *pictures, *reconstruction, *latent;
    int32_t *tokens;
    train_metric *metrics;
    train_run folder;
} vqgan_run;

static size_t side_of(const vqgan_run *run) {
    return vqgan_get_config(run->model)->resolution;
}

/* Pictures first, first+1, … of an order into run->pictures, in the model's range. */
static int read_pictures(vqgan_run *run, const picture_set *set, const size_t *which, size_t B, limn_error *error) {
    size_t side = side_of(run), floats = side * side * 3;
    int failed = 0;
#pragma omp parallel for schedule(dynamic) reduction(| : failed)
    for (size_t b = 0; b < B; b++) {
        limn_error why = {0};
        float *out = run->pictures + b * floats;
        if (picture_set_decode(set, which[b], side, out, &why)) {
#pragma omp critical
            limn_fail(error, "picture %zu: %s", which[b], why.message);
            failed = 1;
        } else vqgan_pixels_to_model(run->model, out, out, floats);
    }
    return failed ? -1 : 0;
}

/* Places the codes where the latents lie after the steps without a codebook. */
static int fit_codebook(vqgan_run *run, limn_error *error) {
    const vqgan_config *config = vqgan_get_config(run->model);
    parameters *weights = vqgan_get_parameters(run->model);
    const parameter *codebook = parameters_find(weights, "quantize.embedding.weight");
    size_t B = run->settings.batch_size, L = vqgan_token_count(run->model), width = config->embed_dim;
    size_t rows = config->n_embed * FIT_ROWS_PER_CODE, all = run->data.count * L;
    if (rows > all) rows = all;
    size_t pictures = (rows + L - 1) / L, which[4096];
    float *latents = limn_allocate(pictures * L, width * sizeof *latents, error);
    uint64_t *order = limn_allocate(run->data.count, sizeof *order, error), epoch = UINT64_MAX;
    int status = latents && order ? 0 : -1;
    for (size_t first = 0; status == 0 && first < pictures; first += B) {
        size_t count = pictures - first < B ? pictures - first : B;
        for (size_t b = 0; b < count; b++) which[b] = data_order_at(order, &epoch, run->data.count, run->settings.seed, first + b);
        status = read_pictures(run, &run->data, which, count, error);
        if (status == 0) vqgan_encode(run->model, run->tokens, latents + first * L * width, run->pictures, count, run->arena);
        limn_arena_release(run->arena, 0);
    }
    if (status == 0) status = vqgan_fit_codebook(run->model, latents, pictures * L, FIT_ITERATIONS, run->settings.seed, run->arena, error);
    limn_arena_release(run->arena, 0);
    size_t offset = (size_t)(codebook->mutable_value - weights->storage);
    memset(run->m + offset, 0, codebook->size * sizeof *run->m);
    memset(run->v + offset, 0, codebook->size * sizeof *run->v);
    free(latents);
    free(order);
    return status;
}

/* Forward and backward of generator, then of discriminator, for one batch. */
static int accumulate(vqgan_run *run, uint64_t number, vqgan_losses *losses, limn_error *error) {
    size_t B = run->settings.batch_size, side = side_of(run);
    size_t which[4096];
    for (size_t b = 0; b < B; b++)
        which[b] = data_order_at(run->order, &run->epoch, run->data.count, run->settings.seed, (number - 1) * B + b);
    if (read_pictures(run, &run->data, which, B, error)) return -1;
    vqgan_loss_options options = run->losses;
    options.use_discriminator = run->losses.use_discriminator && number > run->discriminator_start;
    options.without_codebook = number <= run->codebook_start;
    parameters_zero_grads(vqgan_get_parameters(run->model));
    *losses = (vqgan_losses){0};
    /* Also the generator's pass moves the discriminator's running statistics, which are part of what is saved. */
    if (options.use_discriminator) train_before_update(&run->folder);
    vqgan_generator_step(run->model, options.use_discriminator ? run->discriminator : NULL, losses, run->reconstruction, run->latent,
                         run->tokens, run->pictures, B, &options, run->arena);
    limn_arena_release(run->arena, 0);
    if (options.use_discriminator) {
        parameters_zero_grads(vqgan_discriminator_get_parameters(run->discriminator));
        vqgan_discriminator_step(run->discriminator, losses, run->pictures, run->reconstruction, B, side, side, run->arena);
        limn_arena_release(run->arena, 0);
    }
    return 0;
}

/* Also moves the discriminator's running statistics, which nothing in training reads; they are put back. */
static int rehearse(void *self, limn_error *error) {
    vqgan_run *run = self;
    vqgan_losses losses;
    size_t count, start = run->discriminator_start, codebook_start = run->codebook_start;
    float *statistics = vqgan_discriminator_statistics(run->discriminator, &count);
    float *kept = limn_allocate(count, sizeof *kept, error);
    if (!kept) return -1;
    memcpy(kept, statistics, count * sizeof *kept);
    run->discriminator_start = run->codebook_start = 0; /* the dearer kind of step */
    int status = accumulate(run, 1, &losses, error);
    run->codebook_start = codebook_start;
    run->discriminator_start = start;
    memcpy(statistics, kept, count * sizeof *kept);
    free(kept);
    return status;
}

static void revive(vqgan_run *run, uint64_t number) {
    const vqgan_config *config = vqgan_get_config(run->model);
    parameters *weights = vqgan_get_parameters(run->model);
    const parameter *codebook = parameters_find(weights, "quantize.embedding.weight");
    size_t tokens = run->settings.batch_size * vqgan_token_count(run->model), width = config->embed_dim;
    double total = 0;
    for (size_t i = 0; i < config->n_embed; i++) total += (double)run->code_counts[i];
    float threshold = (float)(run->revive_threshold * total / (double)config->n_embed);
    run->revived_last = vqgan_revive_codes(run->model, run->code_counts, run->revived, run->latent, tokens, threshold,
                                           run->settings.seed, number);
    size_t offset = (size_t)(codebook->mutable_value - weights->storage);
    for (size_t i = 0; i < config->n_embed; i++) {
        if (!run->revived[i]) continue;
        memset(run->m + offset + i * width, 0, width * sizeof *run->m);
        memset(run->v + offset + i * width, 0, width * sizeof *run->v);
    }
}

static int step(void *self, uint64_t number, limn_error *error) {
    vqgan_run *run = self;
    vqgan_losses losses;
    size_t n_embed = vqgan_get_config(run->model)->n_embed, tokens = run->settings.batch_size * vqgan_token_count(run->model);
    run->codebook_start = (size_t)(run->codebook_start_share * (double)run->settings.schedule.steps);
    if (run->codebook_start && number == run->codebook_start + 1) {
        train_before_update(&run->folder);
        if (fit_codebook(run, error)) return -1;
    }
    if (accumulate(run, number, &losses, error)) return -1;
    train_before_update(&run->folder);
    float norm = train_adamw(vqgan_get_parameters(run->model), run->m, run->v, &run->settings, number);
    if (run->losses.use_discriminator && number > run->discriminator_start)
        train_adamw(vqgan_discriminator_get_parameters(run->discriminator), run->discriminator_m, run->discriminator_v,
                    &run->discriminator_settings, number - run->discriminator_start);
    if ((number - 1) % run->settings.log_every == 0) memset(run->window_counts, 0, n_embed * sizeof *run->window_counts);
    bool quantised = number > run->codebook_start;
    if (quantised) {
        vqgan_count_codes(run->window_counts, run->tokens, tokens, n_embed, 1.0f);
        vqgan_count_codes(run->code_counts, run->tokens, tokens, n_embed, 0.99f);
    }
    run->revived_last = 0;
    /* Towards the end codes must stand still: what revives them there is never learnt by the decoder. */
    if (quantised && run->revive_every && number % run->revive_every == 0 && number < run->settings.schedule.steps * 3 / 4) revive(run, number);

    train_metric *metrics = run->metrics;
    metrics[L1].value = (float)losses.l1;
    metrics[CODEBOOK].value = (float)losses.codebook;
    metrics[GENERATOR].value = (float)losses.generator;
    metrics[ADAPTIVE_WEIGHT].value = (float)losses.adaptive_weight;
    metrics[DISCRIMINATOR].value = (float)losses.discriminator;
    metrics[GRAD_NORM].value = norm;
    metrics[REVIVED].value = (float)run->revived_last;
    if (number % run->settings.log_every == 0 || number == run->settings.schedule.steps) {
        vqgan_codebook_use use;
        vqgan_measure_use(&use, run->window_counts, n_embed);
        metrics[CODES_USED].value = (float)use.used;
        metrics[PERPLEXITY].value = (float)use.perplexity;
    }
    return 0;
}

/* Pictures of a set through encoder, codebook and decoder; pixels of both in [0,1]. */
static int reconstruct(vqgan_run *run, const picture_set *set, size_t first, size_t B, limn_error *error) {
    size_t which[4096], n = B * side_of(run) * side_of(run) * 3;
    for (size_t b = 0; b < B; b++) which[b] = first + b;
    if (read_pictures(run, set, which, B, error)) return -1;
    vqgan_encode(run->model, run->tokens, NULL, run->pictures, B, run->arena);
    vqgan_decode(run->model, run->reconstruction, run->tokens, B, run->arena);
    limn_arena_release(run->arena, 0);
    vqgan_pixels_from_model(run->model, run->pictures, run->pictures, n);
    vqgan_pixels_from_model(run->model, run->reconstruction, run->reconstruction, n);
    return 0;
}

static int validate(void *self, json_t *line, limn_error *error) {
    vqgan_run *run = self;
    double psnr = 0;
    size_t floats = side_of(run) * side_of(run) * 3, B = run->settings.batch_size;
    for (size_t first = 0; first < run->valid.count; first += B) {
        size_t rows = run->valid.count - first < B ? run->valid.count - first : B;
        if (reconstruct(run, &run->valid, first, rows, error)) return -1;
        for (size_t row = 0; row < rows; row++) {
            picture original, drawn;
            if (picture_from_floats(&original, run->pictures + row * floats, side_of(run), side_of(run), error)) return -1;
            int status = picture_from_floats(&drawn, run->reconstruction + row * floats, side_of(run), side_of(run), error);
            if (status == 0) psnr += picture_psnr(&original, &drawn);
            picture_free(&original);
            if (status) return -1;
            picture_free(&drawn);
        }
    }
    json_object_set_new(line, "valid_psnr", json_real(psnr / (double)run->valid.count));
    return 0;
}

/* Pictures kept from training where there are any, each beside its reconstruction. */
static int sample(void *self, picture *out, limn_error *error) {
    vqgan_run *run = self;
    const picture_set *set = run->valid.count ? &run->valid : &run->data;
    size_t side = side_of(run), floats = side * side * 3, most = SAMPLE_COLUMNS * SAMPLE_ROWS, made = 0;
    size_t count = set->count < most ? set->count : most;
    picture parts[2 * SAMPLE_COLUMNS * SAMPLE_ROWS] = {{0}};
    int status = 0;
    for (size_t first = 0; status == 0 && first < count; first += run->settings.batch_size) {
        size_t rows = count - first < run->settings.batch_size ? count - first : run->settings.batch_size;
        status = reconstruct(run, set, first, rows, error);
        for (size_t row = 0; status == 0 && row < rows; row++)
            for (int drawn = 0; status == 0 && drawn < 2; drawn++) {
                status = picture_from_floats(&parts[made], (drawn ? run->reconstruction : run->pictures) + row * floats, side, side, error);
                if (status == 0) made++;
            }
    }
    if (status == 0) status = picture_grid(out, parts, made, 2 * SAMPLE_COLUMNS, 2, error);
    for (size_t i = 0; i < made; i++) picture_free(&parts[i]);
    return status;
}

static int save(void *self, const char *directory, limn_error *error) {
    return vqgan_save(((vqgan_run *)self)->model, directory, error);
}

static int load(void *self, const char *directory, limn_error *error) {
    vqgan_run *run = self;
    vqgan *source = vqgan_load(directory, false, error);
    if (!source) return -1;
    int status = train_copy_parameters(vqgan_get_parameters(run->model), vqgan_get_parameters(source), directory, error);
    vqgan_free(source);
    return status;
}

static int read_settings(vqgan_run *run, const json_t *config, const char *file, limn_error *error) {
    json_t *section = train_section(config, file, "train", "vqgan", error);
    run->settings = (train_settings){
        .schedule = {.learning_rate = 1e-4, .warmup_steps = 0, .steps = 1000},
        .adamw = {.beta1 = 0.5, .beta2 = 0.9, .epsilon = 1e-8},
        .batch_size = 8, .accumulation = 1, .log_every = 20, .valid_every = 500, .sample_every = 500, .checkpoint_every = 500,
        .keep_checkpoints = 2, .keep_best = true, .max_loss_rise = 10 /* it rises where the codebook starts */, .seed = 1};
    run->losses = (vqgan_loss_options){.codebook_weight = 1, .discriminator_weight = 0.8};
    run->discriminator_layers = 3;
    run->discriminator_width = 64;
    run->revive_every = 50;
    run->revive_threshold = 0.03;
    if (!section || train_settings_read(&run->settings, section, file, OWN_KEYS, error)) return -1;
    double rate = run->settings.schedule.learning_rate;
    const size_t many = 1000000000;
    if (limn_json_get_float(section, file, "codebook_weight", 0, 1e6, &run->losses.codebook_weight, error) ||
        limn_json_get_float(section, file, "discriminator_weight", 0, 1e6, &run->losses.discriminator_weight, error) ||
        limn_json_get_size(section, file, "discriminator_start", 0, many, &run->discriminator_start, error) ||
        limn_json_get_size(section, file, "discriminator_layers", 1, 6, &run->discriminator_layers, error) ||
        limn_json_get_size(section, file, "discriminator_width", 1, 512, &run->discriminator_width, error) ||
        limn_json_get_float(section, file, "discriminator_learning_rate", 0, 10, &rate, error) ||
        limn_json_get_float(section, file, "codebook_start", 0, 0.9, &run->codebook_start_share, error) ||
        limn_json_get_size(section, file, "revive_every", 0, many, &run->revive_every, error) ||
        limn_json_get_float(section, file, "revive_threshold", 0, 1, &run->revive_threshold, error))
        return -1;
    if (run->settings.batch_size > 4096 || run->settings.accumulation != 1)
        return limn_fail_usage(error, "%s: train.vqgan: batch_size is at most 4096 and accumulation 1, since the discriminator's "
                               "BatchNorm sees one batch", file);
    run->losses.use_discriminator = run->losses.discriminator_weight > 0;
    run->discriminator_settings = run->settings;
    run->discriminator_settings.schedule.learning_rate = rate;
    return 0;
}

static int read_set(void *self, bool valid, const limn_strings *paths, size_t *count, limn_error *error) {
    vqgan_run *run = self;
    picture_set *set = valid ? &run->valid : &run->data;
    if (picture_set_read(set, paths, error)) return -1;
    *count = set->count;
    return 0;
}

static int allocate(vqgan_run *run, limn_error *error) {
    const vqgan_config *config = vqgan_get_config(run->model);
    size_t B = run->settings.batch_size, tokens = B * vqgan_token_count(run->model), pixels, floats;
    if (limn_multiply(config->resolution * config->resolution * 3, B, &floats, error)) return -1;
    pixels = config->resolution * config->resolution * B;
    size_t size = vqgan_get_parameters(run->model)->size, other = vqgan_discriminator_get_parameters(run->discriminator)->size;
    run->m = limn_allocate(size, sizeof *run->m, error);
    run->v = limn_allocate(size, sizeof *run->v, error);
    run->discriminator_m = limn_allocate(other, sizeof *run->discriminator_m, error);
    run->discriminator_v = limn_allocate(other, sizeof *run->discriminator_v, error);
    run->code_counts = limn_allocate(config->n_embed, sizeof *run->code_counts, error);
    run->window_counts = limn_allocate(config->n_embed, sizeof *run->window_counts, error);
    run->revived = limn_allocate(config->n_embed, sizeof *run->revived, error);
    run->order = limn_allocate(run->data.count, sizeof *run->order, error);
    run->pictures = limn_allocate(floats, sizeof *run->pictures, error);
    run->reconstruction = limn_allocate(floats, sizeof *run->reconstruction, error);
    run->latent = limn_allocate(tokens, config->embed_dim * sizeof *run->latent, error);
    run->tokens = limn_allocate(tokens, sizeof *run->tokens, error);
    if (!run->m || !run->v || !run->discriminator_m || !run->discriminator_v || !run->code_counts || !run->window_counts ||
        !run->revived || !run->order || !run->pictures || !run->reconstruction || !run->latent || !run->tokens)
        return -1;
    /* Address space only. A step keeps some twenty layers of full width at each level, four times fewer pixels a level down. */
    size_t widest = 1;
    for (size_t i = 0; i < config->levels; i++) widest = config->ch_mult[i] > widest ? config->ch_mult[i] : widest;
    size_t limit = pixels * config->ch * widest * (config->num_res_blocks + 2) * 64 * sizeof(float) + ((size_t)1 << 32);
    run->arena = limn_arena_create(limit, error);
    return run->arena ? 0 : -1;
}

static void release(vqgan_run *run) {
    vqgan_free(run->model);
    vqgan_discriminator_free(run->discriminator);
    picture_set_free(&run->data);
    picture_set_free(&run->valid);
    limn_arena_destroy(run->arena);
    void *blocks[] = {run->m,     run->v,       run->discriminator_m, run->discriminator_v, run->code_counts, run->window_counts,
                      run->order, run->revived, run->pictures,        run->reconstruction,  run->latent,      run->tokens};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) free(blocks[i]);
}

static int prepare(vqgan_run *run, const train_options *options, json_t *config, json_t *decides, limn_error *error) {
    json_t *section = train_section(config, options->config, "vqgan", NULL, error);
    if (!section) return -1;
    vqgan_config model_config;
    json_t *inputs = json_object();
    json_object_set(decides, "vqgan", section);
    json_object_set(decides, "train", json_object_get(json_object_get(config, "train"), "vqgan"));
    json_object_set_new(decides, "inputs", inputs);
    if (options->init) json_object_set_new(inputs, "init", json_string(options->init));
    if (vqgan_config_read(&model_config, section, options->config, true, error)) return -1;
    run->model = vqgan_create(&model_config, run->settings.seed, true, error);
    vqgan_config_free(&model_config);
    if (!run->model || train_read_sets(options, ".tar", inputs, run, read_set, error)) return -1;
    run->discriminator =
        vqgan_discriminator_create(run->discriminator_layers, run->discriminator_width, run->settings.seed, error);
    if (!run->discriminator || allocate(run, error)) return -1;
    size_t side = side_of(run);
    if (run->losses.use_discriminator &&
        !vqgan_discriminator_forward(run->discriminator, NULL, NULL, run->settings.batch_size, side, side, run->arena))
        return limn_fail_usage(error, "%s: train.vqgan.discriminator_layers %zu sees more than pictures of %zu pixels; give fewer, or "
                               "discriminator_weight 0", options->config, run->discriminator_layers, side);
    return options->init ? load(run, options->init, error) : 0;
}

int train_vqgan(const train_options *options, limn_error *error) {
    json_t *config = train_configuration(options, error);
    if (!config) return -1;
    vqgan_run run = {.epoch = UINT64_MAX, .folder = {.lock = -1}};
    json_t *decides = json_object();
    int status = read_settings(&run, config, options->config, error);
    if (status == 0) status = prepare(&run, options, config, decides, error);
    if (status == 0) status = train_run_open(&run.folder, options, decides, &run.settings, error);
    if (status == 0) {
        size_t statistics_count, n_embed = vqgan_get_config(run.model)->n_embed;
        float *statistics = vqgan_discriminator_statistics(run.discriminator, &statistics_count);
        parameters *weights = vqgan_get_parameters(run.model), *other = vqgan_discriminator_get_parameters(run.discriminator);
        train_task task = {.self = &run,
                           .section = "train.vqgan",
                           .unit = "pictures",
                           .weights = weights,
                           .samples_per_step = run.settings.batch_size,
                           .metrics = {[L1] = {.name = "l1"},
                                       [CODEBOOK] = {.name = "codebook_loss"},
                                       [GENERATOR] = {.name = "generator_loss"},
                                       [ADAPTIVE_WEIGHT] = {.name = "adaptive_weight"},
                                       [DISCRIMINATOR] = {.name = "discriminator_loss"},
                                       [GRAD_NORM] = {.name = "grad_norm"},
                                       [CODES_USED] = {.name = "codes_used", .last = true},
                                       [PERPLEXITY] = {.name = "code_perplexity", .last = true},
                                       [REVIVED] = {.name = "codes_revived", .last = true}},
                           .metric_count = METRICS,
                           .state = {{"adamw_m", weights->size, run.m},
                                     {"adamw_v", weights->size, run.v},
                                     {"discriminator", other->size, other->storage},
                                     {"discriminator_adamw_m", other->size, run.discriminator_m},
                                     {"discriminator_adamw_v", other->size, run.discriminator_v},
                                     {"discriminator_statistics", statistics_count, statistics},
                                     {"code_counts", n_embed, run.code_counts},
                                     {"window_counts", n_embed, run.window_counts}},
                           .state_count = 8,
                           .rehearse = rehearse,
                           .step = step,
                           .validate = run.valid.count ? validate : NULL,
                           .valid_key = "valid_psnr",
                           .more_is_better = true,
                           .sample = sample,
                           .sample_text = "pictures and, right of each, its reconstruction",
                           .save = save,
                           .load = load};
        run.metrics = task.metrics;
        limn_log(LIMN_LOG_INFO, "%.1f million weights, %zu pictures, %zu kept for validation, %s", (double)weights->size * 1e-6,
                 run.data.count, run.valid.count, nn_backend_description());
        status = train_loop(&run.folder, &task, &run.settings, options, error);
    }
    train_run_close(&run.folder);
    release(&run);
    json_decref(decides);
    json_decref(config);
    return status;
}
