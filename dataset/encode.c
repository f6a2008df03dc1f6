/* WebDataset tars to token shards: decode a batch in parallel, let the VQGAN see it, gather a shard in memory, write it whole.
 */
#include "dataset/dataset.h"
#include "formats/formats.h"
#include "vqgan/vqgan.h"

#include <glob.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    BATCH_MAX = 4096,
    CAPTION_MAX_BYTES = 1 << 16, /* of no use to a model of 64 tokens, and all captions of a shard are in memory at once */
    SKIPPED_NAMED = 100,         /* skipped samples that the stats name one by one */
    REASONS_NAMED = 100
};
static const size_t ARENA_LIMIT = (size_t)1 << 38; /* address space, not memory */

/* A sample between tar and VQGAN. */
typedef struct {
    char key[256];
    limn_buffer image, caption;
    limn_error problem;
    bool usable;
} pending_sample;

typedef struct {
    const encode_options *options;
    encode_summary *summary;
    vqgan *model;
    limn_arena *arena;
    size_t side, picture_floats, length; /* pixels a side; floats and tokens a picture */
    size_t codebook_size;
    pending_sample *pending; /* (batch) */
    size_t pending_count;
    float *pixels;   /* (batch, side, side, 3) */
    int32_t *tokens; /* (batch, length) */
    limn_progress *progress;
} encoder;

/* A shard as it grows: token_shard's arrays. */
typedef struct {
    limn_buffer tokens, caption_bytes, caption_offsets, caption_row, key_bytes, key_offsets;
    size_t count, captions, samples, skipped, captions_left_out;
    json_t *reasons, *named; /* reason -> count; key -> reason */
} growing_shard;

/* ---------------------------------------------------------------- what is there already */

/* DIR/NNNNN.tar to OUTPUT/NNNNN and an ending. */
static int output_path(char *out, size_t size, const encode_options *options, const char *tar, const char *ending,
                       limn_error *error) {
    const char *slash = strrchr(tar, '/'), *name = slash ? slash + 1 : tar;
    char wanted[512];
    size_t length = strlen(name);
    if (length < 5 || strcmp(name + length - 4, ".tar") != 0)
        return limn_fail_usage(error, "%s: not the name of a tar; --input takes the .tar files that limn-download wrote", tar);
    if (snprintf(wanted, sizeof wanted, "%.*s%s", (int)(length - 4), name, ending) >= (int)sizeof wanted)
        return limn_fail_usage(error, "%s: the name is too long", tar);
    return limn_path_join(out, size, options->output, wanted, error);
}

static bool is_mine(const encode_options *options, size_t input) {
    return input % options->parts == options->part;
}

