/* Captions from files: to train on, and to turn into ids and back line by line. */
#include "formats/formats.h"
#include "tokenizer/internal.h"
#include <errno.h>
#include <fcntl.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BLOCK_BYTES = 4 << 20, LINE_LIMIT = 64 << 20 };

/* ---------------------------------------------------------------- lines of a file, a block at a time */

typedef struct {
    int file;
    const char *name;
    char *data;
    size_t size, capacity;
    size_t start;  /* of what was not given out yet */
    uint64_t line; /* lines given out */
    bool ended;
} line_reader;

static int reader_open(line_reader *reader, const char *path, limn_error *error) {
    *reader = (line_reader){.file = STDIN_FILENO, .name = path ? path : "standard input"};
    if (path) reader->file = open(path, O_RDONLY | O_CLOEXEC);
    if (reader->file < 0) return limn_fail(error, "%s: cannot be opened: %s", path, strerror(errno));
    return 0;
}

static void reader_close(line_reader *reader) {
    if (reader->file > STDIN_FILENO) close(reader->file);
    free(reader->data);
}

/* Reads until there is a whole line at least; gives out all whole lines that are there, the newline of the last included where
 * the file has one. 1: lines, 0: the end. A pipe's lines come as soon as they are written. */
static int reader_next(line_reader *reader, const char **lines, size_t *size, limn_error *error) {
    if (reader->start) memmove(reader->data, reader->data + reader->start, reader->size - reader->start);
    reader->size -= reader->start;
    reader->start = 0;
    for (size_t searched = 0; !reader->ended;) {
        const char *newline = reader->size > searched ? memrchr(reader->data + searched, '\n', reader->size - searched) : NULL;
        if (newline) {
            *lines = reader->data;
            *size = reader->start = (size_t)(newline - reader->data) + 1;
            return 1;
        }
        searched = reader->size;
        if (reader->size > LINE_LIMIT)
            return limn_fail(error, "%s: line %llu is longer than %d bytes; one caption goes on a line", reader->name,
                             (unsigned long long)reader->line + 1, LINE_LIMIT);
        if (reader->capacity - reader->size < BLOCK_BYTES) {
            size_t capacity = 2 * reader->capacity + BLOCK_BYTES;
            char *data = realloc(reader->data, capacity);
            if (!data) return limn_fail(error, "%s: not enough memory for a block of %zu bytes", reader->name, capacity);
            reader->data = data;
            reader->capacity = capacity;
        }
        ssize_t got = read(reader->file, reader->data + reader->size, BLOCK_BYTES);
        if (got < 0 && errno == EINTR) {
            if (limn_stop_requested()) return limn_fail(error, "%s: stopped", reader->name);
            continue;
        }
        if (got < 0) return limn_fail(error, "%s: cannot be read: %s", reader->name, strerror(errno));
        if (got == 0) reader->ended = true;
        reader->size += (size_t)got;
    }
    *lines = reader->data;
    *size = reader->start = reader->size;
    return reader->size > 0;
}

/* The length of the line at text[start] without its end (\n or \r\n); *next is where the following begins. */
static size_t line_length(const char *text, size_t size, size_t start, size_t *next) {
    const char *newline = memchr(text + start, '\n', size - start);
    size_t end = newline ? (size_t)(newline - text) : size;
    *next = newline ? end + 1 : size;
    if (newline && end > start && text[end - 1] == '\r') end--;
    return end - start;
}

/* ---------------------------------------------------------------- training */

/* One caption; those too long for a caption are counted and left out. */
static int add_caption(tokenizer_trainer *trainer, const char *text, size_t size, tokenizer_corpus *corpus, limn_error *error) {
    if (size > TOKENIZER_MAX_TEXT) {
        corpus->too_long++;
        return 0;
    }
    corpus->captions++;
    corpus->bytes += size;
    if (!limn_utf8_valid(text, size)) corpus->not_utf8++;
    return tokenizer_trainer_add(trainer, text, size, error);
}

