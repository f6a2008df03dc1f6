/* What holds a shard's pairs while it is written: a tar, a folder of plain files, a token shard, or nothing. */
#include "download/internal.h"
#include "formats/formats.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct shard_body {
    output_form form;
    char path[4096], old_path[4096];
    tar_writer *tar;
    tar_reader *old; /* the finished tar whose pairs are kept, read along */
    int folder;
    const token_encoder *encoder;
    token_rows *rows;
    token_shard old_rows; /* the finished token shard, of which next_row is the next to be kept */
    size_t next_row, next_caption;
    int32_t *tokens; /* (length) */
};

static const char *const FORM_NAMES[] = {"tars", "files", "none", "tokens"};

int output_form_from_name(const char *name, output_form *out) {
    for (size_t i = 0; i <= OUTPUT_NONE; i++)
        if (!strcmp(name, FORM_NAMES[i])) {
            *out = (output_form)i;
            return 0;
        }
    return -1;
}

const char *output_form_name(output_form form) {
    return FORM_NAMES[form];
}

static int gone(const shard_body *self, const char *key, limn_error *error) {
    return limn_fail(error, "%s: lacks %s, which was made; remove this shard's .stats.json to make it anew", self->old_path,
                     key);
}

/* ---------------------------------------------------------------- plain files */

/* A second name for the same file, which takes no room, or a copy where the file system has none. */
static int keep_file(const shard_body *self, int old, const char *name, limn_error *error) {
    char from[4096], to[4096];
    if (linkat(old, name, self->folder, name, 0) == 0) return 0;
    if (limn_path_join(from, sizeof from, self->old_path, name, error) ||
        limn_path_join(to, sizeof to, self->path, name, error))
        return -1;
    return limn_atomic_copy(from, to, error);
}

static int keep_folder(const shard_body *self, limn_error *error) {
    DIR *folder = opendir(self->old_path);
    if (!folder) return limn_fail(error, "%s: cannot be read: %s", self->old_path, strerror(errno));
    int status = 0;
    for (struct dirent *entry; !status && (entry = readdir(folder));)
        if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
            status = keep_file(self, dirfd(folder), entry->d_name, error);
    closedir(folder);
    return status;
}

