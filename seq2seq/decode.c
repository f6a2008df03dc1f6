/* Decoding one token at a time. Everything is taken once, when the decoder is created. */
#include "seq2seq/internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* Of address space: some rows of the widest layer are what is used. */
static const size_t SCRATCH_LIMIT = (size_t)1 << 32;

typedef struct {
    attention_cache self, cross; /* of `rows` sequences of T positions, and as many texts of S */
} layer_cache;

struct seq2seq_decoder {
    const seq2seq *model;
    size_t rows, position;
    limn_arena *arena;
    step_memory memory;
    layer_cache *caches;           /* one for each layer */
    int32_t *mask;                 /* (texts,S) */
    size_t *row_text;              /* (rows) */
    stack encoder;                 /* the model's, of as many text positions as any caption shows */
    int32_t *seen_ids, *seen_mask; /* (texts,encoder.length) */
    limn_arena *scratch;           /* of a product or an attention, for a moment */
    float *embedded;               /* (rows,C) */
    float *x;                      /* (rows,C) what enters the first layer */
    float *saved;                  /* (rows,2) */
    layer_activations activations; /* of one layer and one position */
    float *hidden;                 /* (rows,C) */
};

static pass decoder_pass(const seq2seq_decoder *decoder, step_memory *memory, size_t B) {
    return (pass){
        .model = decoder->model, .B = B, .keep = KEEP_NOTHING, .few_rows = true, .memory = memory, .scratch = decoder->scratch};
}

/* Takes all arrays; with a counting memory, only counts. */
static void take_arrays(seq2seq_decoder *decoder, step_memory *memory) {
    const seq2seq *model = decoder->model;
    const stack *s = &model->decoder;
    size_t rows = decoder->rows, C = model->config.d_model, T = s->length, S = model->encoder.length;
    size_t H = s->layers[0].self.heads, D = C / H;
    /* The tokens' keys and values are a fifth of what a step reads: 8 bits with a scale each halve that, and cost less than
     * what bfloat16 has cost already. The text's are few. */
    const nn_precision grown = model->precision == PRECISION_FP32 ? PRECISION_FP32 : PRECISION_INT8;
    const nn_precision read = model->precision == PRECISION_FP32 ? PRECISION_FP32 : PRECISION_BF16;
    layer_cache counted, *caches = step_take_bytes(memory, s->layer_count * sizeof *caches);
    for (size_t i = 0; i < s->layer_count; i++) {
        layer_cache *cache = caches != NULL ? &caches[i] : &counted;
        cache->self = (attention_cache){.sequences = rows, .H = H, .capacity = T, .D = D, .precision = grown};
        cache->cross = (attention_cache){.sequences = rows, .H = H, .capacity = S, .D = D, .precision = read};
        cache->self.memory = step_take_bytes(memory, attention_cache_bytes(&cache->self));
        cache->cross.memory = step_take_bytes(memory, attention_cache_bytes(&cache->cross));
    }
    decoder->caches = caches;
    decoder->mask = step_take_bytes(memory, rows * S * sizeof *decoder->mask);
    decoder->row_text = step_take_bytes(memory, rows * sizeof *decoder->row_text);
    decoder->seen_ids = step_take_bytes(memory, rows * S * sizeof *decoder->seen_ids);
    decoder->seen_mask = step_take_bytes(memory, rows * S * sizeof *decoder->seen_mask);
    decoder->encoder = model->encoder;
    decoder->encoder.layers = step_take_bytes(memory, model->encoder.layer_count * sizeof *model->encoder.layers);
    decoder->embedded = step_take(memory, rows * C);
    decoder->x = step_take(memory, rows * C);
    decoder->saved = step_take(memory, rows * 2);
    decoder->hidden = step_take(memory, rows * C);

    /* All layers have the same sizes; only Swin v2's have more norms every sixth layer, so each gets what any may need. */
    pass p = decoder_pass(decoder, memory, rows);
    layer_activations *acts = &decoder->activations;
    layer most = s->layers[0];
    for (size_t i = 0; i < s->layer_count; i++)
        if (s->layers[i].feed_forward.norms.after_residual.present) most = s->layers[i];
    branch_take(&p, &most.self.norms, &acts->self_branch, rows, NULL);
    attention_take(&p, &most.self, &acts->self, rows, rows);
    branch_take(&p, &most.cross.norms, &acts->cross_branch, rows, NULL);
    attention_take(&p, &most.cross, &acts->cross, rows, 0);
    branch_take(&p, &most.feed_forward.norms, &acts->feed_forward_branch, rows, NULL);
    feed_forward_take(&p, &most.feed_forward, &acts->feed_forward, rows);
}

/* What a step takes on top for a moment. */
static void plan_step(const seq2seq_decoder *decoder, step_memory *memory) {
    const pass p = decoder_pass(decoder, memory, decoder->rows);
    const size_t mark = step_mark(memory);
    step_take(memory, decoder->rows * adapter_rank(decoder->model));
    step_release(memory, mark);
    rows_plan(&p, decoder->rows, decoder->model->config.d_model);
    feed_forward_plan_forward(&p, &decoder->model->decoder.layers[0].feed_forward, decoder->rows);
}

