/* Mutations that a number decides, made from the seeds alone: for every build, without clang. */
#include "tests/fuzz/run.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OPERATIONS_MAX = 8, PIECE_MAX = 64, INPUT_MAX = 4 << 20 };

/* A sequence of choices that (seed, mutation) decides. */
typedef struct {
    uint64_t seed, stream, next;
} choices;

static size_t choose(choices *self, size_t bound) {
    return (size_t)limn_random_below(self->seed, self->stream, self->next++, bound);
}

/* Numbers that sit at the edges of what code expects. */
static uint64_t edge_number(choices *self) {
    static const uint64_t edges[] = {0,
                                     1,
                                     2,
                                     0x7f,
                                     0x80,
                                     0xff,
                                     0x7fff,
                                     0x8000,
                                     0xffff,
                                     0x7fffffff,
                                     0x80000000,
                                     0xffffffff,
                                     0x7fffffffffffffff,
                                     0x8000000000000000,
                                     0xfffffffffffffff8,
                                     0xffffffffffffffff};
    return edges[choose(self, sizeof edges / sizeof *edges)];
}

static void put_number(choices *self, char *data, size_t size) {
    uint64_t number = choose(self, 2) ? edge_number(self) : choose(self, 65536);
    size_t bytes = (size_t)1 << choose(self, 4);
    bool big_endian = choose(self, 2);
    if (bytes > size) return;
    size_t at = choose(self, size - bytes + 1);
    for (size_t i = 0; i < bytes; i++) data[at + i] = (char)(number >> (8 * (big_endian ? bytes - 1 - i : i)));
}

static void erase(limn_buffer *buffer, size_t at, size_t count) {
    memmove(buffer->data + at, buffer->data + at + count, buffer->size - at - count);
    buffer->size -= count;
}

static void insert(limn_buffer *buffer, size_t at, const char *piece, size_t count) {
    size_t before = buffer->size;
    if (before + count > INPUT_MAX || limn_buffer_append(buffer, piece, count, NULL)) return;
    memmove(buffer->data + at + count, buffer->data + at, before - at);
    memcpy(buffer->data + at, piece, count);
}

/* A piece of the source: its place and a length of at most PIECE_MAX. */
static size_t choose_piece(choices *self, size_t size, size_t *out_at) {
    *out_at = choose(self, size);
    size_t room = size - *out_at < PIECE_MAX ? size - *out_at : PIECE_MAX;
    return 1 + choose(self, room);
}

static void mutate_once(choices *self, limn_buffer *buffer, const limn_buffer *other) {
    char piece[PIECE_MAX];
    size_t from, length;
    if (buffer->size == 0) return;
    size_t at = choose(self, buffer->size);
    switch (choose(self, 10)) {
    case 0:
    case 1:
        buffer->data[at] = (char)(buffer->data[at] ^ 1 << choose(self, 8));
        break;
    case 2:
        buffer->data[at] = (char)choose(self, 256);
        break;
    case 3:
    case 4:
        put_number(self, buffer->data, buffer->size);
        break;
    case 5: /* a digit for a digit: texts stay texts, numbers change */
        for (size_t i = 0; i < buffer->size; i++, at = (at + 1) % buffer->size)
            if (buffer->data[at] >= '0' && buffer->data[at] <= '9') {
                buffer->data[at] = (char)('0' + choose(self, 10));
                break;
            }
        break;
    case 6:
        length = choose_piece(self, buffer->size, &from);
        erase(buffer, from, length);
        break;
    case 7:
        length = choose_piece(self, buffer->size, &from);
        memcpy(piece, buffer->data + from, length);
        insert(buffer, at, piece, length);
        break;
    case 8:
        if (other->size == 0) break;
        length = choose_piece(self, other->size, &from);
        insert(buffer, at, other->data + from, length);
        break;
    case 9: /* cutting off the end says much about a reader, but leaves little to the rest: seldom */
        if (choose(self, 4) == 0) buffer->size = at;
        break;
    }
}

static void mutate(uint64_t seed, uint64_t index, const limn_buffer *seeds, size_t seed_count, limn_buffer *out) {
    choices self = {.seed = seed, .stream = limn_random_stream("fuzz") + index};
    const limn_buffer *base = &seeds[choose(&self, seed_count)], *other = &seeds[choose(&self, seed_count)];
    out->size = 0;
    if (limn_buffer_append(out, base->data, base->size, NULL)) _exit(LIMN_EXIT_FAILED);
    size_t operations = 1 + choose(&self, OPERATIONS_MAX);
    for (size_t i = 0; i < operations; i++) mutate_once(&self, out, other);
    out->data[out->size] = '\0';
}

/* An exact copy on the heap, without a byte of slack: a reader that looks past the end is caught by the sanitizer. */
static const char *give(fuzz_target target, const char *data, size_t size) {
    char *exact = malloc(size ? size : 1);
    if (!exact) return "no memory";
    memcpy(exact, data, size);
    const char *complaint = target(exact, size);
    free(exact);
    return complaint;
}

const char *fuzz_refuse(const fuzz_request *request) {
    return request->corpus ? "--corpus is libFuzzer's: build with cmake --preset fuzz" : NULL;
}

int fuzz_run(const fuzz_request *request) {
    limn_buffer seeds[FUZZ_SEEDS_MAX] = {{0}}, input = {0};
    size_t seed_count = 0;
    const double end = request->seconds ? limn_seconds() + (double)request->seconds : 0;
    while (seed_count < FUZZ_SEEDS_MAX && request->make_seed(seed_count, &seeds[seed_count])) seed_count++;
    const char *complaint = seed_count ? NULL : "makes no seed";
    for (size_t i = 0; i < seed_count && !complaint; i++) complaint = give(request->target, seeds[i].data, seeds[i].size);
    for (uint64_t i = 0; !complaint && (request->count == 0 || i < request->count); i++) {
        if (end > 0 && limn_seconds() > end) break;
        *request->progress = i + 1;
        alarm(FUZZ_SECONDS_MAX);
        mutate(request->seed, request->from + i, seeds, seed_count, &input);
        complaint = give(request->target, input.data, input.size);
    }
    alarm(0);
    if (complaint) fprintf(stderr, "%s\n", complaint);
    for (size_t i = 0; i < seed_count; i++) limn_buffer_free(&seeds[i]);
    limn_buffer_free(&input);
    return complaint ? LIMN_EXIT_FAILED : LIMN_EXIT_DONE;
}

void fuzz_print_repetition(const fuzz_request *request) {
    uint64_t last = request->from + (*request->progress ? *request->progress - 1 : 0);
    fprintf(stderr, "--seed %llu --from %llu --count 1\n", (unsigned long long)request->seed, (unsigned long long)last);
}
