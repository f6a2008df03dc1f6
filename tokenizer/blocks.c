/* The lines of a file, a block at a time, by all threads: while one reads a block, others work on theirs, and what became of
 * them goes out in the order of the file. */
#include "tokenizer/internal.h"
#include <errno.h>
#include <fcntl.h>
#include <omp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BLOCK_BYTES = 1 << 20, LINE_LIMIT = 64 << 20 };

/* ---------------------------------------------------------------- reading */

typedef struct {
    int file;
    const char *name;
    limn_buffer rest; /* the beginning of a line that was read with the block before */
    bool ended;
} line_reader;

typedef enum { NO_MORE, LINES, LINE_TOO_LONG, READING_FAILED } read_result;

static int reader_open(line_reader *reader, const char *path, limn_error *error) {
    *reader = (line_reader){.file = STDIN_FILENO, .name = path ? path : "standard input"};
    if (path) reader->file = open(path, O_RDONLY | O_CLOEXEC);
    if (reader->file < 0) return limn_fail(error, "%s: cannot be opened: %s", path, strerror(errno));
    return 0;
}

static void reader_close(line_reader *reader) {
    if (reader->file > STDIN_FILENO) close(reader->file);
    limn_buffer_free(&reader->rest);
}

/* Waits for something to read. Ctrl-C may wake another thread than this one, so it looks up now and then. */
static int wait_for_input(const line_reader *reader, limn_error *error) {
    enum { MILLISECONDS = 100 };
    struct pollfd input = {.fd = reader->file, .events = POLLIN};
    while (poll(&input, 1, MILLISECONDS) <= 0)
        if (limn_stop_requested()) return limn_fail(error, "%s: stopped", reader->name);
    return 0;
}

/* Reads a piece of the file behind what the buffer has. At the end of the file it reads nothing and sets `ended`. */
static int read_piece(line_reader *reader, limn_buffer *buffer, limn_error *error) {
    ssize_t got;
    /* Also for looking beyond its end. */
    if (limn_buffer_reserve(buffer, BLOCK_BYTES + sizeof(short_word), error))
        return limn_fail_context(error, "%s", reader->name);
    do {
        if (wait_for_input(reader, error)) return -1;
        got = read(reader->file, buffer->data + buffer->size, BLOCK_BYTES);
    } while (got < 0 && errno == EINTR);
    if (got < 0) return limn_fail(error, "%s: cannot be read: %s", reader->name, strerror(errno));
    reader->ended = got == 0;
    buffer->size += (size_t)got;
    return 0;
}

/* Reads until there is a whole line at least, and gives all whole lines that are there. A pipe's lines come as soon as they are
 * written. */
static read_result read_lines(line_reader *reader, limn_buffer *block, limn_error *error) {
    block->size = 0;
    if (reader->ended) return NO_MORE;
    if (limn_buffer_append(block, reader->rest.data, reader->rest.size, error)) return READING_FAILED;
    for (size_t searched = block->size; !reader->ended; searched = block->size) {
        if (block->size > LINE_LIMIT) return LINE_TOO_LONG;
        if (read_piece(reader, block, error)) return READING_FAILED;
        const char *newline = memrchr(block->data + searched, '\n', block->size - searched);
        if (!newline) continue;
        size_t size = (size_t)(newline - block->data) + 1;
        reader->rest.size = 0;
        if (limn_buffer_append(&reader->rest, newline + 1, block->size - size, error)) return READING_FAILED;
        block->size = size;
        return LINES;
    }
    return block->size ? LINES : NO_MORE;
}

size_t line_length(const line_block *block, size_t start, size_t *next) {
    const char *newline = memchr(block->data + start, '\n', block->size - start);
    size_t end = newline ? (size_t)(newline - block->data) : block->size;
    *next = newline ? end + 1 : block->size;
    if (newline && end > start && block->data[end - 1] == '\r') end--;
    return end - start;
}

/* ---------------------------------------------------------------- all threads */

typedef struct {
    const line_work *work;
    pthread_mutex_t reading; /* guards reader and blocks_read */
    line_reader reader;
    uint64_t blocks_read;
    pthread_mutex_t finishing; /* guards the rest */
    pthread_cond_t turn;
    uint64_t blocks_finished, lines;
    limn_error *error;
    atomic_bool failed;
} block_run;

/* One block's turn: those before it are finished. */
static void finish_block(block_run *run, size_t thread, read_result got, const limn_error *error) {
    const char *name = run->reader.name;
    if (atomic_load(&run->failed)) return;
    int status = -1;
    if (got == LINE_TOO_LONG)
        limn_fail(run->error, "%s: line %llu is longer than %d bytes; one caption goes on a line", name,
                  (unsigned long long)run->lines + 1, LINE_LIMIT);
    else if (got == READING_FAILED)
        limn_fail(run->error, "%s", error->message);
    else
        status = run->work->finish(run->work->context, thread, name, &run->lines, run->error);
    if (status == 0 && limn_stop_requested())
        status = limn_fail(run->error, "stopped after line %llu of %s", (unsigned long long)run->lines, name);
    if (status) atomic_store(&run->failed, true);
}

static void work_on_blocks(block_run *run, size_t thread) {
    limn_buffer block = {0};
    limn_error error = {0};
    for (;;) {
        pthread_mutex_lock(&run->reading);
        read_result got = atomic_load(&run->failed) ? NO_MORE : read_lines(&run->reader, &block, &error);
        uint64_t number = run->blocks_read;
        if (got != LINES) run->reader.ended = true;
        if (got != NO_MORE) run->blocks_read++;
        pthread_mutex_unlock(&run->reading);
        if (got == NO_MORE) break;
        if (got == LINES) run->work->work(run->work->context, thread, &(line_block){block.data, block.size, block.capacity});

        pthread_mutex_lock(&run->finishing);
        while (run->blocks_finished != number) pthread_cond_wait(&run->turn, &run->finishing);
        finish_block(run, thread, got, &error);
        run->blocks_finished++;
        pthread_cond_broadcast(&run->turn);
        pthread_mutex_unlock(&run->finishing);
    }
    limn_buffer_free(&block);
}

int for_each_block(const char *path, size_t threads, const line_work *work, limn_error *error) {
    block_run run = {.work = work, .error = error};
    if (reader_open(&run.reader, path, error)) return -1;
    pthread_mutex_init(&run.reading, NULL);
    pthread_mutex_init(&run.finishing, NULL);
    pthread_cond_init(&run.turn, NULL);
#pragma omp parallel num_threads((int)threads)
    work_on_blocks(&run, (size_t)omp_get_thread_num());
    pthread_cond_destroy(&run.turn);
    pthread_mutex_destroy(&run.finishing);
    pthread_mutex_destroy(&run.reading);
    reader_close(&run.reader);
    return atomic_load(&run.failed) ? -1 : 0;
}
