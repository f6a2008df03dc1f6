/* A tar or a token shard that grows, and the stats beside it. */
#include "choose/internal.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

struct choose_sink {
    char path[4096], stats_path[4096];
    choose_form form;
    size_t count;
    tar_writer *tar;
    /* of a shard: what all its samples have in common, and its rows */
    token_shard kind;
    token_shard_rows rows;
    limn_buffer *columns; /* (kind.columns) of floats */
};

static int make_paths(const char *folder, const char *name, choose_form form, char path[4096], char stats_path[4096],
                      limn_error *error) {
    char file[512];
    if (snprintf(file, sizeof file, "%s%s", name, form == CHOOSE_TARS ? ".tar" : ".h5") >= (int)sizeof file)
        return limn_fail(error, "%s: the name is too long", name);
    if (limn_path_join(path, 4096, folder, file, error)) return -1;
    if (snprintf(file, sizeof file, "%s.stats.json", name) >= (int)sizeof file)
        return limn_fail(error, "%s: the name is too long", name);
    return limn_path_join(stats_path, 4096, folder, file, error);
}

static const char *bytes_name(choose_form form) {
    return form == CHOOSE_TARS ? "tar_bytes" : "h5_bytes";
}

json_t *choose_sink_finished(const char *folder, const char *name, choose_form form) {
    char path[4096], stats_path[4096];
    struct stat status;
    size_t pairs = 0, bytes = 0;
    if (make_paths(folder, name, form, path, stats_path, NULL) || !limn_file_exists(stats_path)) return NULL;
    json_t *stats = limn_json_load(stats_path, NULL);
    bool whole = json_is_integer(json_object_get(stats, "pairs")) &&
                 limn_json_get_size(stats, path, "pairs", 0, SIZE_MAX / 2, &pairs, NULL) == 0 &&
                 limn_json_get_size(stats, path, bytes_name(form), 0, SIZE_MAX / 2, &bytes, NULL) == 0;
    if (whole) whole = pairs == 0 || (stat(path, &status) == 0 && bytes == (uint64_t)status.st_size);
    if (whole) return stats;
    json_decref(stats);
    return NULL;
}

choose_sink *choose_sink_open(const char *folder, const char *name, choose_form form, limn_error *error) {
    choose_sink *self = limn_allocate(1, sizeof *self, error);
    if (!self) return NULL;
    self->form = form;
    if (make_paths(folder, name, form, self->path, self->stats_path, error) == 0) return self;
    free(self);
    return NULL;
}

void choose_sink_discard(choose_sink *self) {
    if (!self) return;
    tar_writer_discard(self->tar);
    token_shard_rows_free(&self->rows);
    for (size_t i = 0; i < self->kind.columns; i++) {
        if (self->columns) limn_buffer_free(&self->columns[i]);
        if (self->kind.column_names) free(self->kind.column_names[i]);
    }
    free(self->columns);
    free(self->kind.column_names);
    free(self);
}

/* ---------------------------------------------------------------- tars */

static int add_entry(choose_sink *self, const char *key, const char *ending, const void *data, size_t size, limn_error *error) {
    char name[300];
    snprintf(name, sizeof name, "%s.%s", key, ending);
    return tar_writer_add(self->tar, name, data, size, error);
}

/* KEY.json under another key, which then also names the one before. */
static int add_renamed_fields(choose_sink *self, const choose_sample *sample, const char *key, limn_error *error) {
    json_t *fields = json_copy((json_t *)(uintptr_t)sample->fields);
    json_object_set_new(fields, "key", json_string(key));
    json_object_set_new(fields, "source_key", json_string(sample->key));
    char *text = json_dumps(fields, JSON_SORT_KEYS | JSON_COMPACT | JSON_REAL_PRECISION(17));
    const int failed = text ? add_entry(self, key, "json", text, strlen(text), error)
                            : limn_fail(error, "%s: out of memory for the .json of %s", self->path, key);
    free(text);
    json_decref(fields);
    return failed;
}

static int add_to_tar(choose_sink *self, const choose_sample *sample, const char *key, limn_error *error) {
    const tar_sample *entry = sample->entry;
    const char *name = key ? key : sample->key;
    if (!self->tar && !(self->tar = tar_writer_open(self->path, error))) return -1;
    if (entry->image && add_entry(self, name, entry->image_ending, entry->image, entry->image_size, error)) return -1;
    if (entry->caption && add_entry(self, name, "txt", entry->caption, entry->caption_size, error)) return -1;
    if (!entry->json) return 0;
    if (key && sample->fields) return add_renamed_fields(self, sample, key, error);
    return add_entry(self, name, "json", entry->json, entry->json_size, error);
}

