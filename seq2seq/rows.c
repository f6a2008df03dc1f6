/* Blocks of rows: the loops between two products. */
#include "seq2seq/internal.h"

#include <omp.h>
#include <string.h>

/* Floats of a room: seven of them are a part of the second cache, and so few rows that nn's functions do not divide them among
 * threads again. */
static const size_t ROOM = 8192;

static row_blocks take(const pass *p, size_t N, size_t width, bool with_sums) {
    row_blocks blocks = {.N = N, .width = width, .block_rows = width < ROOM ? ROOM / width : 1};
    blocks.parts = N < MOST_PARTS ? N : MOST_PARTS;
    if (N == 0) return blocks;
    blocks.part_rows = (N + blocks.parts - 1) / blocks.parts;
    blocks.rooms = step_take(p->memory, (size_t)omp_get_max_threads() * MOST_ROOMS * blocks.block_rows * width);
    blocks.sums = with_sums ? step_take(p->memory, blocks.parts * 2 * width) : NULL;
    return blocks;
}

row_blocks rows_take(const pass *p, size_t N, size_t width) {
    return take(p, N, width, true);
}

void rows_plan(const pass *p, size_t N, size_t width) {
    const size_t mark = step_mark(p->memory);
    rows_take(p, N, width);
    step_release(p->memory, mark);
}

void rows_do(const row_blocks *blocks, row_work *work, const void *context) {
    const size_t width = blocks->width;
#pragma omp parallel for schedule(static)
    for (size_t part = 0; part < blocks->parts; part++) {
        const size_t start = part * blocks->part_rows;
        const size_t end = start + blocks->part_rows < blocks->N ? start + blocks->part_rows : blocks->N;
        row_block block = {.blocks = blocks,
                           .rooms = blocks->rooms + (size_t)omp_get_thread_num() * MOST_ROOMS * blocks->block_rows * width};
        if (blocks->sums != NULL) {
            block.dscale = blocks->sums + part * 2 * width;
            block.dbias = block.dscale + width;
            memset(block.dscale, 0, 2 * width * sizeof(float));
        }
        for (block.n = start; block.n < end; block.n += block.count) {
            block.count = end - block.n < blocks->block_rows ? end - block.n : blocks->block_rows;
            work(&block, context);
        }
    }
}

void rows_each(const pass *p, size_t N, size_t width, row_work *work, const void *context) {
    const size_t mark = step_mark(p->memory);
    const row_blocks blocks = take(p, N, width, false);
    rows_do(&blocks, work, context);
    step_release(p->memory, mark);
}

void rows_add_sums(const row_blocks *blocks, float *dscale, float *dbias) {
    float *to[2] = {dscale, dbias};
    for (size_t part = 0; part < blocks->parts; part++)
        for (size_t i = 0; i < 2; i++)
            if (to[i] != NULL) add_scaled(to[i], blocks->sums + (part * 2 + i) * blocks->width, 1, blocks->width);
}

float *rows_room(const row_block *block, size_t room) {
    return block->rooms + room * block->blocks->block_rows * block->blocks->width;
}

float *rows_read(const row_block *block, numbers from, size_t room) {
    const size_t width = block->blocks->width;
    if (from.f32 != NULL) return from.f32 + block->n * width;
    float *rows = rows_room(block, room);
    expand_bf16(rows, from.bf16 + block->n * width, block->count * width);
    return rows;
}

float *rows_write(const row_block *block, numbers to, size_t room) {
    return to.f32 != NULL ? to.f32 + block->n * block->blocks->width : rows_room(block, room);
}

void rows_written(const row_block *block, numbers to, size_t room) {
    const size_t width = block->blocks->width;
    if (to.bf16 != NULL) round_to_bf16(to.bf16 + block->n * width, rows_room(block, room), block->count * width);
}
