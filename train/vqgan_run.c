/* limn-vqgan train: pictures to a codebook and back. */
#include "pictures/pictures.h"
#include "train/loop.h"
#include "train/picture_set.h"
#include "train/vqgan_settings.h"
#include "train/watch.h"

#include <stdlib.h>
#include <string.h>

enum { FIT_ROWS_PER_CODE = 64, FIT_ITERATIONS = 10 }; /* k-means */

enum { SAMPLE_COLUMNS = 4, SAMPLE_ROWS = 8 }; /* of pairs original | reconstruction */

/* The last only with LPIPS. */
enum { L1, CODES_USED, PERPLEXITY, REVIVED, CODEBOOK, GENERATOR, ADAPTIVE_WEIGHT, DISCRIMINATOR, GRAD_NORM, PERCEPTUAL, METRICS };

typedef struct {
    vqgan_settings settings;
    bool *frozen;       /* (parameters): what stays as it is, bit for bit */
    vqgan_lpips *lpips; /* NULL: no perceptual loss */
    vqgan *model;
    vqgan_discriminator *discriminator;
    picture_set data, valid;
    picture_stream *stream; /* of data */
    train_optimizer optimizer, discriminator_optimizer;
    float *code_counts;  /* (n_embed), decayed: for the revival */
    float *window_counts; /* (n_embed), since the last line of metrics: for what is reported */
    bool *revived;
    limn_arena *arena;
    uint64_t rehearsals;
    float *pictures, *reconstruction, *latent;
    int32_t *tokens;
    train_metric *metrics;
    train_run folder;
} vqgan_run;

static size_t side_of(const vqgan_run *run) {
    return vqgan_get_config(run->model)->resolution;
}

/* Steps that go without a codebook. */
static size_t codebook_start(const vqgan_settings *settings) {
    return (size_t)(settings->codebook_start_share * (double)settings->generator.schedule.steps);
}

/* Pictures first … first+B−1 of a set into run->pictures, in the model's range. One that cannot be decoded is replaced by the next. */
static int read_pictures(vqgan_run *run, const picture_set *set, size_t first, size_t B, limn_error *error) {
    size_t side = side_of(run), floats = side * side * 3;
    int failed = 0;
#pragma omp parallel reduction(| : failed) num_threads((int)limn_get_threads())
    {
        limn_buffer room = {0};
#pragma omp for schedule(dynamic)
        for (size_t b = 0; b < B; b++) {
            limn_error why = {0};
            float *out = run->pictures + b * floats;
            int status = 1;
            for (size_t further = 0; status == 1 && further < set->count; further++)
                status = picture_set_decode(set, (first + b + further) % set->count, side, out, &room, &why);
            if (status) {
#pragma omp critical(read_pictures)
                if (error) *error = why;
                failed = 1;
            } else vqgan_pixels_to_model(run->model, out, out, floats);
        }
        limn_buffer_free(&room);
    }
    return failed ? -1 : 0;
}

/* The batch of a step into run->pictures, in the model's range. */
static int take_pictures(vqgan_run *run, uint64_t number, limn_error *error) {
    if (picture_stream_take(run->stream, number, run->pictures, error)) return -1;
    size_t side = side_of(run);
    vqgan_pixels_to_model(run->model, run->pictures, run->pictures, run->settings.generator.batch_size * side * side * 3);
    return 0;
}

