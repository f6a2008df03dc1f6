#include "train/pair_set.h"
#include "train/for_each.h"

#include <stdlib.h>

/* Lines that are read at once: about 10 MB. */
enum { LINES_AT_ONCE = 8192 };
static const unsigned char HDF5_BEGIN[] = {0x89, 'H', 'D', 'F'};

/* ---------------------------------------------------------------- sources */

/* By its first bytes; by its name when it is too short to have them. What cannot be opened is none: who reads its lines says
 * why. */
static bool is_shard(const char *path) {
    unsigned char begin[sizeof HDF5_BEGIN];
    FILE *stream = fopen(path, "rb");
    if (!stream) return false;
    bool shard = fread(begin, 1, sizeof begin, stream) == sizeof begin && memcmp(begin, HDF5_BEGIN, sizeof begin) == 0;
    fclose(stream);
    return shard || limn_ends_with(path, ".h5");
}

static int add_sources(limn_buffer *sources, const char *path, limn_error *error) {
    const bool shard = is_shard(path);
    token_lines_part *parts = NULL;
    size_t count = 1;
    if (!shard && token_lines_cut(path, LINES_AT_ONCE, &parts, &count, error)) return -1;
    int status = 0;
    for (size_t i = 0; status == 0 && i < count; i++) {
        pair_source source = {.path = path, .is_lines = !shard};
        if (!shard) source.part = parts[i];
        status = limn_buffer_append(sources, &source, sizeof source, error);
    }
    free(parts);
    return status;
}

static int list_sources(pair_set *self, limn_error *error) {
    limn_buffer sources = {0};
    int status = 0;
    for (size_t i = 0; status == 0 && i < self->paths.count; i++) status = add_sources(&sources, self->paths.items[i], error);
    if (status) {
        limn_buffer_free(&sources);
        return -1;
    }
    self->count = sources.size / sizeof *self->sources;
    self->sources = (pair_source *)(void *)sources.data;
    for (size_t i = 0; i < self->count; i++) self->has_lines = self->has_lines || self->sources[i].is_lines;
    return 0;
}

/* ---------------------------------------------------------------- reading a source and choosing its pictures */

static int check_shard(const pair_needs *needs, const char *path, const token_shard *shard, limn_error *error) {
    if (needs->vqgan_sha256 && strcmp(shard->vqgan_sha256, needs->vqgan_sha256) != 0)
        return limn_fail(error,
                         "%s: was made with another VQGAN (%.12s…, not %.12s…); encode the pictures again or give that --vqgan",
                         path, shard->vqgan_sha256, needs->vqgan_sha256);
    if (shard->length != needs->length || shard->codebook_size > needs->codebook_size)
        return limn_fail(error, "%s: has %zu tokens a picture from a codebook of %zu, the configuration wants %zu from %zu",
                         path, shard->length, shard->codebook_size, needs->length, needs->codebook_size);
    return 0;
}

/* All of a source, or of a shard only what the choice needs. */
static int read_source(const pair_needs *needs, const pair_source *source, bool whole, token_shard *shard, limn_error *error) {
    if (source->is_lines) {
        const char *columns[PAIR_FILTERS_MAX];
        for (size_t i = 0; i < needs->filters.count; i++) columns[i] = needs->filters.list[i].column;
        return token_lines_read(source->path, &source->part, needs->length, needs->codebook_size, columns, needs->filters.count,
                                shard, error);
    }
    if (whole ? token_shard_read(source->path, shard, error) : token_shard_read_columns(source->path, shard, error)) return -1;
    if (check_shard(needs, source->path, shard, error) == 0) return 0;
    token_shard_free(shard);
    return -1;
}

static int fail_column(const pair_filter *filter, const char *path, const token_shard *shard, limn_error *error) {
    limn_buffer there = {0};
    for (size_t i = 0; i < shard->columns && there.size < 400; i++)
        limn_buffer_printf(&there, NULL, "%s%s", i ? ", " : "", shard->column_names[i]);
    limn_fail_usage(error, "%s: has no column '%s' for %s; its columns are: %s", path, filter->column, filter->option,
                    there.size ? there.data : "none");
    limn_buffer_free(&there);
    return -1;
}

static int apply_filter(const pair_filter *filter, const char *path, const token_shard *shard, bool *taken, limn_error *error) {
    size_t column = 0;
    while (column < shard->columns && strcmp(shard->column_names[column], filter->column) != 0) column++;
    if (column == shard->columns) return fail_column(filter, path, shard, error);
    const float *values = shard->column_values[column];
    for (size_t n = 0; n < shard->count; n++)
        if (!(values[n] >= filter->min && values[n] <= filter->max)) taken[n] = false;
    return 0;
}

/* taken is (shard->count). */
static int choose(const pair_needs *needs, const char *path, const token_shard *shard, bool *taken, size_t *out_count,
                  limn_error *error) {
    for (size_t n = 0; n < shard->count; n++) taken[n] = true;
    for (size_t i = 0; i < needs->filters.count; i++)
        if (apply_filter(&needs->filters.list[i], path, shard, taken, error)) return -1;
    bool *captioned = limn_allocate(shard->count, sizeof *captioned, error);
    if (!captioned) return -1;
    for (size_t m = 0; m < shard->captions; m++) captioned[shard->caption_row[m]] = true;
    int status = 0;
    *out_count = 0;
    for (size_t n = 0; status == 0 && n < shard->count; n++) {
        if (taken[n] && !captioned[n])
            status = limn_fail(error, "%s: picture %zu has no caption; encode the pictures again", path, n);
        *out_count += taken[n];
    }
    free(captioned);
    return status;
}

