#include "seq2seq/internal.h"

static const size_t ALIGNMENT = 64; /* the arena's */

void *step_take_bytes(step_memory *memory, size_t bytes) {
    if (memory->arena != NULL) return limn_arena_bytes(memory->arena, bytes);
    memory->taken += (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (memory->taken > memory->peak) memory->peak = memory->taken;
    return NULL;
}

float *step_take(step_memory *memory, size_t floats) {
    return step_take_bytes(memory, floats * sizeof(float));
}

numbers step_take_numbers(step_memory *memory, size_t count, bool half) {
    if (!half) return numbers_f32(step_take(memory, count));
    return (numbers){.bf16 = step_take_bytes(memory, count * sizeof(uint16_t))};
}

size_t step_mark(const step_memory *memory) {
    return memory->arena != NULL ? limn_arena_mark(memory->arena) : memory->taken;
}

void step_release(step_memory *memory, size_t mark) {
    if (memory->arena != NULL)
        limn_arena_release(memory->arena, mark);
    else
        memory->taken = mark;
}
