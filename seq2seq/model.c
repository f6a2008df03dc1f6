/* The model's parts and their parameters, named as in the original's Flax tree. */
#include "seq2seq/internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- gains of the initialisation */

/* DeepNet (arXiv 2203.00555), table of an encoder-decoder: alpha multiplies the residual, beta the initial weights. */
static double deepnet_alpha(const seq2seq_config *config, bool is_decoder) {
    double N = (double)config->encoder_layers, M = (double)config->decoder_layers;
    return is_decoder ? pow(3 * M, 0.25) : 0.81 * pow(N * N * N * N * M, 0.0625);
}

static double deepnet_beta(const seq2seq_config *config, bool is_decoder) {
    double N = (double)config->encoder_layers, M = (double)config->decoder_layers;
    return is_decoder ? pow(12 * M, -0.25) : 0.87 * pow(N * N * N * N * M, -0.0625);
}

/* Sub-LN (Foundation Transformers, arXiv 2210.06423). */
static double subln_gain(const seq2seq_config *config, bool is_decoder) {
    double N = (double)config->encoder_layers, M = (double)config->decoder_layers;
    return is_decoder ? sqrt(log(3 * M)) : sqrt(log(3 * M) * log(2 * N) / 3);
}

/* Of value and output projections and feed-forward weights; sub-LN's does not touch cross-attention. */
static double initial_gain(const seq2seq_config *config, bool is_decoder, bool is_cross) {
    if (config->use_deepnet_scaling) return deepnet_beta(config, is_decoder);
    if (config->use_subln_init && !is_cross) return subln_gain(config, is_decoder);
    return 1;
}

/* ---------------------------------------------------------------- adding parameters */

/* Building stops at the first failure; later calls do nothing, so that the description below needs no checks. */
typedef struct {
    seq2seq *model;
    limn_error *error;
    bool failed;
} builder;

static long add(builder *b, leaf_kind kind, double gain, size_t rank, const size_t *shape, const char *path, const char *leaf) {
    if (b->failed) return ABSENT;
    seq2seq *model = b->model;
    size_t index = parameters_add(&model->parameters, PARAMETER_PLAIN, rank, shape, b->error, "%s%s", path, leaf);
    b->failed = index == SIZE_MAX;
    if (!b->failed && index == model->note_capacity) {
        size_t capacity = model->note_capacity != 0 ? 2 * model->note_capacity : 64;
        parameter_note *notes = realloc(model->notes, capacity * sizeof *notes);
        b->failed = notes == NULL;
        if (b->failed) {
            limn_fail(b->error, "no memory for the list of parameters");
        } else {
            model->notes = notes;
            model->note_capacity = capacity;
        }
    }
    if (b->failed) return ABSENT;
    model->notes[index] = (parameter_note){.kind = kind, .gain = gain};
    return (long)index;
}

static long add_embedding(builder *b, size_t rows, size_t columns, const char *path) {
    return add(b, LEAF_EMBEDDING, 1, 2, (size_t[]){rows, columns}, path, ".weight");
}

static dense_slot add_dense(builder *b, size_t in, size_t out, double gain, bool bias, const char *path) {
    dense_slot dense = {ABSENT, ABSENT};
    dense.weight = add(b, LEAF_KERNEL, gain, 2, (size_t[]){out, in}, path, ".weight");
    if (bias) dense.bias = add(b, LEAF_BIAS, 1, 1, &out, path, ".bias");
    return dense;
}

static norm_slot add_norm(builder *b, size_t width, bool scale, const char *path) {
    norm_slot norm = {true, ABSENT, ABSENT};
    if (scale) norm.scale = add(b, LEAF_SCALE, 1, 1, &width, path, ".weight");
    if (!b->model->config.rms_norm) norm.bias = add(b, LEAF_BIAS, 1, 1, &width, path, ".bias");
    return norm;
}

/* ---------------------------------------------------------------- description of the layers */

/* Flax numbers modules of a class within their parent in the order of their making: a norm without parameters counts. */
typedef struct {
    char path[128];
    size_t norms;
} scope;

static const norm_slot no_norm = {false, ABSENT, ABSENT};