static int add_tar(tokenizer_trainer *trainer, const char *path, tokenizer_corpus *corpus, limn_progress *progress,
                   limn_error *error) {
    tar_reader *reader = tar_reader_open(path, error);
    tar_sample sample;
    limn_buffer led = {0};
    int got = -1, status = reader ? 0 : -1;
    while (status == 0 && (got = tar_reader_next(reader, &sample, error)) == 1) {
        if (limn_stop_requested()) status = limn_fail(error, "stopped at %s; run the same command to train anew", path);
        if (!sample.caption || sample.caption_size == 0 || status) continue;
        led.size = 0;
        if (sample.caption[0] != ' ') status = limn_buffer_append(&led, " ", 1, error);
        if (status == 0) status = limn_buffer_append(&led, sample.caption, sample.caption_size, error);
        if (status == 0) status = add_caption(trainer, led.data, led.size, corpus, error);
        limn_progress_update(progress, corpus->captions, "%s", path);
    }
    limn_buffer_free(&led);
    if (reader) tar_reader_close(reader);
    return got < 0 ? -1 : status;
}

static int add_lines(tokenizer_trainer *trainer, const char *path, tokenizer_corpus *corpus, limn_progress *progress,
                     limn_error *error) {
    line_reader reader;
    const char *lines;
    size_t size, next;
    int got = -1, status = 0;
    if (reader_open(&reader, path, error)) return -1;
    while (status == 0 && (got = reader_next(&reader, &lines, &size, error)) == 1) {
        for (size_t start = 0; start < size && status == 0; start = next)
            status = add_caption(trainer, lines + start, line_length(lines, size, start, &next), corpus, error);
        if (limn_stop_requested() && status == 0)
            status = limn_fail(error, "stopped at %s; run the same command to train anew", path);
        limn_progress_update(progress, corpus->captions, "%s", path);
    }
    reader_close(&reader);
    return got < 0 ? -1 : status;
}

int tokenizer_trainer_add_file(tokenizer_trainer *trainer, const char *path, tokenizer_corpus *corpus, limn_progress *progress,
                               limn_error *error) {
    size_t length = strlen(path);
    if (length > 4 && strcmp(path + length - 4, ".tar") == 0) return add_tar(trainer, path, corpus, progress, error);
    return add_lines(trainer, path, corpus, progress, error);
}

/* ---------------------------------------------------------------- line by line */

static int encode_line(const void *self, const char *line, size_t size, id_list *scratch, limn_buffer *out, limn_error *error) {
    if (tokenizer_encode(self, line, size, &scratch->items, &scratch->capacity, &scratch->count, error)) return -1;
    if (limn_buffer_append(out, "{\"ids\": [", 9, error)) return -1;
    for (size_t i = 0; i < scratch->count; i++) {
        char digits[16];
        size_t place = sizeof digits;
        uint32_t id = (uint32_t)scratch->items[i];
        do digits[--place] = (char)('0' + id % 10);
        while (id /= 10);
        if (i) {
            digits[--place] = ' ';
            digits[--place] = ',';
        }
        if (limn_buffer_append(out, digits + place, sizeof digits - place, error)) return -1;
    }
    return limn_buffer_append(out, "]}\n", 3, error);
}

static int decode_line(const void *tokens, const char *line, size_t size, id_list *scratch, limn_buffer *out,
                       limn_error *error) {
    const tokenizer *self = tokens;
    json_error_t where;
    json_t *value = json_loadb(line, size, 0, &where);
    if (!value) return limn_fail(error, "not JSON: %s; expected {\"ids\": [0, 1, 2]}", where.text);
    const json_t *ids = json_is_array(value) ? value : json_object_get(value, "ids"), *id;
    size_t i;
    int status = json_is_array(ids) ? 0 : limn_fail(error, "has no list of ids; expected {\"ids\": [0, 1, 2]}");
    scratch->count = 0;
    if (status == 0) status = id_list_reserve(scratch, json_array_size(ids), error);
    if (status == 0) {
        json_array_foreach(ids, i, id) {
            json_int_t number = json_integer_value(id);
            if (!json_is_integer(id) || number < 0 || number > INT32_MAX) {
                status = limn_fail(error, "id %zu is not a token id (an integer from 0 to %zu)", i, self->texts.count - 1);
                break;
            }
            scratch->items[scratch->count++] = (int32_t)number;
        }
    }
    if (status == 0) status = tokenizer_decode(self, scratch->items, scratch->count, out, error);
    if (status == 0) status = limn_buffer_append(out, "\n", 1, error);
    json_decref(value);
    return status;
}

