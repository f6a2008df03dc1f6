/* Weights from file to file, one at a time. */
#include "convert/internal.h"

#include <stdlib.h>
#include <string.h>

/* Weights whose order of axes stays are taken in pieces of so many elements. */
enum { PIECE = 4 << 20 };

static size_t move_count(const weight_move *move) {
    size_t count = 1;
    for (size_t d = 0; d < move->to.rank; d++) count *= move->to.shape[d];
    return count;
}

int weight_moves_begin(weight_moves *moves, conversion *run, const model_source *source, size_t count, limn_error *error) {
    *moves = (weight_moves){
        .file = source->file, .prefix = source->prefix, .type = run->options->bf16 ? TENSOR_BF16 : TENSOR_F32, .run = run};
    moves->moves = limn_allocate(count, sizeof *moves->moves, error);
    return moves->moves ? 0 : -1;
}

/* ---------------------------------------------------------------- one weight */

typedef struct {
    weight_moves *moves;
    const size_t *first; /* (tensors+1): the moves of each tensor of the output */
    float *in, *out;     /* a whole weight, or a piece of one */
    uint16_t *packed;    /* the same in a type of two bytes */
    limn_error *error;
} writing;

static int put(writing *w, tensor_sink *sink, const void *data, size_t bytes) {
    if (limn_stop_requested()) return limn_fail(w->error, "stopped; the same command begins this file anew");
    if (tensor_sink_write(sink, data, bytes, w->error)) return -1;
    conversion *run = w->moves->run;
    run->bytes_done += bytes;
    limn_progress_update(run->progress, in_megabytes(run->bytes_done), "%s", "");
    return 0;
}

static int put_floats(writing *w, tensor_sink *sink, const weight_move *move, float *values, size_t count) {
    if (move->scale < 1 || move->scale > 1 || move->shift < 0 || move->shift > 0)
        for (size_t i = 0; i < count; i++) values[i] = move->scale * values[i] + move->shift;
    if (w->moves->type == TENSOR_F32) return put(w, sink, values, count * sizeof *values);
    tensor_from_float(w->moves->type, values, count, w->packed);
    return put(w, sink, w->packed, count * sizeof *w->packed);
}

/* The weight's floats as they lie in the mapping, where they lie so. */
static const float *mapped_floats(const tensor *source, size_t start) {
    if (source->type != TENSOR_F32 || !source->data || (uintptr_t)source->data % sizeof(float) != 0) return NULL;
    return (const float *)source->data + start;
}

static int move_reordered(writing *w, tensor_sink *sink, const weight_move *move, const tensor *source, size_t count) {
    const float *in = mapped_floats(source, move->from.layer * count);
    if (!in) {
        tensor_to_float(source, move->from.layer * count, count, w->in);
        in = w->in;
    }
    if (move->to.order == TENSOR_PYTORCH)
        tensor_place_to_pytorch(&move->from, w->out, in);
    else
        tensor_place_from_pytorch(&move->to, w->out, in);
    return put_floats(w, sink, move, w->out, count);
}

static int move_as_it_lies(writing *w, tensor_sink *sink, const weight_move *move, const tensor *source, size_t count) {
    size_t start = move->from.layer * count;
    bool same_type = source->type == w->moves->type, plain = move->scale == 1 && move->shift == 0;
    for (size_t done = 0, some; done < count; done += some) {
        some = count - done < PIECE ? count - done : PIECE;
        int status;
        if (same_type && plain && source->data) {
            size_t size = tensor_type_size(source->type);
            status = put(w, sink, (const char *)source->data + (start + done) * size, some * size);
        } else {
            tensor_to_float(source, start + done, some, w->out);
            status = put_floats(w, sink, move, w->out, some);
        }
        if (status) return -1;
    }
    return 0;
}

/* The weight after this one is read from the disk while this one is written. */
static void announce(const writing *w, const weight_move *next) {
    const tensor *source = tensor_place_need(w->moves->file, w->moves->prefix, &next->from, NULL);
    size_t count = move_count(next);
    if (source) tensor_will_need(source, next->from.layer * count, count);
}

