/* Packing the weights of decoding steps. */
#include "seq2seq/internal.h"

#include <stdlib.h>
#include <string.h>

enum { NORMED = 6 /* of a layer's slots that a norm may stand before */ };
typedef enum { NOT_PACKED, PACKED_PLAIN, PACKED_NORMED } choice;

/* Chooses the weights that a step multiplies with, and says which of them read what comes from a norm. Before feed_forward.out
 * stands a norm too, but of products of two numbers, whose largest are far beyond the rest. */
static void choose(const seq2seq *model, choice *chosen) {
    for (size_t i = 0; i < model->decoder.layer_count; i++) {
        const layer *l = &model->decoder.layers[i];
        const norm_slot *self = &l->self.norms.before, *cross = &l->cross.norms.before, *inside = &l->feed_forward.norms.before;
        const dense_slot slots[] = {l->self.q,   l->self.k,          l->self.v,
                                    l->cross.q,  l->feed_forward.in, l->feed_forward.gate,
                                    l->self.out, l->cross.out,       l->feed_forward.out};
        const norm_slot *norms[NORMED] = {self, self, self, cross, inside, inside};
        for (size_t k = 0; k < sizeof slots / sizeof *slots; k++)
            if (slots[k].weight != ABSENT)
                chosen[slots[k].weight] = k < NORMED && norms[k]->present ? PACKED_NORMED : PACKED_PLAIN;
    }
    chosen[model->lm_head] = model->decoder.final_norm.present ? PACKED_NORMED : PACKED_PLAIN;
}

int seq2seq_prepare(seq2seq *model, nn_precision precision, limn_error *error) {
    const parameters *set = &model->parameters;
    choice *chosen = limn_allocate(set->count, sizeof *chosen, error);
    const packed_linear **packed = limn_allocate(set->count, sizeof *packed, error);
    limn_arena *storage = NULL;
    if (chosen != NULL && packed != NULL) {
        choose(model, chosen);
        size_t bytes = 0;
        for (size_t i = 0; i < set->count; i++)
            if (chosen[i] != NOT_PACKED) bytes += packed_linear_bytes(set->list[i].shape[0], set->list[i].shape[1], precision);
        storage = limn_arena_create(bytes, error);
    }
    if (storage == NULL) {
        free(chosen);
        free(packed);
        return -1;
    }
    int status = 0;
    for (size_t i = 0; i < set->count && status == 0; i++) {
        if (chosen[i] == NOT_PACKED) continue;
        const parameter *p = &set->list[i];
        packed[i] =
            packed_linear_create(p->value, p->shape[0], p->shape[1], precision, chosen[i] == PACKED_NORMED, storage, error);
        if (packed[i] == NULL) status = limn_fail_context(error, "packing %s", p->name);
        if (model->mapped != NULL) limn_forget(p->value, p->size * sizeof *p->value);
    }
    free(chosen);
    seq2seq_forget_packed(model);
    model->packed = packed;
    model->packed_storage = storage;
    model->precision = precision;
    if (status != 0) seq2seq_forget_packed(model);
    return status;
}

void seq2seq_forget_packed(seq2seq *model) {
    for (size_t i = 0; model->packed != NULL && i < model->parameters.count; i++) packed_linear_free(model->packed[i]);
    free(model->packed);
    limn_arena_destroy(model->packed_storage);
    model->packed = NULL;
    model->packed_storage = NULL;
    model->precision = PRECISION_FP32;
}
