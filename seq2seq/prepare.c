/* Packing the weights of decoding steps. */
#include "seq2seq/internal.h"

#include <stdlib.h>
#include <string.h>

/* Marks the weights that a step multiplies with. */
static void choose(const seq2seq *model, bool *chosen) {
    for (size_t i = 0; i < model->decoder.layer_count; i++) {
        const layer *l = &model->decoder.layers[i];
        const dense_slot slots[] = {l->self.q,          l->self.k,    l->self.v,          l->self.out,
                                    l->cross.q,         l->cross.out, l->feed_forward.in, l->feed_forward.gate,
                                    l->feed_forward.out};
        for (size_t k = 0; k < sizeof slots / sizeof *slots; k++)
            if (slots[k].weight != ABSENT) chosen[slots[k].weight] = true;
    }
    chosen[model->lm_head] = true;
}

int seq2seq_prepare(seq2seq *model, nn_precision precision, limn_error *error) {
    const parameters *set = &model->parameters;
    bool *chosen = limn_allocate(set->count, sizeof *chosen, error);
    const packed_linear **packed = limn_allocate(set->count, sizeof *packed, error);
    limn_arena *storage = NULL;
    if (chosen != NULL && packed != NULL) {
        choose(model, chosen);
        size_t bytes = 0;
        for (size_t i = 0; i < set->count; i++)
            if (chosen[i]) bytes += packed_linear_bytes(set->list[i].shape[0], set->list[i].shape[1], precision);
        storage = limn_arena_create(bytes, error);
    }
    if (storage == NULL) {
        free(chosen);
        free(packed);
        return -1;
    }
    for (size_t i = 0; i < set->count; i++) {
        if (!chosen[i]) continue;
        const parameter *p = &set->list[i];
        packed[i] = packed_linear_create(p->value, p->shape[0], p->shape[1], precision, storage);
        if (model->mapped != NULL) limn_forget_mapped(p->value, p->size * sizeof *p->value);
    }
    free(chosen);
    free(model->packed);
    limn_arena_destroy(model->packed_storage);
    model->packed = packed;
    model->packed_storage = storage;
    model->precision = precision;
    return 0;
}
