/* Activation memory: address space reserved once, a mark that moves. */
#include "core/core.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { ARENA_ALIGNMENT = 64 };

struct limn_arena {
    char *base;
    size_t limit, mark, peak;
};

limn_arena *limn_arena_create(size_t limit, limn_error *error) {
    limn_arena *arena = limn_allocate(1, sizeof *arena, error);
    if (!arena) return NULL;
    arena->limit = limit ? limit : ARENA_ALIGNMENT;
    void *base = mmap(NULL, arena->limit, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) {
        limn_fail(error, "cannot reserve %.1f GiB of address space: %s; choose a smaller batch or model",
                  (double)limit / (1 << 30), strerror(errno));
        free(arena);
        return NULL;
    }
    /* Activations are read and written in long runs: large pages save most of the page table walks. Only a hint. */
    madvise(base, arena->limit, MADV_HUGEPAGE);
    arena->base = base;
    return arena;
}

void *limn_arena_bytes(limn_arena *arena, size_t bytes) {
    size_t room = arena->limit - arena->mark;
    size_t rounded = 0;
    if (__builtin_add_overflow(bytes, (size_t)(ARENA_ALIGNMENT - 1), &rounded) ||
        (rounded = rounded / ARENA_ALIGNMENT * ARENA_ALIGNMENT) > room) {
        limn_log(LIMN_LOG_ERROR, "a step needs more than the %.2f GiB planned for it (%zu bytes on top of %zu)",
                 (double)arena->limit / (1 << 30), bytes, arena->mark);
        abort();
    }
    void *piece = arena->base + arena->mark;
    arena->mark += rounded;
    if (arena->mark > arena->peak) arena->peak = arena->mark;
    return piece;
}

float *limn_arena_floats(limn_arena *arena, size_t count) {
    return limn_arena_bytes(arena, count > SIZE_MAX / sizeof(float) ? SIZE_MAX : count * sizeof(float));
}

size_t limn_arena_left(const limn_arena *arena) {
    return (arena->limit - arena->mark) / ARENA_ALIGNMENT * ARENA_ALIGNMENT;
}

size_t limn_arena_mark(const limn_arena *arena) {
    return arena->mark;
}

void limn_arena_release(limn_arena *arena, size_t mark) {
    arena->mark = mark;
}

size_t limn_arena_peak(const limn_arena *arena) {
    return arena->peak;
}

void limn_arena_destroy(limn_arena *arena) {
    if (!arena) return;
    munmap(arena->base, arena->limit);
    free(arena);
}

/* The number of kibibytes in a line of a file of /proc, in bytes; `otherwise` when it is not there. */
static size_t read_kibibytes(const char *path, const char *format, size_t otherwise) {
    FILE *status = fopen(path, "r");
    if (!status) return otherwise;
    char line[256];
    size_t kibibytes = 0;
    bool found = false;
    while (!found && fgets(line, sizeof line, status)) found = sscanf(line, format, &kibibytes) == 1;
    fclose(status);
    return found ? kibibytes * 1024 : otherwise;
}

size_t limn_resident_bytes_peak(void) {
    return read_kibibytes("/proc/self/status", "VmHWM: %zu", 0);
}

size_t limn_memory_available(void) {
    return read_kibibytes("/proc/meminfo", "MemAvailable: %zu", SIZE_MAX);
}