static int compare_names(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static const char *base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* Two tars of one name would write one shard, and a shard's stats beside its tar would take the place of the tar's own. */
static int check_inputs(const encode_options *options, limn_error *error) {
    size_t count = options->inputs.count;
    char output[PATH_MAX], folder[PATH_MAX];
    const char **names = limn_allocate(count, sizeof *names, error);
    if (!names) return -1;
    int status = 0;
    for (size_t i = 0; i < count; i++) names[i] = base_name(options->inputs.items[i]);
    qsort(names, count, sizeof *names, compare_names);
    for (size_t i = 1; status == 0 && i < count; i++)
        if (strcmp(names[i - 1], names[i]) == 0)
            status =
                limn_fail_usage(error, "--input has two tars named %s: encode each folder to an --output of its own", names[i]);
    free(names);
    if (!realpath(options->output, output)) return status;
    for (size_t i = 0; status == 0 && i < count; i++) {
        const char *path = options->inputs.items[i];
        size_t length = (size_t)(base_name(path) - path);
        char given[PATH_MAX];
        snprintf(given, sizeof given, "%.*s", length ? (int)length : 1, length ? path : ".");
        if (realpath(given, folder) && strcmp(folder, output) == 0)
            status = limn_fail_usage(error, "--output %s: holds the tars themselves; give the shards a folder of their own",
                                     options->output);
    }
    return status;
}

/* Removes what killed runs of this part left; the part's lock says that none is alive. `finished`: whole shards too. */
static int remove_leftovers(const encode_options *options, bool finished, limn_error *error) {
    static const char *const endings[] = {".h5", ".stats.json"};
    for (size_t i = 0; i < options->inputs.count; i++) {
        if (!is_mine(options, i)) continue;
        for (size_t e = 0; e < 2; e++) {
            char path[4096], hidden[4096], pattern[4200];
            if (output_path(path, sizeof path, options, options->inputs.items[i], endings[e], error)) return -1;
            if (finished) unlink(path);
            snprintf(pattern, sizeof pattern, ".%s.tmp-*", base_name(path));
            if (limn_path_join(hidden, sizeof hidden, options->output, pattern, error)) return -1;
            glob_t found;
            if (glob(hidden, GLOB_NOSORT, NULL, &found) == 0)
                for (size_t f = 0; f < found.gl_pathc; f++) unlink(found.gl_pathv[f]);
            globfree(&found);
        }
    }
    return 0;
}

/* 1: whole and of this VQGAN; 0: to be made; -1: another VQGAN made it. */
static int shard_is_whole(const encoder *self, const char *path, limn_error *error) {
    token_shard header;
    limn_error problem = {0};
    if (!limn_file_exists(path)) return 0;
    if (token_shard_read_header(path, &header, &problem)) {
        limn_log(LIMN_LOG_WARNING, "%s; it is made again", problem.message);
        return 0;
    }
    bool same = strcmp(header.vqgan_sha256, vqgan_get_sha256(self->model)) == 0;
    if (!same)
        limn_fail(error,
                  "%s: made with another VQGAN (%.8s…, and --vqgan %s is %.8s…); give another --output, or --restart to make "
                  "all shards anew",
                  path, header.vqgan_sha256, self->options->vqgan, vqgan_get_sha256(self->model));
    token_shard_free(&header);
    return same ? 1 : -1;
}

/* Marks in `todo` the inputs to encode. Every shard is looked at before any is made. */
static int find_work(encoder *self, bool *todo, limn_error *error) {
    const encode_options *options = self->options;
    for (size_t i = 0; i < options->inputs.count; i++) {
        char path[4096];
        if (!is_mine(options, i)) continue;
        if (output_path(path, sizeof path, options, options->inputs.items[i], ".h5", error)) return -1;
        int whole = shard_is_whole(self, path, error);
        if (whole < 0) return -1;
        todo[i] = !whole;
        self->summary->shards_kept += (size_t)whole;
    }
    return 0;
}

/* How many pictures lie ahead, by the stats that limn-download left beside each tar; 0 when one of them has none. */
static uint64_t count_ahead(const encode_options *options, const bool *todo) {
    uint64_t total = 0;
    for (size_t i = 0; i < options->inputs.count; i++) {
        char path[4096];
        const char *tar = options->inputs.items[i];
        size_t pairs = 0;
        if (!todo[i]) continue;
        if (snprintf(path, sizeof path, "%.*s.stats.json", (int)strlen(tar) - 4, tar) >= (int)sizeof path) return 0;
        json_t *stats = limn_file_exists(path) ? limn_json_load(path, NULL) : NULL;
        limn_json_get_size(stats, path, "pairs", 0, SIZE_MAX, &pairs, NULL);
        bool known = json_object_get(stats, "pairs") != NULL;
        json_decref(stats);
        if (!known) return 0;
        total += pairs;
    }
    return total;
}

/* ---------------------------------------------------------------- one shard */

static int shard_begin(growing_shard *shard, limn_error *error) {
    const uint64_t zero = 0;
    *shard = (growing_shard){.reasons = json_object(), .named = json_object()};
    if (!shard->reasons || !shard->named) return limn_fail(error, "out of memory for a shard's stats");
    return limn_buffer_append(&shard->caption_offsets, &zero, sizeof zero, error) ||
                   limn_buffer_append(&shard->key_offsets, &zero, sizeof zero, error)
               ? -1
               : 0;
}

static void shard_free(growing_shard *shard) {
    limn_buffer *buffers[] = {&shard->tokens,      &shard->caption_bytes, &shard->caption_offsets,
                              &shard->caption_row, &shard->key_bytes,     &shard->key_offsets};
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++) limn_buffer_free(buffers[i]);
    json_decref(shard->reasons);
    json_decref(shard->named);
}

static void note_skipped(growing_shard *shard, const pending_sample *sample) {
    const char *reason = sample->problem.message;
    shard->skipped++;
    if (json_object_size(shard->named) < SKIPPED_NAMED) json_object_set_new(shard->named, sample->key, json_string(reason));
    if (!json_object_get(shard->reasons, reason) && json_object_size(shard->reasons) >= REASONS_NAMED) reason = "other";
    json_int_t before = json_integer_value(json_object_get(shard->reasons, reason));
    json_object_set_new(shard->reasons, reason, json_integer(before + 1));
}