static int produce(void *context, size_t index, tensor_sink *sink, limn_error *error) {
    writing *w = context;
    w->error = error;
    for (size_t i = w->first[index]; i < w->first[index + 1]; i++) {
        const weight_move *move = &w->moves->moves[i];
        const tensor *source = tensor_place_need(w->moves->file, w->moves->prefix, &move->from, error);
        if (!source) return -1;
        size_t count = move_count(move);
        if (i + 1 < w->moves->count) announce(w, move + 1);
        int status = move->from.order == move->to.order ? move_as_it_lies(w, sink, move, source, count)
                                                        : move_reordered(w, sink, move, source, count);
        if (status) return -1;
    }
    return 0;
}

/* ---------------------------------------------------------------- one file */

static int compare_moves(const void *a, const void *b) {
    const weight_move *x = a, *y = b;
    int order = strcmp(x->to.name, y->to.name);
    return order ? order : (x->to.layer > y->to.layer) - (x->to.layer < y->to.layer);
}

/* The tensors of the output, and where the moves of each begin; returns their number. */
static size_t describe_output(const weight_moves *moves, tensor *tensors, size_t *first) {
    size_t count = 0;
    for (size_t i = 0; i < moves->count; i++) {
        const tensor_place *to = &moves->moves[i].to;
        if (count && strcmp(tensors[count - 1].name, to->name) == 0) continue;
        tensors[count] = (tensor){.name = to->name, .type = moves->type};
        tensor_place_shape(to, &tensors[count].rank, tensors[count].shape);
        first[count++] = i;
    }
    first[count] = moves->count;
    return count;
}

static int allocate_buffers(writing *w, limn_error *error) {
    size_t reordered = 1, piece = 1;
    for (size_t i = 0; i < w->moves->count; i++) {
        const weight_move *move = &w->moves->moves[i];
        size_t count = move_count(move), *largest = move->from.order == move->to.order ? &piece : &reordered;
        if (largest == &piece && count > PIECE) count = PIECE;
        if (count > *largest) *largest = count;
    }
    w->in = limn_allocate(reordered, sizeof *w->in, error);
    if (piece < reordered) piece = reordered;
    w->out = limn_allocate(piece, sizeof *w->out, error);
    w->packed = limn_allocate(piece, sizeof *w->packed, error);
    return w->in && w->out && w->packed ? 0 : -1;
}

static int write_file(weight_moves *moves, const char *path, write_form form, limn_error *error) {
    qsort(moves->moves, moves->count, sizeof *moves->moves, compare_moves);
    tensor *tensors = limn_allocate(moves->count, sizeof *tensors, error);
    size_t *first = limn_allocate(moves->count + 1, sizeof *first, error);
    json_t *metadata = json_pack("{s:s}", "format", "pt"); /* Hugging Face's loaders ask for it */
    writing w = {.moves = moves, .first = first};
    int status = -1;
    if (tensors && first && metadata && allocate_buffers(&w, error) == 0) {
        size_t count = describe_output(moves, tensors, first);
        switch (form) {
        case WRITE_SAFETENSORS:
            status = safetensors_write_from(path, tensors, count, metadata, produce, &w, error);
            break;
        case WRITE_FLAX:
            status = flax_msgpack_write(path, tensors, count, produce, &w, error);
            break;
        case WRITE_PYTORCH:
        case WRITE_PYTORCH_STATE_DICT:
            status = pytorch_write(path, tensors, count, form == WRITE_PYTORCH ? NULL : "state_dict", produce, &w, error);
            break;
        }
    } else if (!metadata) {
        limn_fail(error, "%s: out of memory", path);
    }
    free(w.in);
    free(w.out);
    free(w.packed);
    json_decref(metadata);
    free(first);
    free(tensors);
    return status;
}

int weight_moves_finish(weight_moves *moves, conversion *run, const char *directory, const char *name, write_form form,
                        limn_error *error) {
    char path[4096];
    int status = 0;
    for (size_t i = 0; i < moves->count && !directory; i++)
        run->bytes_total += move_count(&moves->moves[i]) * tensor_type_size(moves->type);
    if (directory) status = limn_path_join(path, sizeof path, directory, name, error);
    if (directory && status == 0) status = write_file(moves, path, form, error);
    free(moves->moves);
    *moves = (weight_moves){0};
    return status;
}