/* Reads a source and says which of its pictures are taken; the caller frees both. */
static int read_and_choose(const pair_needs *needs, const pair_source *source, bool whole, token_shard *shard, bool **taken,
                           size_t *out_count, limn_error *error) {
    *taken = NULL;
    if (read_source(needs, source, whole, shard, error)) return -1;
    *taken = limn_allocate(shard->count, sizeof **taken, error);
    if (*taken && choose(needs, source->path, shard, *taken, out_count, error) == 0) return 0;
    free(*taken);
    token_shard_free(shard);
    return -1;
}

/* ---------------------------------------------------------------- opening */

static int count_source(void *context, size_t i, limn_error *error) {
    pair_set *self = context;
    token_shard shard;
    bool *taken;
    size_t count;
    if (read_and_choose(&self->needs, &self->sources[i], false, &shard, &taken, &count, error)) return -1;
    self->pairs[i] = count;
#pragma omp atomic
    self->left_out += shard.count - count;
    free(taken);
    token_shard_free(&shard);
    return 0;
}

static int fail_empty(const pair_set *self, limn_error *error) {
    const pair_needs *needs = &self->needs;
    if (!self->left_out)
        return limn_fail(error, "%s: holds no pairs; look at the statistics that limn-encode wrote", self->paths.items[0]);
    limn_buffer names = {0};
    for (size_t i = 0; i < needs->filters.count; i++)
        limn_buffer_printf(&names, NULL, "%s%s from %g to %g", i ? ", " : "", needs->filters.list[i].column,
                           needs->filters.list[i].min, needs->filters.list[i].max);
    limn_fail(error, "%s: none of %llu pictures passes the filter (%s); ask for less", self->paths.items[0],
              (unsigned long long)self->left_out, names.size ? names.data : "");
    limn_buffer_free(&names);
    return -1;
}

int pair_set_open(pair_set *self, const limn_strings *given, const pair_needs *needs, limn_error *error) {
    *self = (pair_set){.needs = *needs};
    int status = limn_expand_folders(given, "{.h5,.jsonl,.jsonl.gz}", &self->paths, error);
    if (status == 0) status = list_sources(self, error);
    if (status == 0 && !(self->pairs = limn_allocate(self->count, sizeof *self->pairs, error))) status = -1;
    if (status == 0) status = train_for_each(self->count, count_source, self, "the pairs were counted", error);
    for (size_t i = 0; status == 0 && i < self->count; i++) self->total += self->pairs[i];
    if (status == 0 && !self->total) status = fail_empty(self, error);
    if (status) pair_set_close(self);
    return status;
}

void pair_set_close(pair_set *self) {
    limn_strings_free(&self->paths);
    free(self->sources);
    free(self->pairs);
    *self = (pair_set){0};
}

void pair_set_digest(const pair_set *self, char out_hex[65]) {
    limn_sha256(self->pairs, self->count * sizeof *self->pairs, out_hex);
}

/* ---------------------------------------------------------------- reading */

static int add_source(const pair_set *self, size_t number, pair_block *block, limn_error *error) {
    const pair_source *source = &self->sources[number];
    token_shard shard;
    bool *taken;
    size_t count;
    if (read_and_choose(&self->needs, source, true, &shard, &taken, &count, error)) return -1;
    int status = 0;
    if (count != self->pairs[number])
        status = limn_fail(
            error,
            "%s: has another number of pairs than when this command began (%zu, not %llu); put back the file that was there",
            source->path, count, (unsigned long long)self->pairs[number]);
    else
        status = pair_block_add(block, &shard, taken, count, error);
    free(taken);
    token_shard_free(&shard);
    return status;
}

int pair_set_read(const pair_set *self, const uint64_t *numbers, size_t count, uint64_t pairs, pair_block *block,
                  limn_error *error) {
    if (pair_block_create(block, (size_t)pairs, self->needs.length, error)) return -1;
    for (size_t i = 0; i < count; i++) {
        if (!self->pairs[numbers[i]]) continue;
        if (add_source(self, (size_t)numbers[i], block, error)) {
            pair_block_free(block);
            return -1;
        }
    }
    return 0;
}

int pair_set_captions(const pair_set *self, const uint64_t *numbers, size_t count, limn_buffer *out, limn_error *error) {
    uint64_t source = 0, first = 0; /* its first pair */
    if (count && numbers[count - 1] >= self->total)
        return limn_fail(error, "there is no pair %llu", (unsigned long long)numbers[count - 1]);
    for (size_t i = 0; i < count;) {
        pair_block block;
        int status = 0;
        while (numbers[i] - first >= self->pairs[source]) first += self->pairs[source++];
        if (pair_set_read(self, &source, 1, self->pairs[source], &block, error)) return -1;
        for (; status == 0 && i < count && numbers[i] - first < self->pairs[source]; i++) {
            size_t size;
            const char *caption = pair_block_caption(&block, (size_t)(numbers[i] - first), 0, &size);
            status = limn_buffer_append(&out[i], caption, size, error);
        }
        pair_block_free(&block);
        if (status) return -1;
    }
    return 0;
}