/* ---------------------------------------------------------------- token shards */

static int take_kind(choose_sink *self, const token_shard *from, limn_error *error) {
    token_shard *kind = &self->kind;
    kind->length = from->length;
    kind->image_size = from->image_size;
    kind->codebook_size = from->codebook_size;
    memcpy(kind->vqgan_sha256, from->vqgan_sha256, sizeof kind->vqgan_sha256);
    memcpy(kind->precision, from->precision, sizeof kind->precision);
    self->columns = limn_allocate(from->columns, sizeof *self->columns, error);
    kind->column_names = limn_allocate(from->columns, sizeof *kind->column_names, error);
    if (!self->columns || !kind->column_names) return -1;
    kind->columns = from->columns;
    for (size_t i = 0; i < from->columns; i++)
        if (!(kind->column_names[i] = strdup(from->column_names[i]))) return limn_fail(error, "out of memory for a column");
    return token_shard_rows_begin(&self->rows, error);
}

static int check_kind(const choose_sink *self, const token_shard *from, limn_error *error) {
    const token_shard *kind = &self->kind;
    if (kind->length != from->length || kind->image_size != from->image_size || kind->codebook_size != from->codebook_size ||
        strcmp(kind->vqgan_sha256, from->vqgan_sha256) || strcmp(kind->precision, from->precision))
        return limn_fail(error, "%s: shards of different VQGANs cannot be packed into one", self->path);
    bool same = kind->columns == from->columns;
    for (size_t i = 0; same && i < kind->columns; i++) same = strcmp(kind->column_names[i], from->column_names[i]) == 0;
    return same ? 0 : limn_fail(error, "%s: shards with different columns cannot be packed into one", self->path);
}

static int add_to_shard(choose_sink *self, const choose_sample *sample, const char *key, limn_error *error) {
    const token_shard *from = sample->shard;
    const char *name = key ? key : sample->key;
    if (self->count == 0 ? take_kind(self, from, error) : check_kind(self, from, error)) return -1;
    if (limn_buffer_append(&self->rows.tokens, sample->tokens, from->length * sizeof *sample->tokens, error)) return -1;
    for (size_t c = 0; c < sample->captions; c++)
        if (token_shard_rows_caption(&self->rows, sample->caption[c].data, sample->caption[c].size, error)) return -1;
    for (size_t i = 0; i < from->columns; i++)
        if (limn_buffer_append(&self->columns[i], &from->column_values[i][sample->row], sizeof(float), error)) return -1;
    return token_shard_rows_end(&self->rows, name, error);
}

static int write_shard(choose_sink *self, limn_error *error) {
    token_shard whole = self->kind;
    float **values = limn_allocate(whole.columns, sizeof *values, error);
    if (!values) return -1;
    for (size_t i = 0; i < whole.columns; i++) values[i] = (float *)(void *)self->columns[i].data;
    token_shard_rows_lend(&self->rows, &whole);
    whole.column_values = values;
    const int failed = token_shard_write(self->path, &whole, error);
    free(values);
    return failed;
}

/* ---------------------------------------------------------------- both */

int choose_sink_add(choose_sink *self, const choose_sample *sample, const char *key, limn_error *error) {
    const int failed =
        self->form == CHOOSE_TARS ? add_to_tar(self, sample, key, error) : add_to_shard(self, sample, key, error);
    if (!failed) self->count++;
    return failed;
}

static int write_file(choose_sink *self, limn_error *error) {
    if (self->count == 0) {
        unlink(self->path); /* of an earlier try with other inputs, none is to stay */
        return 0;
    }
    if (self->form == CHOOSE_SHARDS) return write_shard(self, error);
    tar_writer *tar = self->tar;
    self->tar = NULL;
    return tar_writer_commit(tar, error);
}

int choose_sink_commit(choose_sink *self, json_t *stats, limn_error *error) {
    struct stat status = {0};
    int failed = write_file(self, error);
    if (!failed && self->count && stat(self->path, &status)) failed = limn_fail(error, "%s: cannot be found again", self->path);
    if (!failed) {
        json_object_set_new(stats, "pairs", json_integer((json_int_t)self->count));
        json_object_set_new(stats, bytes_name(self->form), json_integer((json_int_t)status.st_size));
        failed = limn_json_save(stats, self->stats_path, error);
    }
    choose_sink_discard(self);
    return failed;
}