static int open_folder(shard_body *self, limn_error *error) {
    if (mkdir(self->path, 0777)) return limn_fail(error, "%s: cannot be made: %s", self->path, strerror(errno));
    self->folder = open(self->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (self->folder < 0) return limn_fail(error, "%s: cannot be opened: %s", self->path, strerror(errno));
    return self->old_path[0] ? keep_folder(self, error) : 0;
}

static int write_file(const shard_body *self, const char *name, const void *data, size_t size, limn_error *error) {
    const char *bytes = data;
    const int file = openat(self->folder, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (file < 0) return limn_fail(error, "%s/%s: cannot be made: %s", self->path, name, strerror(errno));
    int failed = 0;
    while (size && !failed) {
        const ssize_t written = write(file, bytes, size);
        if (written > 0)
            bytes += written, size -= (size_t)written;
        else if (written == 0 || errno != EINTR)
            failed = written ? errno : ENOSPC;
    }
    if (close(file) && !failed) failed = errno;
    return failed ? limn_fail(error, "%s/%s: cannot be written: %s; make room and run the same command again", self->path, name,
                              strerror(failed))
                  : 0;
}

/* ---------------------------------------------------------------- token shards */

static int open_tokens(shard_body *self, const token_encoder *encoder, limn_error *error) {
    self->encoder = encoder;
    self->rows = token_rows_create(error);
    self->tokens = limn_allocate(token_encoder_length(encoder), sizeof *self->tokens, error);
    if (!self->rows || !self->tokens) return -1;
    if (!self->old_path[0]) return 0;
    if (token_shard_read(self->old_path, &self->old_rows, error)) return -1;
    if (self->old_rows.length == token_encoder_length(encoder)) return 0;
    return limn_fail(error, "%s: has %zu tokens a picture, not %zu; remove this shard's .stats.json to make it anew",
                     self->old_path, self->old_rows.length, token_encoder_length(encoder));
}

/* A row has one caption or none, and they are in order. */
static int keep_tokens(shard_body *self, const char *key, limn_error *error) {
    const token_shard *old = &self->old_rows;
    const size_t row = self->next_row, length = old->length;
    if (row >= old->count) return gone(self, key, error);
    const uint64_t begin = old->key_offsets[row];
    if (old->key_offsets[row + 1] - begin != strlen(key) || memcmp(old->key_bytes + begin, key, strlen(key)))
        return gone(self, key, error);
    for (size_t i = 0; i < length; i++) self->tokens[i] = old->tokens[row * length + i];
    const char *caption = "";
    size_t size = 0;
    while (self->next_caption < old->captions && old->caption_row[self->next_caption] < row) self->next_caption++;
    if (self->next_caption < old->captions && old->caption_row[self->next_caption] == row) {
        const uint64_t at = old->caption_offsets[self->next_caption];
        caption = (const char *)old->caption_bytes + at;
        size = (size_t)(old->caption_offsets[self->next_caption + 1] - at);
    }
    self->next_row++;
    return token_rows_add(self->rows, key, self->tokens, length, caption, size, error);
}

static int add_tokens(const shard_body *self, const char *key, const pair_parts *parts, limn_error *error) {
    memcpy(self->tokens, parts->image, parts->image_size);
    return token_rows_add(self->rows, key, self->tokens, token_encoder_length(self->encoder), parts->caption,
                          parts->caption_size, error);
}

/* ---------------------------------------------------------------- all forms */

int body_path(const char *folder, output_form form, uint64_t number, char out[4096], limn_error *error) {
    return shard_path(folder, number, form == OUTPUT_FILES ? NULL : form == OUTPUT_TOKENS ? "h5" : "tar", out, error);
}

shard_body *body_open(const char *folder, const download_options *options, uint64_t number, bool keeps, limn_error *error) {
    shard_body *self = limn_allocate(1, sizeof *self, error);
    if (!self) return NULL;
    self->form = options->form;
    self->folder = -1;
    int status = body_path(folder, options->form, number, self->path, error);
    if (!status && keeps) status = body_path(options->output, options->form, number, self->old_path, error);
    if (!status && options->form == OUTPUT_FILES) status = open_folder(self, error);
    if (!status && options->form == OUTPUT_TOKENS) status = open_tokens(self, options->encoder, error);
    if (!status && options->form == OUTPUT_TARS) {
        self->tar = tar_writer_open(self->path, error);
        if (self->tar && keeps) self->old = tar_reader_open(self->old_path, error);
        status = !self->tar || (keeps && !self->old);
    }
    if (!status) return self;
    body_discard(self);
    return NULL;
}

int body_add(shard_body *self, const char *key, const pair_parts *parts, limn_error *error) {
    const char *const endings[] = {parts->extension, "txt", "json"};
    const void *const data[] = {parts->image, parts->caption, parts->json};
    const size_t sizes[] = {parts->image_size, parts->caption_size, parts->json_size};
    if (self->form == OUTPUT_TOKENS) return add_tokens(self, key, parts, error);
    for (size_t i = 0; i < 3; i++) {
        char name[96];
        snprintf(name, sizeof name, "%s.%s", key, endings[i]);
        if (self->form == OUTPUT_TARS && tar_writer_add(self->tar, name, data[i], sizes[i], error)) return -1;
        if (self->form == OUTPUT_FILES && write_file(self, name, data[i], sizes[i], error)) return -1;
    }
    return 0;
}

int body_keep(shard_body *self, const char *key, limn_error *error) {
    static const char *const extensions[] = {[PICTURE_JPEG] = "jpg", [PICTURE_PNG] = "png", [PICTURE_WEBP] = "webp"};
    tar_sample sample;
    char name[96];
    if (self->form == OUTPUT_NONE) return 0;
    if (self->form == OUTPUT_TOKENS) return keep_tokens(self, key, error);
    if (self->form == OUTPUT_FILES) {
        snprintf(name, sizeof name, "%s.json", key);
        return faccessat(self->folder, name, F_OK, 0) ? gone(self, key, error) : 0;
    }
    const int got = tar_reader_next(self->old, &sample, error);
    if (got < 0) return -1;
    const picture_format format = got ? picture_sniff(sample.image, sample.image_size) : PICTURE_UNKNOWN;
    if (format == PICTURE_UNKNOWN || strcmp(sample.key, key)) return gone(self, key, error);
    const pair_parts parts = {.extension = extensions[format],
                              .image = sample.image,
                              .image_size = sample.image_size,
                              .caption = sample.caption,
                              .caption_size = sample.caption_size,
                              .json = sample.json,
                              .json_size = sample.json_size};
    return body_add(self, key, &parts, error);
}

int body_commit(shard_body *self, limn_error *error) {
    int status = 0;
    if (self->tar) status = tar_writer_commit(self->tar, error);
    self->tar = NULL;
    if (self->rows) status = token_rows_write(self->rows, self->encoder, self->path, error);
    /* One flush for thousands of small files. */
    if (!status && self->folder >= 0 && syncfs(self->folder))
        status = limn_fail(error, "%s: cannot be flushed: %s", self->path, strerror(errno));
    body_discard(self);
    return status;
}

void body_discard(shard_body *self) {
    if (!self) return;
    if (self->tar) tar_writer_discard(self->tar);
    if (self->old) tar_reader_close(self->old);
    if (self->folder >= 0) close(self->folder);
    token_rows_free(self->rows);
    token_shard_free(&self->old_rows);
    free(self->tokens);
    free(self);
}