static norm_slot add_numbered_norm(builder *b, scope *parent, bool wanted, size_t width, bool scale) {
    if (!wanted) return no_norm;
    char path[160];
    snprintf(path, sizeof path, "%s.%s_%zu", parent->path, b->model->config.rms_norm ? "RMSNorm" : "LayerNorm",
             parent->norms++);
    return add_norm(b, width, scale, path);
}

static bool is_any(ln_positions position, size_t count, const ln_positions *of) {
    for (size_t i = 0; i < count; i++)
        if (position == of[i]) return true;
    return false;
}
#define POSITION_IS(config, ...)                                                                                               \
    is_any((config)->ln_positions, sizeof((ln_positions[]){__VA_ARGS__}) / sizeof(ln_positions), (ln_positions[]){__VA_ARGS__})

static void describe_attention(builder *b, attention_block *block, scope *layer_scope, bool is_decoder, bool is_cross) {
    const seq2seq_config *config = &b->model->config;
    size_t C = config->d_model;
    block->is_cross = is_cross;
    block->causal = is_decoder && !is_cross;
    block->heads = is_decoder ? config->decoder_attention_heads : config->encoder_attention_heads;
    block->queries = is_decoder ? config->image_length : config->max_text_length;
    block->keys = block->causal ? config->image_length : config->max_text_length;
    /* Sinkhorn's columns would leak later tokens into earlier ones; the original has it in the encoder alone. */
    block->sinkhorn_iterations = is_decoder ? 1 : config->sinkhorn_iters;

    bool before = POSITION_IS(config, LN_NORMFORMER, LN_COGVIEW, LN_PRELN) || (config->ln_positions == LN_SUBLN && !is_decoder);
    bool after = POSITION_IS(config, LN_NORMFORMER, LN_SWINV2, LN_COGVIEW);
    block->norms.before = add_numbered_norm(b, layer_scope, before, C, config->force_ln_scale);

    char path[160], part[176];
    snprintf(path, sizeof path, "%s.FlaxBartAttention_%d", layer_scope->path, is_cross ? 1 : 0);
    double gain = initial_gain(config, is_decoder, is_cross);
    struct {
        dense_slot *slot;
        const char *name;
        double gain;
    } projections[] = {
        {&block->q, "q_proj", 1}, {&block->k, "k_proj", 1}, {&block->v, "v_proj", gain}, {&block->out, "out_proj", gain}};
    for (size_t i = 0; i < 4; i++) {
        snprintf(part, sizeof part, "%s.%s", path, projections[i].name);
        *projections[i].slot = add_dense(b, C, C, projections[i].gain, config->use_bias, part);
    }
    block->head_scale = block->rel_bias = ABSENT;
    if (config->use_head_scale)
        block->head_scale = add(b, LEAF_HEAD_SCALE, 1, 4, (size_t[]){1, 1, block->heads, 1}, path, ".head_scale");
    if (config->use_swin_position_embeddings) {
        snprintf(part, sizeof part, "%s.rel_bias", path);
        block->rel_bias = add_embedding(b, block->queries, block->keys * block->heads, part);
    }
    block->middle = no_norm;
    if (config->ln_positions == LN_SUBLN && !is_cross) {
        snprintf(part, sizeof part, "%s.mid_layernorm", path);
        block->middle = add_norm(b, C, true, part);
    }

    block->norms.after = add_numbered_norm(b, layer_scope, after, C, true);
    block->norms.after_residual = add_numbered_norm(b, layer_scope, config->ln_positions == LN_POSTLN, C, true);
}