/* A share of a block's lines, and its answer. */
typedef struct {
    size_t start, end;
    limn_buffer out;
    id_list scratch;
    uint64_t lines; /* answered */
    int status;
    limn_error error;
} share;

static void answer_share(const void *self, share *part, const char *lines, line_function function) {
    size_t next;
    part->out.size = 0;
    part->lines = 0;
    part->status = 0;
    for (size_t start = part->start; start < part->end && part->status == 0; start = next) {
        size_t length = line_length(lines, part->end, start, &next), before = part->out.size;
        part->status = function(self, lines + start, length, &part->scratch, &part->out, &part->error);
        if (part->status)
            part->out.size = before;
        else
            part->lines++;
    }
}

/* Shares are cut at line ends, about equal in bytes. */
static void cut_shares(share *shares, size_t count, const char *lines, size_t size) {
    size_t start = 0;
    for (size_t i = 0; i < count; i++) {
        size_t end = i + 1 == count ? size : size / count * (i + 1);
        if (end < start) end = start;
        if (end > start && end < size) {
            const char *newline = memchr(lines + end - 1, '\n', size - end + 1);
            end = newline ? (size_t)(newline - lines) + 1 : size;
        }
        shares[i].start = start;
        shares[i].end = start = end;
    }
}

int answer_lines(const void *self, const char *path, FILE *out, line_function function, limn_error *error) {
    line_reader reader;
    size_t count = limn_get_threads(), size;
    const char *lines;
    if (reader_open(&reader, path, error)) return -1;
    share *shares = limn_allocate(count, sizeof *shares, error);
    int status = shares ? 0 : -1, got = 0;
    limn_progress *progress = limn_progress_start("captions", "lines", 0, 0);
    while (status == 0 && (got = reader_next(&reader, &lines, &size, error)) == 1) {
        cut_shares(shares, count, lines, size);
#pragma omp parallel for schedule(static, 1) num_threads((int)count) if (size > 4096)
        for (size_t i = 0; i < count; i++) answer_share(self, &shares[i], lines, function);
        for (size_t i = 0; i < count && status == 0; i++) {
            if (shares[i].out.size && fwrite(shares[i].out.data, 1, shares[i].out.size, out) != shares[i].out.size)
                status = limn_fail(error, "standard output cannot be written: %s", strerror(errno));
            reader.line += shares[i].lines;
            if (shares[i].status && status == 0)
                status = limn_fail(error, "%s: line %llu: %s", reader.name, (unsigned long long)reader.line + 1,
                                   shares[i].error.message);
        }
        if (fflush(out) && status == 0) status = limn_fail(error, "standard output cannot be written: %s", strerror(errno));
        if (limn_stop_requested() && status == 0)
            status = limn_fail(error, "stopped after line %llu of %s", (unsigned long long)reader.line, reader.name);
        limn_progress_update(progress, reader.line, "%s", reader.name);
    }
    limn_progress_finish(progress);
    for (size_t i = 0; shares && i < count; i++) {
        limn_buffer_free(&shares[i].out);
        free(shares[i].scratch.items);
    }
    free(shares);
    reader_close(&reader);
    return got < 0 ? -1 : status;
}

int tokenizer_encode_lines(const tokenizer *self, const char *path, FILE *out, limn_error *error) {
    return answer_lines(self, path, out, encode_line, error);
}

int tokenizer_decode_lines(const tokenizer *self, const char *path, FILE *out, limn_error *error) {
    return answer_lines(self, path, out, decode_line, error);
}
