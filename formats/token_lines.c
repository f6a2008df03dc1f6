/* Token lines: pairs of caption and tokens as JSON lines, plain or gzipped. */
#include "formats/formats.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum { LINE_BYTES_MAX = 4 << 20, BLOCK_BYTES = 1 << 18 };

/* ---------------------------------------------------------------- lines of a file */

typedef struct {
    const char *path;
    gzFile file; /* reads plain files as they are */
    char *block;
    size_t at, size; /* of the block */
    size_t number;   /* of the line read last, from 1 */
    limn_buffer line;
} line_reader;

static void line_reader_close(line_reader *self) {
    if (self->file) gzclose_r(self->file);
    free(self->block);
    limn_buffer_free(&self->line);
}

static int line_reader_open(line_reader *self, const char *path, limn_error *error) {
    *self = (line_reader){.path = path, .file = gzopen(path, "rb"), .block = limn_allocate(BLOCK_BYTES, 1, error)};
    if (self->file && self->block) return 0;
    if (!self->file)
        limn_fail(error, limn_file_exists(path) ? "%s: cannot be opened; may this user read it?" : "%s: no such file", path);
    line_reader_close(self);
    return -1;
}

/* Reads on when all of the block is used: 1, or 0 at the end of the file. */
static int fill_block(line_reader *self, limn_error *error) {
    if (self->at < self->size) return 1;
    int got = gzread(self->file, self->block, BLOCK_BYTES), why = Z_OK;
    self->at = 0;
    self->size = got > 0 ? (size_t)got : 0;
    if (got > 0) return 1;
    gzerror(self->file, &why);
    if (got == 0 && why != Z_BUF_ERROR) return 0;
    return limn_fail(error, "%s: cannot be read after line %zu: the file is damaged or cut short; make it again", self->path,
                     self->number);
}

/* The next line without its end into self->line: 1, or 0 after the last. */
static int next_line(line_reader *self, limn_error *error) {
    self->line.size = 0;
    int more = fill_block(self, error);
    if (more <= 0) return more;
    self->number++;
    do {
        const char *from = self->block + self->at, *newline = memchr(from, '\n', self->size - self->at);
        size_t bytes = newline ? (size_t)(newline - from) : self->size - self->at;
        if (bytes > LINE_BYTES_MAX - self->line.size)
            return limn_fail(error, "%s: line %zu: longer than %d bytes; is it a file of JSON lines?", self->path, self->number,
                             LINE_BYTES_MAX);
        if (limn_buffer_append(&self->line, from, bytes, error)) return -1;
        self->at += bytes + (newline != NULL);
        if (newline) return 1;
    } while ((more = fill_block(self, error)) > 0);
    return more < 0 ? -1 : 1; /* the last line may lack its end */
}

/* ---------------------------------------------------------------- parts */

static int add_part(limn_buffer *parts, uint64_t offset, size_t line, size_t lines, limn_error *error) {
    token_lines_part part = {offset, line, lines};
    return limn_buffer_append(parts, &part, sizeof part, error);
}

/* Every `lines`-th line ends a part. */
static int cut_plain(line_reader *self, size_t lines, limn_buffer *parts, limn_error *error) {
    uint64_t before = 0, begin = 0; /* bytes of the file before the block, before the part */
    size_t line = 1, first = 1;     /* the line that is looked at, the first of the part */
    int more;
    while ((more = fill_block(self, error)) > 0) {
        for (const char *newline; (newline = memchr(self->block + self->at, '\n', self->size - self->at)); line++) {
            self->at = (size_t)(newline - self->block) + 1;
            if (line - first + 1 < lines) continue;
            if (add_part(parts, begin, first, lines, error)) return -1;
            begin = before + self->at;
            first = line + 1;
        }
        self->at = self->size;
        before += self->size;
    }
    if (more < 0 || before == begin) return more;
    return add_part(parts, begin, first, lines, error);
}

int token_lines_cut(const char *path, size_t lines, token_lines_part **out_parts, size_t *out_count, limn_error *error) {
    line_reader reader;
    limn_buffer parts = {0};
    if (line_reader_open(&reader, path, error)) return -1;
    int status = fill_block(&reader, error);
    if (status > 0) /* a packed file can only be read from its beginning */
        status = gzdirect(reader.file) ? cut_plain(&reader, lines, &parts, error) : add_part(&parts, 0, 1, SIZE_MAX, error);
    line_reader_close(&reader);
    if (status < 0) {
        limn_buffer_free(&parts);
        return -1;
    }
    *out_count = parts.size / sizeof(token_lines_part);
    *out_parts = (token_lines_part *)(void *)parts.data;
    return 0;
}