/* What seq2seq_decoder_begin takes on top: the encoder, and one layer's keys and values of the text. */
static void plan_begin(const seq2seq_decoder *decoder, step_memory *memory) {
    const seq2seq *model = decoder->model;
    pass p = decoder_pass(decoder, memory, decoder->rows);
    stack_activations encoder;
    stack_take(&p, &model->encoder, &encoder);
    size_t mark = step_mark(memory);
    stack_plan_forward(&p, &model->encoder);
    step_release(memory, mark);
    attention_activations keys;
    attention_take(&p, &model->decoder.layers[0].cross, &keys, 0, decoder->rows * model->encoder.length);
    step_take(memory, decoder->rows * model->encoder.length * adapter_rank(model));
}

static const size_t MOST_ROWS = (size_t)1 << 16;

size_t seq2seq_decoder_bytes(const seq2seq *model, size_t rows) {
    seq2seq_decoder decoder = {.model = model, .rows = rows};
    step_memory counting = {0};
    if (rows == 0 || rows > MOST_ROWS) return SIZE_MAX;
    take_arrays(&decoder, &counting);
    plan_step(&decoder, &counting);
    plan_begin(&decoder, &counting);
    return counting.peak;
}

seq2seq_decoder *seq2seq_decoder_create(const seq2seq *model, size_t rows, limn_error *error) {
    if (rows == 0 || rows > MOST_ROWS) {
        limn_fail_usage(error, "a decoder of %zu rows; 1 to 65536 is possible", rows);
        return NULL;
    }
    seq2seq_decoder *decoder = limn_allocate(1, sizeof *decoder, error);
    if (decoder == NULL) return NULL;
    decoder->model = model;
    decoder->rows = rows;
    decoder->arena = limn_arena_create(seq2seq_decoder_bytes(model, rows), error);
    decoder->scratch = limn_arena_create(SCRATCH_LIMIT, error);
    if (decoder->arena == NULL || decoder->scratch == NULL) {
        seq2seq_decoder_free(decoder);
        return NULL;
    }
    decoder->memory.arena = decoder->arena;
    take_arrays(decoder, &decoder->memory);
    return decoder;
}

void seq2seq_decoder_free(seq2seq_decoder *decoder) {
    if (decoder == NULL) return;
    limn_arena_destroy(decoder->arena);
    limn_arena_destroy(decoder->scratch);
    free(decoder);
}

size_t seq2seq_decoder_position(const seq2seq_decoder *decoder) {
    return decoder->position;
}

/* ---------------------------------------------------------------- the text */

/* Most captions are short, and nothing looks at what fills them up: the encoder is run over what any of them shows. Not with
 * Sinkhorn's iterations, which do look, nor with a table of relative positions, which is laid out for all of them. */
static void fit_encoder(seq2seq_decoder *decoder, const int32_t *ids, const int32_t *mask, size_t texts) {
    const stack *whole = &decoder->model->encoder;
    const attention_block *first = &whole->layers[0].self;
    size_t S = whole->length, seen = 1;
    for (size_t i = 0; i < texts * S; i++)
        if (mask[i] != 0 && i % S >= seen) seen = i % S + 1;
    if (first->sinkhorn_iterations > 1 || first->rel_bias != ABSENT) seen = S;
    decoder->encoder.length = seen;
    for (size_t i = 0; i < whole->layer_count; i++) {
        decoder->encoder.layers[i] = whole->layers[i];
        decoder->encoder.layers[i].self.queries = decoder->encoder.layers[i].self.keys = seen;
    }
    for (size_t i = 0; i < texts; i++) {
        memcpy(decoder->seen_ids + i * seen, ids + i * S, seen * sizeof *ids);
        memcpy(decoder->seen_mask + i * seen, mask + i * S, seen * sizeof *mask);
    }
}

/* What the text was read with lies in the file until the next one. */
static void forget_text_weights(const seq2seq *model) {
    for (size_t i = 0; model->mapped != NULL && model->packed != NULL && i < model->parameters.count; i++) {
        const parameter *p = &model->parameters.list[i];
        if (model->packed[i] == NULL && model->notes[i].kind == LEAF_KERNEL) limn_forget(p->value, p->size * sizeof *p->value);
    }
}