static void describe_feed_forward(builder *b, feed_forward_block *block, const scope *layer_scope, bool is_decoder) {
    const seq2seq_config *config = &b->model->config;
    size_t C = config->d_model, F = is_decoder ? config->decoder_ffn_dim : config->encoder_ffn_dim;
    block->F = F;
    block->glu = config->use_glu;
    scope inside = {.norms = 0};
    snprintf(inside.path, sizeof inside.path, "%.110s.%s", layer_scope->path, config->use_glu ? "GLU_0" : "FFN_0");
    double gain = initial_gain(config, is_decoder, false);

    block->norms.before = add_numbered_norm(b, &inside, POSITION_IS(config, LN_NORMFORMER, LN_COGVIEW, LN_PRELN, LN_SUBLN), C,
                                            config->force_ln_scale);
    dense_slot *in[] = {&block->in, &block->gate};
    size_t numbered = 0;
    char path[160];
    block->gate = (dense_slot){ABSENT, ABSENT};
    for (; numbered < (config->use_glu ? 2 : 1); numbered++) {
        snprintf(path, sizeof path, "%s.Dense_%zu", inside.path, numbered);
        *in[numbered] = add_dense(b, C, F, gain, config->use_bias, path);
    }
    block->middle = add_numbered_norm(b, &inside, POSITION_IS(config, LN_NORMFORMER, LN_SUBLN), F, config->force_ln_scale);
    snprintf(path, sizeof path, "%s.Dense_%zu", inside.path, numbered);
    block->out = add_dense(b, F, C, gain, config->use_bias, path);
    block->norms.after = add_numbered_norm(b, &inside, POSITION_IS(config, LN_SWINV2, LN_COGVIEW), C, true);
}

static void describe_layer(builder *b, stack *s, size_t index) {
    const seq2seq_config *config = &b->model->config;
    layer *l = &s->layers[index];
    l->parameters.first = b->model->parameters.count;
    scope in_layer = {.norms = 0};
    snprintf(in_layer.path, sizeof in_layer.path, "model.%s.layers.%zu", s->is_decoder ? "decoder" : "encoder", index);
    describe_attention(b, &l->self, &in_layer, s->is_decoder, false);
    if (s->is_decoder) describe_attention(b, &l->cross, &in_layer, true, true);
    describe_feed_forward(b, &l->feed_forward, &in_layer, s->is_decoder);
    /* Post-LN ends every layer with a norm, Swin v2 every sixth. Its scale is left out where a final dense layer could do its
     * work, but not when layers are scanned, which must all be alike. */
    bool last = index == s->layer_count - 1;
    bool wanted = config->ln_positions == LN_POSTLN || (config->ln_positions == LN_SWINV2 && (index + 1) % 6 == 0 && !last);
    l->feed_forward.norms.after_residual =
        add_numbered_norm(b, &in_layer, wanted, config->d_model, config->use_scan || !last || config->force_ln_scale);
    l->parameters.count = b->model->parameters.count - l->parameters.first;
}

static void describe_stack(builder *b, stack *s, bool is_decoder) {
    const seq2seq_config *config = &b->model->config;
    size_t C = config->d_model;
    s->is_decoder = is_decoder;
    s->length = is_decoder ? config->image_length : config->max_text_length;
    s->vocabulary = is_decoder ? config->image_vocab_size + 1 : config->encoder_vocab_size;
    s->residual_gain = config->use_deepnet_scaling ? (float)deepnet_alpha(config, is_decoder) : 1;
    size_t layers = is_decoder ? config->decoder_layers : config->encoder_layers;
    s->layers = limn_allocate(layers, sizeof *s->layers, b->error);
    if (s->layers == NULL) {
        b->failed = true;
        return;
    }
    s->layer_count = layers;

    const parameters *list = &b->model->parameters;
    s->embedding_parameters.first = list->count;
    const char *name = is_decoder ? "model.decoder" : "model.encoder";
    char path[64];
    snprintf(path, sizeof path, "%s.embed_tokens", name);
    s->embed_tokens = add_embedding(b, s->vocabulary, C, path);
    s->embed_positions = ABSENT;
    if (config->use_absolute_position_embeddings) {
        snprintf(path, sizeof path, "%s.embed_positions", name);
        s->embed_positions = add_embedding(b, s->length, C, path);
    }
    snprintf(path, sizeof path, "%s.layernorm_embedding", name);
    s->embedding_norm = add_norm(b, C, true, path);
    s->embedding_parameters.count = list->count - s->embedding_parameters.first;
    for (size_t i = 0; i < layers && !b->failed; i++) describe_layer(b, s, i);
    s->final_parameters.first = list->count;
    s->final_norm = no_norm;
    bool wanted = is_decoder ? config->use_final_ln_decoder : config->use_final_ln_encoder;
    if (wanted && config->ln_positions != LN_POSTLN) { /* post-LN's layers end with theirs */
        snprintf(path, sizeof path, "%s.final_ln", name);
        s->final_norm = add_norm(b, C, config->force_ln_scale, path);
    }
    s->final_parameters.count = list->count - s->final_parameters.first;
}