/* ---------------------------------------------------------------- a line's pair */

typedef struct {
    const char *path;
    size_t number; /* of the line */
    size_t length, codebook_size;
    const char *const *column_names;
    size_t columns, count, captions;
    limn_buffer tokens, caption_bytes, caption_offsets, caption_row, *column_values;
} pair_reader;

static int take_caption(pair_reader *self, const json_t *caption, limn_error *error) {
    if (!json_is_string(caption)) return limn_fail(error, "%s: line %zu: its caption is not a text", self->path, self->number);
    uint32_t row = (uint32_t)self->count;
    self->captions++;
    if (limn_buffer_append(&self->caption_bytes, json_string_value(caption), json_string_length(caption), error)) return -1;
    uint64_t end = self->caption_bytes.size;
    return limn_buffer_append(&self->caption_offsets, &end, sizeof end, error) ||
                   limn_buffer_append(&self->caption_row, &row, sizeof row, error)
               ? -1
               : 0;
}

static int take_captions(pair_reader *self, const json_t *object, limn_error *error) {
    const json_t *captions = json_object_get(object, "captions");
    if (!captions) captions = json_object_get(object, "caption");
    if (!captions) return limn_fail(error, "%s: line %zu: has no \"caption\" and no \"captions\"", self->path, self->number);
    if (!json_is_array(captions)) return take_caption(self, captions, error);
    if (json_array_size(captions) == 0)
        return limn_fail(error, "%s: line %zu: has an empty list of captions", self->path, self->number);
    for (size_t i = 0; i < json_array_size(captions); i++)
        if (take_caption(self, json_array_get(captions, i), error)) return -1;
    return 0;
}

static int take_tokens(pair_reader *self, const json_t *object, limn_error *error) {
    const json_t *tokens = json_object_get(object, "encoding");
    if (!tokens) tokens = json_object_get(object, "tokens");
    if (!json_is_array(tokens))
        return limn_fail(error, "%s: line %zu: has no list of numbers \"encoding\" or \"tokens\"", self->path, self->number);
    if (json_array_size(tokens) != self->length)
        return limn_fail(error, "%s: line %zu: has %zu tokens instead of %zu", self->path, self->number,
                         json_array_size(tokens), self->length);
    if (limn_buffer_reserve(&self->tokens, self->length * sizeof(uint16_t), error)) return -1;
    for (size_t t = 0; t < self->length; t++) {
        const json_t *number = json_array_get(tokens, t);
        if (!json_is_integer(number))
            return limn_fail(error, "%s: line %zu: token %zu is not a whole number", self->path, self->number, t);
        json_int_t value = json_integer_value(number);
        if (value < 0 || value > UINT16_MAX || (uint64_t)value >= self->codebook_size)
            return limn_fail(error, "%s: line %zu: has token %lld, but the codebook has %zu; is it of another VQGAN?",
                             self->path, self->number, (long long)value, self->codebook_size);
        uint16_t token = (uint16_t)value;
        if (limn_buffer_append(&self->tokens, &token, sizeof token, error)) return -1;
    }
    return 0;
}

static int fail_column(const pair_reader *self, const char *name, const json_t *object, limn_error *error) {
    limn_buffer there = {0};
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)object, key, value) {
        if (json_is_number(value) && there.size < 400) limn_buffer_printf(&there, NULL, "%s%s", there.size ? ", " : "", key);
    }
    limn_fail_usage(error, "%s: line %zu: has no number '%s'; its numbers are: %s", self->path, self->number, name,
                    there.size ? there.data : "none");
    limn_buffer_free(&there);
    return -1;
}

static int take_columns(pair_reader *self, const json_t *object, limn_error *error) {
    for (size_t i = 0; i < self->columns; i++) {
        const json_t *number = json_object_get(object, self->column_names[i]);
        if (!json_is_number(number) && !json_is_null(number)) return fail_column(self, self->column_names[i], object, error);
        float value = json_is_null(number) ? NAN : (float)json_number_value(number);
        if (limn_buffer_append(&self->column_values[i], &value, sizeof value, error)) return -1;
    }
    return 0;
}

