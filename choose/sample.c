/* Samples as a stream, out of a tar or a token shard. */
#include "choose/internal.h"

#include <ctype.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <sys/stat.h>

enum { FIELDS_MAX_BYTES = 1 << 20, NUMBER_MAX_BYTES = 64 };

choose_form choose_form_of(const char *path) {
    return limn_ends_with(path, ".h5") ? CHOOSE_SHARDS : CHOOSE_TARS;
}

/* ---------------------------------------------------------------- which files */

static bool is_folder(const char *path) {
    struct stat status;
    return stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

/* The ending of the files that a folder or a pattern stands for. */
static const char *ending_of(const char *given) {
    char found[4096];
    if (!is_folder(given)) return limn_ends_with(given, ".h5") ? ".h5" : ".tar";
    /* 1 or, of several, -1 */
    return limn_find_one(given, "*.tar", found, NULL) ? ".tar" : ".h5";
}

static int expand_one(const char *given, limn_strings *found, limn_error *error) {
    const limn_strings one = {1, &given};
    char other[4096];
    const char *ending = ending_of(given);
    if (is_folder(given) && strcmp(ending, ".tar") == 0 && limn_find_one(given, "*.h5", other, NULL))
        return limn_fail_usage(error, "%s: has tars and token shards: say which, as '%s/*.tar'", given, given);
    return limn_expand_folders(&one, ending, found, error);
}

/* Several lists as one, in one piece of memory as limn_strings_free expects. */
static int join(const limn_strings *lists, size_t count, limn_strings *out, limn_error *error) {
    size_t items = 0, bytes = 0;
    for (size_t i = 0; i < count; i++)
        for (size_t n = 0; n < lists[i].count; n++, items++) bytes += sizeof *out->items + strlen(lists[i].items[n]) + 1;
    out->items = limn_allocate(bytes, 1, error);
    if (!out->items) return -1;
    char *text = (char *)(out->items + items);
    for (size_t i = 0; i < count; i++)
        for (size_t n = 0; n < lists[i].count; n++) {
            const size_t size = strlen(lists[i].items[n]) + 1;
            out->items[out->count++] = memcpy(text, lists[i].items[n], size);
            text += size;
        }
    return 0;
}

static int check_paths(const limn_strings *paths, limn_error *error) {
    for (size_t i = 0; i < paths->count; i++) {
        const char *path = paths->items[i];
        if (!limn_ends_with(path, ".tar") && !limn_ends_with(path, ".h5"))
            return limn_fail_usage(error, "%s: neither a .tar nor a token shard .h5", path);
        if (choose_form_of(path) != choose_form_of(paths->items[0]))
            return limn_fail_usage(error, "%s beside %s: give tars or token shards, not both", path, paths->items[0]);
    }
    return 0;
}

int choose_expand(const limn_strings *given, limn_strings *out_paths, limn_error *error) {
    *out_paths = (limn_strings){0};
    limn_strings *lists = limn_allocate(given->count, sizeof *lists, error);
    int failed = lists ? 0 : -1;
    for (size_t i = 0; !failed && i < given->count; i++) failed = expand_one(given->items[i], &lists[i], error);
    if (!failed) failed = join(lists, given->count, out_paths, error) || check_paths(out_paths, error) ? -1 : 0;
    for (size_t i = 0; lists && i < given->count; i++) limn_strings_free(&lists[i]);
    free(lists);
    return failed;
}

uint64_t choose_bytes_of(const limn_strings *paths) {
    uint64_t bytes = 0;
    for (size_t i = 0; i < paths->count; i++) {
        struct stat status;
        if (stat(paths->items[i], &status) == 0 && status.st_size > 0) bytes += (uint64_t)status.st_size;
    }
    return bytes;
}

/* ---------------------------------------------------------------- reading */

struct choose_reader {
    const char *path;
    choose_counts *seen;
    uint64_t counted; /* bytes of this file told to `seen` */
    uint64_t bytes;   /* of this file */
    size_t row;
    tar_reader *tar;
    tar_sample entry;
    json_t *fields;
    choose_text own; /* the only caption of a tar's sample */
    token_shard shard;
    size_t *first; /* (count+1): of a picture's captions in `captions` */
    choose_text *captions;
};

/* The captions of each row, in the shard's order. */
static int gather_captions(choose_reader *self, limn_error *error) {
    const token_shard *shard = &self->shard;
    self->first = limn_allocate(shard->count + 2, sizeof *self->first, error);
    self->captions = limn_allocate(shard->captions, sizeof *self->captions, error);
    if (!self->first || !self->captions) return -1;
    /* first[row + 2] counts the row's captions, then first[row + 1] is where its next one goes, and in the end where they end.
     */
    for (size_t m = 0; m < shard->captions; m++) self->first[shard->caption_row[m] + 2]++;
    for (size_t row = 2; row < shard->count + 2; row++) self->first[row] += self->first[row - 1];
    for (size_t m = 0; m < shard->captions; m++)
        self->captions[self->first[shard->caption_row[m] + 1]++] =
            (choose_text){(const char *)shard->caption_bytes + shard->caption_offsets[m],
                          (size_t)(shard->caption_offsets[m + 1] - shard->caption_offsets[m])};
    return 0;
}

choose_reader *choose_reader_open(const char *path, choose_counts *seen, limn_error *error) {
    choose_reader *self = limn_allocate(1, sizeof *self, error);
    if (!self) return NULL;
    struct stat status;
    self->path = path;
    self->seen = seen;
    self->bytes = stat(path, &status) == 0 && status.st_size > 0 ? (uint64_t)status.st_size : 0;
    int failed;
    if (choose_form_of(path) == CHOOSE_TARS)
        failed = (self->tar = tar_reader_open(path, error)) ? 0 : -1;
    else
        failed = token_shard_read(path, &self->shard, error) || gather_captions(self, error);
    if (!failed) return self;
    choose_reader_close(self);
    return NULL;
}

void choose_reader_close(choose_reader *self) {
    if (!self) return;
    /* What was not gone through is counted too: the progress line ends at its total. */
    if (self->seen && self->bytes > self->counted) self->seen->bytes += self->bytes - self->counted;
    json_decref(self->fields);
    tar_reader_close(self->tar);
    token_shard_free(&self->shard);
    free(self->first);
    free(self->captions);
    free(self);
}

static void count_sample(choose_reader *self, uint64_t position) {
    if (!self->seen) return;
    if (position > self->bytes) position = self->bytes;
    if (position > self->counted) {
        self->seen->bytes += position - self->counted;
        self->counted = position;
    }
    self->seen->samples++;
}

static int next_of_tar(choose_reader *self, choose_sample *out, limn_error *error) {
    const int got = tar_reader_next(self->tar, &self->entry, error);
    if (got != 1) return got;
    json_decref(self->fields);
    self->fields = self->entry.json ? choose_fields_parse(self->entry.json, self->entry.json_size) : NULL;
    memcpy(out->key, self->entry.key, sizeof out->key);
    out->entry = &self->entry;
    out->fields = self->fields;
    out->fields_damaged = self->entry.json && !self->fields;
    self->own = (choose_text){0};
    const json_t *caption = json_object_get(self->fields, "caption");
    if (self->entry.caption)
        self->own = (choose_text){self->entry.caption, self->entry.caption_size};
    else if (json_is_string(caption))
        self->own = (choose_text){json_string_value(caption), json_string_length(caption)};
    out->caption = &self->own;
    out->captions = self->own.data ? 1 : 0;
    count_sample(self, tar_reader_position(self->tar));
    return 1;
}

static int next_of_shard(choose_reader *self, choose_sample *out, limn_error *error) {
    const token_shard *shard = &self->shard;
    const size_t row = self->row;
    if (row == shard->count) return 0;
    const uint64_t from = shard->key_offsets[row], size = shard->key_offsets[row + 1] - from;
    if (size >= sizeof out->key)
        return limn_fail(error, "%s: the key of picture %zu has %llu bytes, more than %zu", self->path, row,
                         (unsigned long long)size, sizeof out->key - 1);
    memcpy(out->key, shard->key_bytes + from, size);
    out->key[size] = '\0';
    out->shard = shard;
    out->tokens = shard->tokens + row * shard->length;
    out->caption = self->captions + self->first[row];
    out->captions = self->first[row + 1] - self->first[row];
    count_sample(self, self->bytes / shard->count * (row + 1));
    return 1;
}

int choose_reader_next(choose_reader *self, choose_sample *out, limn_error *error) {
    if (limn_stop_requested()) {
        limn_fail(error, "stopped");
        if (error) error->exit_code = LIMN_EXIT_INTERRUPTED;
        return -1;
    }
    memset(out, 0, sizeof *out);
    const int got = self->tar ? next_of_tar(self, out, error) : next_of_shard(self, out, error);
    out->row = self->row;
    if (got == 1) self->row++;
    return got;
}

choose_text choose_first_caption(const choose_sample *sample) {
    return sample->captions ? choose_trim(sample->caption[0].data, sample->caption[0].size) : (choose_text){"", 0};
}

/* ---------------------------------------------------------------- columns */

json_t *choose_fields_parse(const char *data, size_t size) {
    json_t *value = size <= FIELDS_MAX_BYTES ? json_loadb(data, size, 0, NULL) : NULL;
    if (json_is_object(value)) return value;
    json_decref(value);
    return NULL;
}

static bool number_of_text(const char *text, size_t size, double *out) {
    if (size == 0 || size > NUMBER_MAX_BYTES || isspace((unsigned char)text[0]) || strlen(text) != size) return false;
    char *end;
    *out = strtod(text, &end);
    return *end == '\0' && end != text;
}

bool choose_number(const choose_sample *sample, const char *column, double *out) {
    *out = NAN;
    if (sample->shard) {
        for (size_t i = 0; i < sample->shard->columns; i++)
            if (strcmp(sample->shard->column_names[i], column) == 0) *out = sample->shard->column_values[i][sample->row];
        return !isnan(*out);
    }
    const json_t *value = json_object_get(sample->fields, column);
    if (json_is_number(value)) *out = json_number_value(value);
    if (json_is_boolean(value)) *out = json_is_true(value);
    if (json_is_string(value) && !number_of_text(json_string_value(value), json_string_length(value), out)) *out = NAN;
    return !isnan(*out);
}

const char *choose_string(const choose_sample *sample, const char *column) {
    return json_string_value(json_object_get(sample->fields, column));
}
