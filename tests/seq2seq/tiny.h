/* What the tests of seq2seq/ share: tiny models of many configurations, and batches for them. */
#ifndef LIMN_TESTS_SEQ2SEQ_TINY_H
#define LIMN_TESTS_SEQ2SEQ_TINY_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "seq2seq/seq2seq.h"

enum { COMBINATIONS = 48, TINY_B = 3 };

/* Reads a configuration from text in which ' stands for ". */
static inline seq2seq_config config_from(const char *text) {
    char json_text[2048];
    limn_error error = {0};
    snprintf(json_text, sizeof json_text, "%s", text);
    for (char *c = json_text; *c; c++)
        if (*c == '\'') *c = '"';
    json_t *json = json_loads(json_text, 0, NULL);
    assert_non_null(json);
    seq2seq_config config;
    if (seq2seq_config_read(&config, json, "test", true, &error) != 0) fail_msg("%s", error.message);
    json_decref(json);
    return config;
}

/* Combination `index`: every ln_positions with both kinds of norm, and the other keys as its random bits say. */
static inline seq2seq_config combination(size_t index, bool dropout) {
    static const char *const positions[] = {"normformer", "preln", "subln", "cogview", "swinv2", "postln"};
    static const char *const activations[] = {"gelu", "swish", "smelu", "silu"};
    uint32_t bits = limn_random_u32(3, limn_random_stream("combination"), index);
    const char *position = positions[index % 6];
    bool swin = index % 6 == 4, postln = index % 6 == 5;
    /* Swin v2's layers differ only from the sixth of seven on: one side has them. DeepNet's gain would grow without bound
     * through so many. */
    int encoder_layers = swin && bits >> 26 & 1 ? 7 : 2, decoder_layers = swin && !(bits >> 26 & 1) ? 7 : 2;
#define BIT(n) (bits >> (n)&1 ? "true" : "false")
    char text[2048];
    snprintf(text, sizeof text,
             "{'ln_positions': '%s', 'ln_type': '%s', 'activation_function': '%s', 'd_model': 8, 'encoder_layers': %d, "
             "'decoder_layers': %d, 'encoder_attention_heads': %d, 'decoder_attention_heads': %d, 'encoder_ffn_dim': 10, "
             "'decoder_ffn_dim': 7, 'encoder_vocab_size': 13, 'image_vocab_size': 10, 'image_length': 6, 'max_text_length': 5, "
             "'init_std': 0.3, 'tau_init': 1.5, 'sinkhorn_iters': %d, 'use_bias': %s, 'use_glu': %s, 'use_head_scale': %s, "
             "'use_cosine_attention': %s, 'use_deepnet_scaling': %s, 'use_subln_init': %s, 'scale_embedding': %s, "
             "'use_absolute_position_embeddings': %s, 'use_swin_position_embeddings': %s, 'force_ln_scale': %s, "
             "'use_final_ln_encoder': %s, 'use_final_ln_decoder': %s, 'use_scan': %s, 'gradient_checkpointing': %s, "
             "'dropout': %g, 'activation_dropout': %g, 'attention_dropout': %g}",
             position, index / 6 % 2 ? "rmsnorm" : "layernorm", activations[bits >> 20 & 3], encoder_layers, decoder_layers,
             bits >> 22 & 1 ? 1 : 2, bits >> 23 & 1 ? 4 : 2, 1 + (int)(bits >> 24 & 3), BIT(0), BIT(1), BIT(2), BIT(3),
             swin ? "false" : BIT(4), BIT(5), BIT(6), BIT(7), BIT(8), BIT(9), postln ? "true" : BIT(10),
             postln ? "true" : BIT(11), swin ? "false" : BIT(12), BIT(13), dropout ? 0.2 : 0.0, dropout ? 0.1 : 0.0,
             dropout ? 0.15 : 0.0);
#undef BIT
    return config_from(text);
}

/* What a failing assertion should say. */
static inline const char *describe(const seq2seq_config *config) {
    static char *text;
    free(text);
    text = json_dumps(config->json, JSON_COMPACT | JSON_SORT_KEYS);
    return text;
}

/* A model whose scales and biases are random too, so that each matters. */
static inline seq2seq *tiny_model(const seq2seq_config *config, uint64_t seed) {
    limn_error error = {0};
    seq2seq *model = seq2seq_create(config, seed, true, &error);
    if (model == NULL) fail_msg("%s", error.message);
    parameters *set = seq2seq_get_parameters(model);
    for (size_t i = 0; i < set->count; i++)
        for (size_t k = 0; set->list[i].rank != 2 && k < set->list[i].size; k++)
            set->list[i].mutable_value[k] += 0.1f * limn_random_normal(seed + 1, i, k);
    return model;
}

typedef struct {
    seq2seq_batch batch;
    int32_t *arrays[4];
} tiny_batch;

/* Random ids; caption b has S − b words, so that masks matter. */
static inline tiny_batch make_batch(const seq2seq_config *config, size_t B, uint64_t seed) {
    tiny_batch made = {.batch = {.B = B}};
    size_t S = config->max_text_length, T = config->image_length;
    for (size_t i = 0; i < 4; i++) made.arrays[i] = calloc(B * (i < 2 ? S : T), sizeof(int32_t));
    for (size_t i = 0; i < B * S; i++) {
        made.arrays[0][i] = (int32_t)limn_random_below(seed, 0, i, config->encoder_vocab_size);
        made.arrays[1][i] = i % S + (i / S) % S < S;
    }
    for (size_t i = 0; i < B * T; i++) made.arrays[3][i] = (int32_t)limn_random_below(seed, 1, i, config->image_vocab_size);
    seq2seq_shift_right(config, made.arrays[2], made.arrays[3], B);
    made.batch.input_ids = made.arrays[0];
    made.batch.attention_mask = made.arrays[1];
    made.batch.decoder_input_ids = made.arrays[2];
    made.batch.labels = made.arrays[3];
    return made;
}

static inline void free_batch(tiny_batch *made) {
    for (size_t i = 0; i < 4; i++) free(made->arrays[i]);
}

/* free(). */
static inline float *copy_of(const float *values, size_t count) {
    float *copy = malloc(count * sizeof *copy);
    assert_non_null(copy);
    memcpy(copy, values, count * sizeof *copy);
    return copy;
}

/* As large as the plan says and no larger. */
static inline limn_arena *planned_arena_in(const seq2seq_config *config, size_t B, nn_precision precision) {
    limn_error error = {0};
    limn_arena *arena = limn_arena_create(seq2seq_activation_floats(config, B, precision) * sizeof(float), &error);
    if (arena == NULL) fail_msg("%s", error.message);
    return arena;
}
static inline limn_arena *planned_arena(const seq2seq_config *config, size_t B) {
    return planned_arena_in(config, B, PRECISION_FP32);
}

#endif