seq2seq *seq2seq_describe(const seq2seq_config *config, limn_error *error) {
    seq2seq *model = limn_allocate(1, sizeof *model, error);
    if (model == NULL) return NULL;
    builder b = {.model = model, .error = error};
    b.failed = seq2seq_config_copy(&model->config, config, error) != 0;
    if (!b.failed) describe_stack(&b, &model->encoder, false);
    if (!b.failed) describe_stack(&b, &model->decoder, true);
    model->lm_head =
        add(&b, LEAF_KERNEL, 1, 2, (size_t[]){config->image_vocab_size + 1, config->d_model}, "lm_head", ".weight");
    if (b.failed) {
        seq2seq_free(model);
        return NULL;
    }
    model->own_count = model->parameters.count;
    return model;
}

/* ---------------------------------------------------------------- life of a model */

static void initialise(seq2seq *model, uint64_t seed) {
    for (size_t i = 0; i < model->own_count; i++) {
        parameter *p = &model->parameters.list[i];
        const parameter_note *note = &model->notes[i];
        if (note->kind == LEAF_KERNEL || note->kind == LEAF_EMBEDDING)
            limn_random_fill_normal(p->mutable_value, p->size, (float)(note->gain * model->config.init_std), seed,
                                    limn_random_stream(p->name));
        else if (note->kind != LEAF_BIAS)
            for (size_t k = 0; k < p->size; k++) p->mutable_value[k] = 1;
    }
}

/* With adapters nothing else is trained unless it is named. */
static int freeze(seq2seq *model, const seq2seq_tuning *tuning, limn_error *error) {
    parameters *set = &model->parameters;
    bool *selected = limn_allocate(set->count, sizeof *selected, error);
    if (selected == NULL) return -1;
    int status = tuning->train != NULL ? parameters_select(set, tuning->train, selected, "--train", error) : 0;
    for (size_t i = 0; i < model->own_count; i++)
        set->list[i].frozen = tuning->train != NULL ? !selected[i] : tuning->lora.rank > 0;
    free(selected);
    return status;
}

seq2seq *seq2seq_describe_tuned(const seq2seq_config *config, const seq2seq_tuning *tuning, limn_error *error) {
    seq2seq *model = seq2seq_describe(config, error);
    if (model == NULL) return NULL;
    if ((tuning->lora.rank > 0 && adapters_describe(model, &tuning->lora, error) != 0) || freeze(model, tuning, error) != 0) {
        seq2seq_free(model);
        return NULL;
    }
    return model;
}

static seq2seq *create(const seq2seq_config *config, uint64_t seed, const seq2seq_tuning *tuning, bool training,
                       limn_error *error) {
    seq2seq *model = seq2seq_describe_tuned(config, tuning, error);
    if (model == NULL) return NULL;
    if (parameters_allocate(&model->parameters, training, error) != 0) {
        seq2seq_free(model);
        return NULL;
    }
    initialise(model, seed);
    adapters_initialise(model, seed);
    return model;
}

seq2seq *seq2seq_create(const seq2seq_config *config, uint64_t seed, bool training, limn_error *error) {
    return create(config, seed, &(seq2seq_tuning){0}, training, error);
}

seq2seq *seq2seq_create_tuned(const seq2seq_config *config, uint64_t seed, const seq2seq_tuning *tuning, limn_error *error) {
    return create(config, seed, tuning, true, error);
}

void seq2seq_free(seq2seq *model) {
    if (model == NULL) return;
    free(model->encoder.layers);
    free(model->decoder.layers);
    free(model->notes);
    free(model->adapters);
    seq2seq_forget_packed(model);
    parameters_free(&model->parameters);
    tensor_file_close(model->mapped);
    seq2seq_config_free(&model->config);
    free(model);
}

const seq2seq_config *seq2seq_get_config(const seq2seq *model) {
    return &model->config;
}

parameters *seq2seq_get_parameters(seq2seq *model) {
    return &model->parameters;
}