static int append_text(limn_buffer *bytes, limn_buffer *offsets, const char *text, size_t size, limn_error *error) {
    if (size && limn_buffer_append(bytes, text, size, error)) return -1;
    const uint64_t end = bytes->size;
    return limn_buffer_append(offsets, &end, sizeof end, error);
}

/* Takes in a picture's tokens (length), its key and, where it has one that can be used, its caption. */
static int shard_add(growing_shard *shard, const encoder *self, const int32_t *tokens, const pending_sample *sample,
                     limn_error *error) {
    for (size_t i = 0; i < self->length; i++) {
        const uint16_t token = (uint16_t)tokens[i]; /* vqgan_config_read allows no larger codebook */
        if (limn_buffer_append(&shard->tokens, &token, sizeof token, error)) return -1;
    }
    if (append_text(&shard->key_bytes, &shard->key_offsets, sample->key, strlen(sample->key), error)) return -1;
    const char *caption = sample->caption.data;
    size_t size = sample->caption.size;
    while (size && strchr(" \t\r\n", caption[size - 1])) size--;
    if (size > CAPTION_MAX_BYTES || (size && !limn_utf8_valid(caption, size))) {
        shard->captions_left_out++;
    } else if (size) {
        const uint32_t row = (uint32_t)shard->count;
        if (append_text(&shard->caption_bytes, &shard->caption_offsets, caption, size, error) ||
            limn_buffer_append(&shard->caption_row, &row, sizeof row, error))
            return -1;
        shard->captions++;
    }
    shard->count++;
    return 0;
}

/* The picture of a sample as floats in [0,1], (side, side, 3). */
static bool decode_sample(pending_sample *sample, float *out, size_t side) {
    picture decoded, sized;
    const picture_decode_options options = {.min_side = side};
    if (sample->image.size == 0) {
        limn_fail(&sample->problem, "no picture");
        return false;
    }
    if (picture_decode(&decoded, (const unsigned char *)sample->image.data, sample->image.size, &options, NULL, NULL,
                       &sample->problem))
        return false;
    int status = picture_resize(&decoded, &sized, RESIZE_CENTER_CROP, side, &sample->problem);
    picture_free(&decoded);
    if (status) return false;
    picture_to_floats(&sized, out);
    picture_free(&sized);
    return true;
}

static int encode_pending(encoder *self, growing_shard *shard, limn_error *error) {
    const size_t n = self->picture_floats;
    if (limn_stop_requested()) return limn_fail(error, "stopped; whole shards are kept, the same command goes on after them");
#pragma omp parallel for schedule(dynamic)
    for (size_t i = 0; i < self->pending_count; i++)
        self->pending[i].usable = decode_sample(&self->pending[i], self->pixels + i * n, self->side);
    size_t usable = 0;
    for (size_t i = 0; i < self->pending_count; i++) {
        if (!self->pending[i].usable) continue;
        if (usable < i) memcpy(self->pixels + usable * n, self->pixels + i * n, n * sizeof(float));
        usable++;
    }
    if (usable) {
        vqgan_pixels_to_model(self->model, self->pixels, self->pixels, usable * n);
        vqgan_encode(self->model, self->tokens, NULL, self->pixels, usable, self->arena);
        limn_arena_release(self->arena, 0);
    }
    const int32_t *tokens = self->tokens;
    for (size_t i = 0; i < self->pending_count; i++) {
        if (!self->pending[i].usable) {
            note_skipped(shard, &self->pending[i]);
            continue;
        }
        if (shard_add(shard, self, tokens, &self->pending[i], error)) return -1;
        tokens += self->length;
    }
    self->pending_count = 0;
    self->summary->pictures += usable;
    limn_progress_update(self->progress, self->summary->pictures, NULL);
    return 0;
}