/* Places the codes where the latents lie after the steps without a codebook. */
static int fit_codebook(vqgan_run *run, limn_error *error) {
    const vqgan_config *config = vqgan_get_config(run->model);
    parameters *weights = vqgan_get_parameters(run->model);
    const parameter *codebook = parameters_find(weights, "quantize.embedding.weight");
    size_t B = run->settings.generator.batch_size, L = vqgan_token_count(run->model), width = config->embed_dim;
    size_t rows = config->n_embed * FIT_ROWS_PER_CODE, all = run->data.count * L;
    if (rows > all) rows = all;
    size_t pictures = (rows + L - 1) / L;
    float *latents = limn_allocate(pictures * L, width * sizeof *latents, error);
    int status = latents ? 0 : -1;
    for (size_t first = 0; status == 0 && first < pictures; first += B) {
        size_t count = pictures - first < B ? pictures - first : B;
        status = take_pictures(run, first / B + 1, error);
        if (status == 0) vqgan_encode(run->model, run->tokens, latents + first * L * width, run->pictures, count, run->arena);
        limn_arena_release(run->arena, 0);
    }
    if (status == 0) status = vqgan_fit_codebook(run->model, latents, pictures * L, FIT_ITERATIONS, run->settings.generator.seed, run->arena, error);
    limn_arena_release(run->arena, 0);
    optimizer_forget(run->optimizer.moves, (size_t)(codebook - weights->list), 0, codebook->size);
    free(latents);
    return status;
}

/* Which parts of the model a step has. */
typedef struct {
    bool codebook, discriminator;
} step_parts;

static step_parts parts_of(const vqgan_run *run, uint64_t number) {
    const vqgan_settings *settings = &run->settings;
    return (step_parts){.codebook = number > codebook_start(settings),
                        .discriminator = settings->losses.use_discriminator && number > settings->discriminator_start};
}

/* What stays as it is does not count in the gradients' norm, nor is it shown to have any. */
static void forget_frozen(const vqgan_run *run) {
    const parameters *set = vqgan_get_parameters(run->model);
    for (size_t i = 0; i < set->count; i++)
        if (run->frozen[i]) memset(set->list[i].grad, 0, set->list[i].size * sizeof *set->list[i].grad);
}

