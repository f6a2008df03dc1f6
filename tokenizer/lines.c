/* Lines of text to JSON lines of ids, and back. */
#include "tokenizer/internal.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- writing ids */

/* ", 123" for each id below WRITTEN_IDS, in eight bytes of which the last is the length: writing an id is copying them. */
enum { WRITTEN_IDS = 100000, WRITTEN_MAX = 12 };
typedef struct {
    char text[7];
    unsigned char length;
} written_id;

static written_id *write_ids(size_t count, limn_error *error) {
    if (count > WRITTEN_IDS) count = WRITTEN_IDS;
    written_id *written = limn_allocate(count, sizeof *written, error);
    for (size_t id = 0; written && id < count; id++) {
        char text[WRITTEN_MAX + 1];
        written[id].length = (unsigned char)snprintf(text, sizeof text, ", %zu", id);
        memcpy(written[id].text, text, written[id].length);
    }
    return written;
}

static int encode_line(const line_turning *turning, const char *line, size_t size, size_t readable, line_answer *to) {
    static const char begin[] = "{\"ids\": [", end[] = "]}\n";
    enum { BEGIN = sizeof begin - 1, END = sizeof end - 1, COMMA = 2 };
    const written_id *written = turning->written;
    if (encode_text(turning->self, line, size, readable, &to->ids, &to->error)) return -1;
    if (limn_buffer_reserve(&to->out, BEGIN + END + WRITTEN_MAX * to->ids.count, &to->error)) return -1;
    char *start = to->out.data + to->out.size, *at = start + BEGIN - (to->ids.count ? COMMA : 0);
    for (size_t i = 0; i < to->ids.count; i++) {
        size_t id = (size_t)to->ids.items[i];
        if (id < WRITTEN_IDS) {
            memcpy(at, &written[id], sizeof *written);
            at += written[id].length;
        } else {
            at += snprintf(at, WRITTEN_MAX + 1, ", %zu", id);
        }
    }
    memcpy(start, begin, BEGIN); /* over the first comma */
    memcpy(at, end, END);
    to->out.size = (size_t)(at - to->out.data) + END;
    return 0;
}

static int decode_line(const line_turning *turning, const char *line, size_t size, size_t readable, line_answer *to) {
    (void)readable;
    limn_error *error = &to->error;
    json_error_t where;
    json_t *value = json_loadb(line, size, JSON_REJECT_DUPLICATES, &where);
    if (!value) return limn_fail(error, "not JSON: %s; expected {\"ids\": [0, 1, 2]}", where.text);
    const json_t *ids = json_is_array(value) ? value : json_object_get(value, "ids"), *id;
    size_t i;
    int status = json_is_array(ids) ? 0 : limn_fail(error, "has no list of ids; expected {\"ids\": [0, 1, 2]}");
    to->ids.count = 0;
    if (status == 0) status = id_list_reserve(&to->ids, json_array_size(ids), error);
    if (status == 0) {
        json_array_foreach(ids, i, id) {
            json_int_t number = json_integer_value(id);
            if (!json_is_integer(id) || number < 0 || number > INT32_MAX) {
                status = limn_fail(error, "id %zu is not a token id (an integer from 0 to %zu)", i,
                                   tokenizer_vocabulary_size(turning->self) - 1);
                break;
            }
            to->ids.items[to->ids.count++] = (int32_t)number;
        }
    }
    if (status == 0) status = tokenizer_decode(turning->self, to->ids.items, to->ids.count, &to->out, error);
    if (status == 0) status = limn_buffer_append(&to->out, "\n", 1, error);
    json_decref(value);
    return status;
}

/* ---------------------------------------------------------------- the lines of a file */

static void answer_block(void *context, size_t thread, const line_block *block) {
    const line_turning *turning = context;
    line_answer *to = &turning->answers[thread];
    to->out.size = 0;
    to->lines = 0;
    to->status = 0;
    for (size_t start = 0, next; start < block->size && to->status == 0; start = next) {
        size_t length = line_length(block, start, &next), before = to->out.size;
        to->status = turning->turn(turning, block->data + start, length, block->readable - start, to);
        if (to->status)
            to->out.size = before;
        else
            to->lines++;
    }
}

static int write_answer(void *context, size_t thread, const char *name, uint64_t *line, limn_error *error) {
    line_turning *turning = context;
    const line_answer *to = &turning->answers[thread];
    if (!turning->progress) turning->progress = limn_progress_start("captions", "lines", 0, 0);
    if ((to->out.size && fwrite(to->out.data, 1, to->out.size, turning->out) != to->out.size) || fflush(turning->out))
        return limn_fail(error, "standard output cannot be written: %s", strerror(errno));
    *line += to->lines;
    limn_progress_update(turning->progress, *line, "%s", name);
    if (to->status) return limn_fail(error, "%s: line %llu: %s", name, (unsigned long long)*line + 1, to->error.message);
    return 0;
}

int turn_lines(line_turning *turning, const char *path, limn_error *error) {
    size_t threads = limn_get_threads();
    turning->answers = limn_allocate(threads, sizeof *turning->answers, error);
    if (!turning->answers) return -1;
    int status = for_each_block(path, threads, &(line_work){turning, answer_block, write_answer}, error);
    limn_progress_finish(turning->progress);
    for (size_t i = 0; i < threads; i++) {
        limn_buffer_free(&turning->answers[i].out);
        free(turning->answers[i].ids.items);
    }
    free(turning->answers);
    return status;
}

int tokenizer_encode_lines(const tokenizer *self, const char *path, FILE *out, limn_error *error) {
    written_id *written = write_ids(tokenizer_vocabulary_size(self), error);
    line_turning turning = {.self = self, .turn = encode_line, .written = written, .out = out};
    int status = written ? turn_lines(&turning, path, error) : -1;
    free(written);
    return status;
}

int tokenizer_decode_lines(const tokenizer *self, const char *path, FILE *out, limn_error *error) {
    return turn_lines(&(line_turning){.self = self, .turn = decode_line, .out = out}, path, error);
}