static int take_sample(encoder *self, const tar_sample *sample, limn_error *error) {
    pending_sample *taken = &self->pending[self->pending_count++];
    memcpy(taken->key, sample->key, sizeof taken->key);
    taken->problem = (limn_error){0};
    taken->image.size = taken->caption.size = 0;
    if (sample->image && limn_buffer_append(&taken->image, sample->image, sample->image_size, error)) return -1;
    /* One byte over the limit is enough to tell that it is over. */
    size_t caption_size = sample->caption_size > CAPTION_MAX_BYTES ? CAPTION_MAX_BYTES + 1 : sample->caption_size;
    if (sample->caption && limn_buffer_append(&taken->caption, sample->caption, caption_size, error)) return -1;
    return 0;
}

/* 0, or -1 with `*tar_is_damaged` telling a tar that cannot be read to its end from what must stop the run. */
static int read_tar(encoder *self, growing_shard *shard, const char *tar, bool *tar_is_damaged, limn_error *error) {
    tar_sample sample;
    self->pending_count = 0;
    tar_reader *reader = tar_reader_open(tar, error);
    int got = reader ? 0 : -1, status = 0;
    *tar_is_damaged = !reader;
    while (reader && status == 0 && (got = tar_reader_next(reader, &sample, error)) == 1) {
        shard->samples++;
        status = take_sample(self, &sample, error);
        if (status == 0 && self->pending_count == self->options->batch) status = encode_pending(self, shard, error);
    }
    if (status == 0 && got < 0) {
        *tar_is_damaged = true;
        status = -1;
    }
    if (status == 0 && self->pending_count) status = encode_pending(self, shard, error);
    tar_reader_close(reader);
    return status;
}

/* The stats first: the shard says that both are there. */
static int write_shard(const encoder *self, const growing_shard *shard, const char *tar, limn_error *error) {
    char path[4096];
    if (output_path(path, sizeof path, self->options, tar, ".stats.json", error)) return -1;
    json_t *stats =
        json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:O, s:O}", "tar", base_name(tar), "vqgan_sha256",
                  vqgan_get_sha256(self->model), "samples", (json_int_t)shard->samples, "pictures", (json_int_t)shard->count,
                  "captions", (json_int_t)shard->captions, "captions_left_out", (json_int_t)shard->captions_left_out, "skipped",
                  (json_int_t)shard->skipped, "reasons", shard->reasons, "first_skipped", shard->named);
    if (!stats) return limn_fail(error, "out of memory for %s", path);
    int status = limn_json_save(stats, path, error);
    json_decref(stats);
    if (status || output_path(path, sizeof path, self->options, tar, ".h5", error)) return -1;
    token_shard whole = {.count = shard->count,
                         .length = self->length,
                         .tokens = (uint16_t *)(void *)shard->tokens.data,
                         .captions = shard->captions,
                         .caption_bytes = (unsigned char *)shard->caption_bytes.data,
                         .caption_offsets = (uint64_t *)(void *)shard->caption_offsets.data,
                         .caption_row = (uint32_t *)(void *)shard->caption_row.data,
                         .key_bytes = (unsigned char *)shard->key_bytes.data,
                         .key_offsets = (uint64_t *)(void *)shard->key_offsets.data,
                         .image_size = self->side,
                         .codebook_size = self->codebook_size};
    snprintf(whole.vqgan_sha256, sizeof whole.vqgan_sha256, "%s", vqgan_get_sha256(self->model));
    return token_shard_write(path, &whole, error);
}

static int encode_tar(encoder *self, const char *tar, bool *tar_is_damaged, limn_error *error) {
    growing_shard shard;
    *tar_is_damaged = false;
    int status = shard_begin(&shard, error);
    if (status == 0) status = read_tar(self, &shard, tar, tar_is_damaged, error);
    if (status == 0) status = write_shard(self, &shard, tar, error);
    if (status == 0) {
        self->summary->shards_made++;
        self->summary->captions += shard.captions;
        self->summary->skipped += shard.skipped;
        if (shard.skipped)
            limn_log(LIMN_LOG_WARNING, "%s: %zu of %zu samples skipped; the reasons are in the stats beside its shard", tar,
                     shard.skipped, shard.samples);
    }
    shard_free(&shard);
    return status;
}

/* ---------------------------------------------------------------- the run */

