/* Checked allocation and growing buffers. */
#include "core/core.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Large arrays lie on large pages: weights and moments are streamed through, and the page table walks of small ones cost a tenth
 * of it. */
enum { ALIGNMENT = 64, HUGE_PAGE = 2 << 20, LARGE = 2 * HUGE_PAGE };

int limn_multiply(size_t a, size_t b, size_t *out, limn_error *error) {
    if (__builtin_mul_overflow(a, b, out)) return limn_fail(error, "a size of %zu × %zu does not fit this machine", a, b);
    return 0;
}

void *limn_allocate(size_t count, size_t size, limn_error *error) {
    size_t bytes;
    if (limn_multiply(count, size, &bytes, error)) return NULL;
    size_t rounded = 0;
    void *memory = NULL;
    const size_t alignment = bytes >= LARGE ? HUGE_PAGE : ALIGNMENT;
    if (!__builtin_add_overflow(bytes ? bytes : 1, alignment - 1, &rounded) && rounded <= PTRDIFF_MAX)
        memory = aligned_alloc(alignment, rounded / alignment * alignment);
    if (!memory) {
        limn_fail(error, "out of memory: %zu bytes asked for", bytes);
        return NULL;
    }
    if (bytes >= LARGE) madvise(memory, rounded / alignment * alignment, MADV_HUGEPAGE); /* only a hint */
    memset(memory, 0, bytes);
    return memory;
}

/* Room for `more` bytes and the closing NUL. */
int limn_buffer_reserve(limn_buffer *buffer, size_t more, limn_error *error) {
    size_t needed;
    if (__builtin_add_overflow(buffer->size, more, &needed) || needed >= PTRDIFF_MAX)
        return limn_fail(error, "out of memory: a buffer of more than %zu bytes", buffer->size);
    if (needed < buffer->capacity) return 0;
    size_t capacity = buffer->capacity < 64 ? 64 : buffer->capacity;
    while (capacity <= needed) capacity = capacity > PTRDIFF_MAX / 2 ? needed + 1 : capacity * 2;
    char *grown = realloc(buffer->data, capacity);
    if (!grown) return limn_fail(error, "out of memory: %zu bytes asked for", capacity);
    buffer->data = grown;
    buffer->capacity = capacity;
    return 0;
}

int limn_buffer_append(limn_buffer *buffer, const void *data, size_t size, limn_error *error) {
    if (limn_buffer_reserve(buffer, size, error)) return -1;
    if (size) memcpy(buffer->data + buffer->size, data, size);
    buffer->size += size;
    buffer->data[buffer->size] = '\0';
    return 0;
}

int limn_buffer_printf(limn_buffer *buffer, limn_error *error, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    if (length < 0) return limn_fail(error, "text that cannot be formatted: %s", format);
    if (limn_buffer_reserve(buffer, (size_t)length, error)) return -1;
    va_start(arguments, format);
    vsnprintf(buffer->data + buffer->size, (size_t)length + 1, format, arguments);
    va_end(arguments);
    buffer->size += (size_t)length;
    return 0;
}

void limn_buffer_free(limn_buffer *buffer) {
    free(buffer->data);
    *buffer = (limn_buffer){0};
}