/* Forward and backward of generator, then of discriminator, for one batch. */
static int accumulate(vqgan_run *run, uint64_t number, step_parts parts, vqgan_losses *losses, limn_error *error) {
    size_t B = run->settings.generator.batch_size, side = side_of(run);
    if (take_pictures(run, number, error)) return -1;
    vqgan_loss_options options = run->settings.losses;
    options.use_discriminator = parts.discriminator;
    options.without_codebook = !parts.codebook;
    parameters_zero_grads(vqgan_get_parameters(run->model));
    *losses = (vqgan_losses){0};
    /* Also the generator's pass moves the discriminator's running statistics, which are part of what is saved. */
    if (parts.discriminator) train_before_update(&run->folder);
    vqgan_generator_step(run->model, parts.discriminator ? run->discriminator : NULL, losses, run->reconstruction, run->latent,
                         run->tokens, run->pictures, B, &options, run->arena);
    limn_arena_release(run->arena, 0);
    forget_frozen(run);
    if (parts.discriminator) {
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
    size_t count;
    const step_parts parts = {.codebook = true, .discriminator = run->settings.losses.use_discriminator}; /* the dearest kind */
    float *statistics = vqgan_discriminator_statistics(run->discriminator, &count);
    float *kept = limn_allocate(count, sizeof *kept, error);
    if (!kept) return -1;
    memcpy(kept, statistics, count * sizeof *kept);
    int status = accumulate(run, ++run->rehearsals, parts, &losses, error);
    memcpy(statistics, kept, count * sizeof *kept);
    free(kept);
    return status;
}

static int move(train_optimizer *self, const train_settings *settings, double learning_rate, uint64_t number, double *out_norm,
                limn_error *error) {
    learning_rate_schedule schedule = settings->schedule; /* as --steps and --minutes have left it */
    schedule.learning_rate = learning_rate;
    if (train_optimizer_sum(self, out_norm, error)) return -1;
    return train_optimizer_step(self, &schedule, settings->max_grad_norm, *out_norm, number, NULL, error);
}

/* Returns how many codes. */
static size_t revive(vqgan_run *run, uint64_t number) {
    const vqgan_config *config = vqgan_get_config(run->model);
    parameters *weights = vqgan_get_parameters(run->model);
    const parameter *codebook = parameters_find(weights, "quantize.embedding.weight");
    size_t tokens = run->settings.generator.batch_size * vqgan_token_count(run->model), width = config->embed_dim;
    double total = 0;
    for (size_t i = 0; i < config->n_embed; i++) total += (double)run->code_counts[i];
    float threshold = (float)(run->settings.revive_threshold * total / (double)config->n_embed);
    size_t count = vqgan_revive_codes(run->model, run->code_counts, run->revived, run->latent, tokens, threshold,
                                      run->settings.generator.seed, number);
    for (size_t i = 0; i < config->n_embed; i++)
        if (run->revived[i]) optimizer_forget(run->optimizer.moves, (size_t)(codebook - weights->list), i * width, width);
    return count;
}

static int step(void *self, uint64_t number, limn_error *error) {
    vqgan_run *run = self;
    vqgan_losses losses;
    size_t n_embed = vqgan_get_config(run->model)->n_embed, tokens = run->settings.generator.batch_size * vqgan_token_count(run->model);
    const train_settings *settings = &run->settings.generator;
    const step_parts parts = parts_of(run, number);
    const size_t start = codebook_start(&run->settings);
    double norm, other_norm;
    if (start && number == start + 1) {
        train_before_update(&run->folder);
        if (fit_codebook(run, error)) return -1;
    }
    if (accumulate(run, number, parts, &losses, error)) return -1;
    train_before_update(&run->folder);
    if (move(&run->optimizer, settings, settings->schedule.learning_rate, number, &norm, error) ||
        (parts.discriminator && move(&run->discriminator_optimizer, settings, run->settings.discriminator_learning_rate,
                                     number - run->settings.discriminator_start, &other_norm, error)))
        return -1;
    if ((number - 1) % settings->log_every == 0) memset(run->window_counts, 0, n_embed * sizeof *run->window_counts);
    if (parts.codebook) {
        vqgan_count_codes(run->window_counts, run->tokens, tokens, n_embed, 1.0f);
        vqgan_count_codes(run->code_counts, run->tokens, tokens, n_embed, 0.99f);
    }
    size_t revived = 0;
    /* Towards the end codes must stand still: what revives them there is never learnt by the decoder. */
    if (parts.codebook && run->settings.revive_every && number % run->settings.revive_every == 0 &&
        number < settings->schedule.steps * 3 / 4)
        revived = revive(run, number);

    train_metric *metrics = run->metrics;
    metrics[L1].value = (float)losses.l1;
    metrics[CODEBOOK].value = (float)losses.codebook;
    metrics[PERCEPTUAL].value = (float)losses.perceptual;
    metrics[GENERATOR].value = (float)losses.generator;
    metrics[ADAPTIVE_WEIGHT].value = (float)losses.adaptive_weight;
    metrics[DISCRIMINATOR].value = (float)losses.discriminator;
    metrics[GRAD_NORM].value = (float)norm;
    metrics[REVIVED].value = (float)revived;
    if (number % settings->log_every == 0 || number == settings->schedule.steps) {
        vqgan_codebook_use use;
        vqgan_measure_use(&use, run->window_counts, n_embed);
        metrics[CODES_USED].value = (float)use.used;
        metrics[PERPLEXITY].value = (float)use.perplexity;
    }
    return 0;
}

/* Pictures of a set through encoder, codebook and decoder; pixels of both in [0,1]. */
static int reconstruct(vqgan_run *run, const picture_set *set, size_t first, size_t B, limn_error *error) {
    size_t n = B * side_of(run) * side_of(run) * 3;
    if (read_pictures(run, set, first, B, error)) return -1;
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
    size_t floats = side_of(run) * side_of(run) * 3, B = run->settings.generator.batch_size;
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
    train_set_number(line, "valid_psnr", psnr / (double)run->valid.count);
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
    for (size_t first = 0; status == 0 && first < count; first += run->settings.generator.batch_size) {
        size_t rows = count - first < run->settings.generator.batch_size ? count - first : run->settings.generator.batch_size;
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

/* The moving average is a model folder of its own inside. */
static int save(void *self, const char *directory, limn_error *error) {
    vqgan_run *run = self;
    char folder[4096];
    if (vqgan_save(run->model, directory, error)) return -1;
    if (!run->optimizer.ema) return 0;
    if (limn_path_join(folder, sizeof folder, directory, "ema", error)) return -1;
    return vqgan_save_values(run->model, run->optimizer.ema, folder, error);
}

/* Copies the values of `from` (read from `where`) into `to`; names and shapes must be the same. */
static int copy_parameters(parameters *to, const parameters *from, const char *where, limn_error *error) {
    for (size_t i = 0; i < to->count; i++) {
        const parameter *target = &to->list[i], *source = parameters_find(from, target->name);
        if (!source || source->rank != target->rank ||
            memcmp(source->shape, target->shape, target->rank * sizeof *target->shape) != 0)
            return limn_fail(error, "%s: %s is missing or has another shape; the configuration must be that model's", where,
                             target->name);
        memcpy(target->mutable_value, source->value, target->size * sizeof *target->mutable_value);
    }
    return 0;
}

static int load(void *self, const char *directory, limn_error *error) {
    vqgan_run *run = self;
    vqgan *source = vqgan_load(directory, false, error);
    if (!source) return -1;
    int status = copy_parameters(vqgan_get_parameters(run->model), vqgan_get_parameters(source), directory, error);
    vqgan_free(source);
    return status;
}

/* How many pictures there are decides the run. */
static int open_sets(vqgan_run *run, const train_options *options, json_t *inputs, limn_error *error) {
    if (!options->data.count) return limn_fail_usage(error, "--data: give at least one file that ends in .tar");
    if (picture_set_open(&run->data, &options->data, false, error)) return -1;
    json_object_set_new(inputs, "data", json_integer((json_int_t)run->data.count));
    if (!options->valid.count) return 0;
    if (picture_set_open(&run->valid, &options->valid, true, error)) return -1;
    json_object_set_new(inputs, "valid", json_integer((json_int_t)run->valid.count));
    return 0;
}

static int allocate(vqgan_run *run, limn_error *error) {
    const vqgan_config *config = vqgan_get_config(run->model);
    size_t B = run->settings.generator.batch_size, tokens = B * vqgan_token_count(run->model), pixels, floats;
    if (limn_multiply(config->resolution * config->resolution * 3, B, &floats, error)) return -1;
    pixels = config->resolution * config->resolution * B;
    run->code_counts = limn_allocate(config->n_embed, sizeof *run->code_counts, error);
    run->window_counts = limn_allocate(config->n_embed, sizeof *run->window_counts, error);
    run->revived = limn_allocate(config->n_embed, sizeof *run->revived, error);
    run->pictures = limn_allocate(floats, sizeof *run->pictures, error);
    run->reconstruction = limn_allocate(floats, sizeof *run->reconstruction, error);
    run->latent = limn_allocate(tokens, config->embed_dim * sizeof *run->latent, error);
    run->tokens = limn_allocate(tokens, sizeof *run->tokens, error);
    if (!run->code_counts || !run->window_counts || !run->revived || !run->pictures || !run->reconstruction ||
        !run->latent || !run->tokens)
        return -1;
    /* Address space only. A step keeps some twenty layers of full width at each level, four times fewer pixels a level down. */
    size_t widest = 1;
    for (size_t i = 0; i < config->levels; i++) widest = config->ch_mult[i] > widest ? config->ch_mult[i] : widest;
    size_t limit = pixels * config->ch * widest * (config->num_res_blocks + 2) * 64 * sizeof(float) + ((size_t)1 << 32);
    if (run->lpips) limit += pixels * VQGAN_LPIPS_BYTES_PER_PIXEL;
    run->arena = limn_arena_create(limit, error);
    run->stream = run->arena ? picture_stream_start(&run->data, config->resolution, B, run->settings.generator.seed, error) : NULL;
    return run->stream ? 0 : -1;
}

static void release(vqgan_run *run) {
    picture_stream_stop(run->stream);
    vqgan_lpips_free(run->lpips);
    vqgan_free(run->model);
    vqgan_discriminator_free(run->discriminator);
    picture_set_close(&run->data);
    picture_set_close(&run->valid);
    limn_arena_destroy(run->arena);
    train_optimizer_free(&run->optimizer);
    train_optimizer_free(&run->discriminator_optimizer);
    void *blocks[] = {run->code_counts, run->window_counts, run->revived, run->pictures, run->reconstruction, run->latent, run->tokens,
                      run->frozen};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) free(blocks[i]);
}

/* What is trained, and with it what may be left out of a step. */
static int choose_trained(vqgan_run *run, const train_options *options, limn_error *error) {
    const parameters *set = vqgan_get_parameters(run->model);
    run->frozen = limn_allocate(set->count, sizeof *run->frozen, error);
    if (!run->frozen || (options->train && parameters_select(set, options->train, run->frozen, "--train", error))) return -1;
    bool encoder = false, codebook = false;
    for (size_t i = 0; i < set->count; i++) {
        const char *name = set->list[i].name;
        if (options->train) run->frozen[i] = !run->frozen[i]; /* those that were selected are trained */
        encoder |= !run->frozen[i] && (strncmp(name, "encoder.", 8) == 0 || strncmp(name, "quant_conv.", 11) == 0);
        codebook |= !run->frozen[i] && strncmp(name, "quantize.", 9) == 0;
    }
    run->settings.losses.encoder_frozen = !encoder;
    if (!codebook) run->settings.revive_every = 0;
    if (!codebook) run->settings.codebook_start_share = 0;
    return 0;
}

/* Reads LPIPS' weights; both files decide the run. */
static int read_lpips(vqgan_run *run, const train_options *options, json_t *inputs, limn_error *error) {
    if (!options->lpips_vgg || run->settings.losses.perceptual_weight <= 0) return 0;
    size_t side = side_of(run);
    json_object_set_new(inputs, "lpips_vgg", json_string(options->lpips_vgg));
    json_object_set_new(inputs, "lpips_heads", json_string(options->lpips_heads));
    run->lpips = vqgan_lpips_load(options->lpips_vgg, options->lpips_heads, side, side, true, error);
    run->settings.losses.lpips = run->lpips;
    return run->lpips ? 0 : -1;
}

/* With random weights, or the one that --init has beside its model. */
static int begin_discriminator(vqgan_run *run, const train_options *options, limn_error *error) {
    const vqgan_settings *settings = &run->settings;
    limn_error why = {0};
    for (bool fits = true;; fits = false) {
        vqgan_discriminator_free(run->discriminator);
        run->discriminator = vqgan_discriminator_create(settings->discriminator_layers, settings->discriminator_width,
                                                        settings->generator.seed, error);
        if (!run->discriminator) return -1;
        if (!fits || !options->init || !settings->losses.use_discriminator) return 0;
        int loaded = vqgan_discriminator_load(run->discriminator, options->init, &why);
        if (loaded > 0) limn_log(LIMN_LOG_INFO, "%s: its discriminator is trained on", options->init);
        if (loaded >= 0) return 0;
        limn_log(LIMN_LOG_WARNING, "%s (train.vqgan.discriminator_layers and discriminator_width); a new discriminator is trained",
                 why.message);
    }
}

static int create_optimizers(vqgan_run *run, limn_error *error) {
    optimizer_settings settings = run->settings.generator.optimizer;
    if (train_optimizer_create(&run->optimizer, vqgan_get_parameters(run->model), &settings, run->frozen, NULL, PRECISION_FP32,
                               error))
        return -1;
    settings.ema_decay = 0;
    return train_optimizer_create(&run->discriminator_optimizer, vqgan_discriminator_get_parameters(run->discriminator),
                                  &settings, NULL, NULL, PRECISION_FP32, error);
}

static int prepare(vqgan_run *run, const train_options *options, json_t *config, json_t *decides, limn_error *error) {
    json_t *inputs = json_object(), *section;
    json_object_set(decides, "train", json_object_get(json_object_get(config, "train"), "vqgan"));
    json_object_set_new(decides, "inputs", inputs);
    if (options->init) json_object_set_new(inputs, "init", json_string(options->init));
    if (options->train) json_object_set_new(inputs, "trained", json_string(options->train));
    run->model = vqgan_begin(config, options, run->settings.generator.seed, &section, error);
    if (section) json_object_set_new(decides, "vqgan", section);
    if (!run->model || choose_trained(run, options, error) || read_lpips(run, options, inputs, error) ||
        open_sets(run, options, inputs, error))
        return -1;
    if (begin_discriminator(run, options, error) || allocate(run, error)) return -1;
    size_t side = side_of(run);
    if (run->settings.losses.use_discriminator &&
        !vqgan_discriminator_forward(run->discriminator, NULL, NULL, run->settings.generator.batch_size, side, side, run->arena))
        return limn_fail_usage(error, "%s: train.vqgan.discriminator_layers %zu sees more than pictures of %zu pixels; give fewer, or "
                               "discriminator_weight 0", options->config, run->settings.discriminator_layers, side);
    return create_optimizers(run, error);
}

int train_vqgan(const train_options *options, limn_error *error) {
    json_t *config = train_configuration(options, error);
    if (!config) return -1;
    vqgan_run run = {.folder = {.lock = -1}};
    json_t *decides = json_object();
    int status = vqgan_settings_read(&run.settings, config, options, error);
    if (status == 0) status = prepare(&run, options, config, decides, error);
    if (status == 0) status = train_run_open(&run.folder, options, decides, &run.settings.generator, NULL, error);
    if (status == 0) {
        size_t statistics_count, n_embed = vqgan_get_config(run.model)->n_embed;
        float *statistics = vqgan_discriminator_statistics(run.discriminator, &statistics_count);
        parameters *weights = vqgan_get_parameters(run.model), *other = vqgan_discriminator_get_parameters(run.discriminator);
        train_task task = {.self = &run,
                           .section = "train.vqgan",
                           .unit = "pictures",
                           .weights = weights,
                           .samples_per_step = run.settings.generator.batch_size,
                           .metrics = {[L1] = {.name = "l1"},
                                       [CODEBOOK] = {.name = "codebook_loss"},
                                       [GENERATOR] = {.name = "generator_loss"},
                                       [ADAPTIVE_WEIGHT] = {.name = "adaptive_weight"},
                                       [DISCRIMINATOR] = {.name = "discriminator_loss"},
                                       [GRAD_NORM] = {.name = "grad_norm"},
                                       [CODES_USED] = {.name = "codes_used", .last = true},
                                       [PERPLEXITY] = {.name = "code_perplexity", .last = true},
                                       [REVIVED] = {.name = "codes_revived", .last = true},
                                       [PERCEPTUAL] = {.name = "perceptual_loss"}},
                           .metric_count = run.lpips ? METRICS : PERCEPTUAL,
                           .state = {{"discriminator", other->size, other->storage},
                                     {"discriminator_statistics", statistics_count, statistics},
                                     {"code_counts", n_embed, run.code_counts},
                                     {"window_counts", n_embed, run.window_counts}},
                           .state_count = 4,
                           .rehearse = rehearse,
                           .step = step,
                           .validate = run.valid.count ? validate : NULL,
                           .valid_key = "valid_psnr",
                           .more_is_better = true,
                           .sample = sample,
                           .sample_text = "pictures and, right of each, its reconstruction",
                           .save = save,
                           .load = load};
        task.state_count += train_optimizer_state(&run.optimizer, "", task.state + task.state_count);
        task.state_count += train_optimizer_state(&run.discriminator_optimizer, "discriminator_", task.state + task.state_count);
        run.metrics = task.metrics;
        limn_log(LIMN_LOG_INFO, "%.1f million weights, %zu pictures, %zu kept for validation, %s", (double)weights->size * 1e-6,
                 run.data.count, run.valid.count, nn_backend_description());
        status = train_loop(&run.folder, &task, &run.settings.generator, options, error);
    }
    train_run_close(&run.folder);
    release(&run);
    json_decref(decides);
    json_decref(config);
    return status;
}