static int encode_all(encoder *self, const bool *todo, limn_error *error) {
    size_t damaged = 0, mine = 0;
    limn_error first = {0};
    bool any = false;
    for (size_t i = 0; i < self->options->inputs.count; i++) any |= todo[i];
    if (any) self->progress = limn_progress_start("encode", "pictures", 0, count_ahead(self->options, todo));
    int status = 0;
    for (size_t i = 0; status == 0 && i < self->options->inputs.count; i++) {
        bool tar_is_damaged;
        mine += is_mine(self->options, i);
        if (!todo[i]) continue;
        status = encode_tar(self, self->options->inputs.items[i], &tar_is_damaged, error);
        if (status && tar_is_damaged) { /* one tar among many: the others are encoded all the same */
            limn_log(LIMN_LOG_ERROR, "%s; no shard is made of it", error->message);
            if (damaged++ == 0) first = *error;
            status = 0;
        }
    }
    limn_progress_finish(self->progress);
    if (status == 0 && damaged) {
        if (error) *error = first;
        status = limn_fail_context(error, "%zu of %zu tars cannot be read (make them again with limn-download), first", damaged,
                                   mine);
    }
    return status;
}

static int encoder_prepare(encoder *self, limn_error *error) {
    const encode_options *options = self->options;
    if (vqgan_need_converted(options->vqgan, error)) return -1;
    self->model = vqgan_load(options->vqgan, false, error);
    if (!self->model || vqgan_need_encoder(self->model, options->vqgan, error) ||
        vqgan_prepare(self->model, PRECISION_FP32, VQGAN_ENCODER, error))
        return -1;
    const vqgan_config *config = vqgan_get_config(self->model);
    self->side = config->resolution;
    self->codebook_size = config->n_embed;
    self->length = vqgan_token_count(self->model);
    size_t pixels;
    if (limn_multiply(self->side, self->side, &pixels, error) || limn_multiply(pixels, 3, &self->picture_floats, error) ||
        limn_multiply(options->batch, self->picture_floats, &pixels, error))
        return -1;
    self->arena = limn_arena_create(ARENA_LIMIT, error);
    self->pending = limn_allocate(options->batch, sizeof *self->pending, error);
    self->pixels = limn_allocate(pixels, sizeof *self->pixels, error);
    self->tokens = limn_allocate(options->batch * self->length, sizeof *self->tokens, error);
    return self->arena && self->pending && self->pixels && self->tokens ? 0 : -1;
}

static void encoder_free(encoder *self) {
    for (size_t i = 0; self->pending && i < self->options->batch; i++) {
        limn_buffer_free(&self->pending[i].image);
        limn_buffer_free(&self->pending[i].caption);
    }
    free(self->pending);
    free(self->pixels);
    free(self->tokens);
    if (self->arena) limn_arena_destroy(self->arena);
    vqgan_free(self->model);
}

/* One process a part: its lock is in the folder itself, or for one part of several in a hidden folder of the part's. */
static int lock_output(const encode_options *options, int *lock, limn_error *error) {
    char name[64], path[4096];
    if (limn_make_directories(options->output, error)) return -1;
    if (options->parts == 1) return limn_lock(options->output, lock, error);
    snprintf(name, sizeof name, ".part-%zu-of-%zu", options->part, options->parts);
    if (limn_path_join(path, sizeof path, options->output, name, error) || limn_make_directories(path, error)) return -1;
    return limn_lock(path, lock, error);
}

int encode_run(const encode_options *options, encode_summary *summary, limn_error *error) {
    *summary = (encode_summary){0};
    if (options->parts == 0 || options->part >= options->parts)
        return limn_fail_usage(error, "--part %zu/%zu: the part is counted from 0 and below the number of parts", options->part,
                               options->parts);
    if (options->batch == 0 || options->batch > BATCH_MAX)
        return limn_fail_usage(error, "--batch %zu: from 1 to %d is possible", options->batch, BATCH_MAX);
    encoder self = {.options = options, .summary = summary};
    int lock = -1;
    double start = limn_seconds();
    bool *todo = limn_allocate(options->inputs.count, sizeof *todo, error);
    int status = todo ? 0 : -1;
    if (status == 0) status = lock_output(options, &lock, error);
    if (status == 0) status = check_inputs(options, error);
    if (status == 0) status = remove_leftovers(options, false, error);
    if (status == 0) status = encoder_prepare(&self, error);
    if (status == 0 && options->restart) status = remove_leftovers(options, true, error);
    if (status == 0) status = find_work(&self, todo, error);
    if (status == 0) status = encode_all(&self, todo, error);
    summary->seconds = limn_seconds() - start;
    encoder_free(&self);
    limn_unlock(lock);
    free(todo);
    return status;
}