static int take_line(pair_reader *self, const limn_buffer *line, limn_error *error) {
    if (strspn(line->data, " \t\r") == line->size) return 0;
    json_error_t why;
    json_t *object = json_loadb(line->data, line->size, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &why);
    if (!object) return limn_fail(error, "%s: line %zu: is not JSON: %s", self->path, self->number, why.text);
    int status = 0;
    if (!json_is_object(object))
        status = limn_fail(error, "%s: line %zu: is not a JSON object", self->path, self->number);
    else if (self->count == UINT32_MAX)
        status = limn_fail(error, "%s: has too many lines for one file; split it", self->path);
    else if (take_captions(self, object, error) || take_tokens(self, object, error) || take_columns(self, object, error))
        status = -1;
    else
        self->count++;
    json_decref(object);
    return status;
}

static int take_lines(pair_reader *self, const token_lines_part *part, limn_error *error) {
    line_reader lines;
    if (line_reader_open(&lines, self->path, error)) return -1;
    int more = 1;
    (void)gzdirect(
        lines.file); /* looks at the file: before that zlib would read all bytes up to the offset instead of seeking */
    if (part->offset && gzseek(lines.file, (z_off_t)part->offset, SEEK_SET) < 0)
        more = limn_fail(error, "%s: cannot be read from byte %llu on", self->path, (unsigned long long)part->offset);
    lines.number = part->line - 1;
    for (size_t i = 0; more > 0 && i < part->lines && (more = next_line(&lines, error)) > 0; i++) {
        self->number = lines.number;
        if (take_line(self, &lines.line, error)) more = -1;
    }
    line_reader_close(&lines);
    return more < 0 ? -1 : 0;
}

/* What was read, as a shard; the reader keeps nothing. */
static int give_shard(pair_reader *self, token_shard *out, limn_error *error) {
    *out = (token_shard){.count = self->count,
                         .length = self->length,
                         .captions = self->captions,
                         .codebook_size = self->codebook_size,
                         .tokens = (uint16_t *)(void *)self->tokens.data,
                         .caption_bytes = (unsigned char *)self->caption_bytes.data,
                         .caption_offsets = (uint64_t *)(void *)self->caption_offsets.data,
                         .caption_row = (uint32_t *)(void *)self->caption_row.data};
    self->tokens = self->caption_bytes = self->caption_offsets = self->caption_row = (limn_buffer){0};
    if (!self->columns) return 0;
    out->column_names = limn_allocate(self->columns, sizeof *out->column_names, error);
    out->column_values = limn_allocate(self->columns, sizeof *out->column_values, error);
    if (!out->column_names || !out->column_values) return -1;
    out->columns = self->columns;
    for (size_t i = 0; i < self->columns; i++) {
        out->column_values[i] = (float *)(void *)self->column_values[i].data;
        self->column_values[i] = (limn_buffer){0};
        out->column_names[i] = strdup(self->column_names[i]);
        if (!out->column_names[i]) return limn_fail(error, "%s: no memory to read it", self->path);
    }
    return 0;
}

int token_lines_read(const char *path, const token_lines_part *part, size_t length, size_t codebook_size,
                     const char *const *column_names, size_t columns, token_shard *shard, limn_error *error) {
    pair_reader self = {.path = path,
                        .length = length,
                        .codebook_size = codebook_size,
                        .column_names = column_names,
                        .columns = columns,
                        .column_values = limn_allocate(columns, sizeof(limn_buffer), error)};
    const uint64_t zero = 0;
    *shard = (token_shard){0};
    int status = self.column_values ? limn_buffer_append(&self.caption_offsets, &zero, sizeof zero, error) : -1;
    if (status == 0) status = take_lines(&self, part, error);
    if (status == 0) status = give_shard(&self, shard, error);
    limn_buffer *buffers[] = {&self.tokens, &self.caption_bytes, &self.caption_offsets, &self.caption_row};
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++) limn_buffer_free(buffers[i]);
    for (size_t i = 0; self.column_values && i < columns; i++) limn_buffer_free(&self.column_values[i]);
    free(self.column_values);
    if (status) token_shard_free(shard);
    return status;
}