void seq2seq_decoder_begin(seq2seq_decoder *decoder, const int32_t *input_ids, const int32_t *attention_mask, size_t texts,
                           const size_t *row_text) {
    const seq2seq *model = decoder->model;
    size_t S = model->encoder.length;
    assert(texts <= decoder->rows);
    decoder->position = 0;
    fit_encoder(decoder, input_ids, attention_mask, texts);
    const size_t seen = decoder->encoder.length;
    memcpy(decoder->mask, attention_mask, texts * S * sizeof *decoder->mask);
    memcpy(decoder->row_text, row_text, decoder->rows * sizeof *decoder->row_text);

    pass p = decoder_pass(decoder, &decoder->memory, texts);
    size_t start = step_mark(&decoder->memory);
    stack_activations encoder;
    stack_take(&p, &decoder->encoder, &encoder);
    stack_forward(&p, &decoder->encoder, &encoder, decoder->seen_ids, (numbers){0}, decoder->seen_mask);
    attention_activations keys;
    attention_take(&p, &model->decoder.layers[0].cross, &keys, 0, texts * seen);
    for (size_t i = 0; i < model->decoder.layer_count; i++) {
        const attention_block *block = &model->decoder.layers[i].cross;
        attention_keys_forward(&p, block, &keys, encoder.hidden, texts * seen);
        attention_cache_store(&decoder->caches[i].cross, keys.k_unit.f32, keys.v.f32, texts, 0, seen);
    }
    step_release(&decoder->memory, start);
    forget_text_weights(model);
}

/* ---------------------------------------------------------------- one token */

/* Mixed values from queries and the first `count` places of a cache. In cross-attention row r reads the text row_text[r] under
 * its mask; else its own tokens, to which the new keys and values are added first. */
static void attend(const seq2seq_decoder *decoder, const attention_block *block, const attention_cache *cache,
                   const attention_activations *acts, size_t count) {
    const pass p = decoder_pass(decoder, NULL, decoder->rows);
    const float *table = parameter_value(decoder->model, block->rel_bias); /* (T, S·H) */
    const cached_attention how = {
        .rows = decoder->rows,
        .row_sequence = block->is_cross ? decoder->row_text : NULL,
        .new_keys = block->is_cross ? NULL : acts->k_unit.f32,
        .new_values = block->is_cross ? NULL : acts->v.f32,
        .count = count,
        .mask = block->is_cross ? decoder->mask : NULL,
        .bias = table != NULL ? table + decoder->position * block->keys * block->heads : NULL,
        .scale = attention_scale(&p, block),
    };
    attention_cache_attend(cache, acts->mixed.f32, acts->q_unit.f32, &how, decoder->scratch);
}

static float *decode_layer(seq2seq_decoder *decoder, const pass *p, size_t index, float *x) {
    const stack *s = &decoder->model->decoder;
    const layer *l = &s->layers[index];
    layer_cache *cache = &decoder->caches[index];
    layer_activations *acts = &decoder->activations;
    size_t rows = decoder->rows;

    numbers entered = branch_enter(p, &l->self.norms, &acts->self_branch, x, rows);
    attention_self_forward(p, &l->self, &acts->self, entered, rows);
    attend(decoder, &l->self, &cache->self, &acts->self, decoder->position + 1);
    attention_finish_forward(p, &l->self, &acts->self, branch_core(&l->self.norms, &acts->self_branch), rows);
    branch_leave(p, s, &l->self.norms, &acts->self_branch, 0, rows);

    entered = branch_enter(p, &l->cross.norms, &acts->cross_branch, acts->self_branch.out, rows);
    attention_queries_forward(p, &l->cross, &acts->cross, entered, rows);
    attend(decoder, &l->cross, &cache->cross, &acts->cross, decoder->encoder.length);
    attention_finish_forward(p, &l->cross, &acts->cross, branch_core(&l->cross.norms, &acts->cross_branch), rows);
    branch_leave(p, s, &l->cross.norms, &acts->cross_branch, 0, rows);

    const branch_norms *norms = &l->feed_forward.norms;
    branch_activations *branch = &acts->feed_forward_branch;
    entered = branch_enter(p, norms, branch, acts->cross_branch.out, rows);
    feed_forward_core_forward(p, &l->feed_forward, &acts->feed_forward, branch_core(norms, branch), entered, rows, 0);
    branch_leave(p, s, norms, branch, 0, rows);
    return branch->out;
}

void seq2seq_decoder_step(seq2seq_decoder *decoder, const int32_t *tokens, float *logits) {
    const seq2seq *model = decoder->model;
    const stack *s = &model->decoder;
    size_t rows = decoder->rows, C = model->config.d_model;
    assert(decoder->position < s->length);
    pass p = decoder_pass(decoder, &decoder->memory, rows);
    p.packed = model->packed != NULL;
    embed_rows(&p, s, decoder->embedded, decoder->x, decoder->saved, tokens, decoder->position, 1);
    float *x = decoder->x;
    for (size_t i = 0; i < s->layer_count; i++) x = decode_layer(decoder, &p, i, x);
    if (s->final_norm.present) {
        norm_forward(&p, &s->final_norm, numbers_f32(decoder->hidden), decoder->saved, numbers_f32(x), rows, C);
        x = decoder->hidden;
    }
    dense_forward(&p, &(dense_slot){model->lm_head, ABSENT}, numbers_f32(logits), numbers_f32(x), rows, C, s->vocabulary);
    decoder->position++;
}
