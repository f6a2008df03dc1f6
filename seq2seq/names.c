/* What others call our parameters: the original's Flax tree, whose layers are stacked or not, and min-dalle's PyTorch modules.
 */
#include "seq2seq/internal.h"

#include <string.h>

/* What follows "model.SIDE.layers.NUMBER." in a parameter's name, with the layer's number and its stack; NULL for parameters
 * that belong to no layer. */
static const char *in_layer(const seq2seq *model, const char *name, const stack **out_stack, size_t *out_number) {
    char side[8];
    int consumed = 0;
    if (sscanf(name, "model.%7[a-z].layers.%zu.%n", side, out_number, &consumed) != 2 || consumed == 0) return NULL;
    *out_stack = strcmp(side, "decoder") == 0 ? &model->decoder : &model->encoder;
    return name + consumed;
}

static void flax_place(const seq2seq *model, size_t index, bool scanned, tensor_place *out) {
    static const char *const leaves[] = {[LEAF_KERNEL] = "kernel",
                                         [LEAF_EMBEDDING] = "embedding",
                                         [LEAF_SCALE] = "scale",
                                         [LEAF_BIAS] = "bias",
                                         [LEAF_HEAD_SCALE] = "head_scale"};
    leaf_kind kind = model->notes[index].kind;
    const char *name = model->parameters.list[index].name;
    const stack *s = NULL;
    size_t number = 0, used = 0;
    const char *middle = in_layer(model, name, &s, &number);
    if (middle) {
        const char *side = s->is_decoder ? "decoder" : "encoder", *class_name = s->is_decoder ? "Decoder" : "Encoder";
        out->stacked = scanned;
        if (scanned) {
            out->layer = number;
            out->layers = s->layer_count;
            used = (size_t)snprintf(out->name, sizeof out->name, "model/%s/layers/FlaxBart%sLayers/", side, class_name);
        } else {
            used =
                (size_t)snprintf(out->name, sizeof out->name, "model/%s/layers/FlaxBart%sLayer_%zu/", side, class_name, number);
        }
    } else {
        middle = name;
    }
    const char *last = strrchr(middle, '.');
    for (const char *c = middle; c <= last && used < sizeof out->name - 1; c++) out->name[used++] = *c == '.' ? '/' : *c;
    snprintf(out->name + used, sizeof out->name - used, "%s", leaves[kind]);
    if (kind == LEAF_KERNEL) out->order = TENSOR_IN_OUT;
}

/* min-dalle's modules have names where Flax numbers them; its encoder and decoder are two files, the head is in the decoder's.
 */
static void min_dalle_place(const seq2seq *model, size_t index, tensor_place *out) {
    static const struct {
        const char *ours, *theirs;
    } modules[] = {
        {"GLU_0.LayerNorm_0.", "glu.ln0."},
        {"GLU_0.LayerNorm_1.", "glu.ln1."},
        {"GLU_0.Dense_0.", "glu.fc0."},
        {"GLU_0.Dense_1.", "glu.fc1."},
        {"GLU_0.Dense_2.", "glu.fc2."},
        {"FlaxBartAttention_0.", "self_attn."},
        {"FlaxBartAttention_1.", "encoder_attn."},
        {"LayerNorm_0.", "pre_self_attn_layer_norm."},
        {"LayerNorm_1.", "self_attn_layer_norm."},
        {"LayerNorm_2.", "pre_encoder_attn_layer_norm."},
        {"LayerNorm_3.", "encoder_attn_layer_norm."},
    };
    const char *name = model->parameters.list[index].name;
    const stack *s = NULL;
    size_t number = 0;
    const char *rest = in_layer(model, name, &s, &number);
    if (rest) {
        const char *module = "";
        for (size_t i = 0; i < sizeof modules / sizeof *modules; i++)
            if (strncmp(rest, modules[i].ours, strlen(modules[i].ours)) == 0) {
                module = modules[i].theirs;
                rest += strlen(modules[i].ours);
                break;
            }
        snprintf(out->name, sizeof out->name, "%s.layers.%zu.%s%s", s->is_decoder ? "decoder" : "encoder", number, module,
                 rest);
    } else if (strncmp(name, "model.", strlen("model.")) == 0) {
        snprintf(out->name, sizeof out->name, "%s", name + strlen("model."));
    } else {
        snprintf(out->name, sizeof out->name, "decoder.%s", name);
    }
}

void seq2seq_place_of(const seq2seq *model, size_t index, seq2seq_naming naming, tensor_place *out) {
    const parameter *p = &model->parameters.list[index];
    *out = (tensor_place){.order = TENSOR_PYTORCH, .rank = p->rank, .layers = 1};
    memcpy(out->shape, p->shape, sizeof out->shape);
    switch (naming) {
    case SEQ2SEQ_LIMN:
        snprintf(out->name, sizeof out->name, "%s", p->name);
        break;
    case SEQ2SEQ_FLAX:
    case SEQ2SEQ_FLAX_SCANNED:
        flax_place(model, index, naming == SEQ2SEQ_FLAX_SCANNED, out);
        break;
    case SEQ2SEQ_MIN_DALLE:
        min_dalle_place(model, index, out);
        break;
    }
}

int seq2seq_find_naming(const tensor_file *file, seq2seq_naming *out, char out_prefix[256], limn_error *error) {
    static const struct {
        const char *name; /* that every model has */
        seq2seq_naming naming;
    } signs[] = {{"model.encoder.embed_tokens.weight", SEQ2SEQ_LIMN},
                 {"model/encoder/embed_tokens/embedding", SEQ2SEQ_FLAX},
                 {"encoder.embed_tokens.weight", SEQ2SEQ_MIN_DALLE}};
    for (size_t i = 0; i < sizeof signs / sizeof *signs; i++) {
        if (!tensor_file_find_prefix(file, signs[i].name, out_prefix)) continue;
        *out = signs[i].naming;
        /* Scanned or not is read off the file: the original stacks and unstacks models without touching anything else. */
        for (size_t t = 0; *out == SEQ2SEQ_FLAX && t < tensor_file_count(file); t++)
            if (strstr(tensor_file_at(file, t)->name, "/FlaxBartEncoderLayers/")) *out = SEQ2SEQ_FLAX_SCANNED;
        return 0;
    }
    return limn_fail(error, "%s: holds no DALL·E Mini model: none of its tensors is an encoder's embed_tokens",
                     tensor_file_path(file));
}

int seq2seq_check_min_dalle(const seq2seq_config *config, limn_error *error) {
    const struct {
        const char *key;
        bool fits;
    } wanted[] = {{"ln_positions", config->ln_positions == LN_NORMFORMER},
                  {"ln_type", !config->rms_norm},
                  {"activation_function", config->activation_function == ACTIVATION_GELU},
                  {"use_bias", !config->use_bias},
                  {"use_glu", config->use_glu},
                  {"use_head_scale", !config->use_head_scale},
                  {"use_cosine_attention", !config->use_cosine_attention},
                  {"use_deepnet_scaling", !config->use_deepnet_scaling},
                  {"scale_embedding", !config->scale_embedding},
                  {"sinkhorn_iters", config->sinkhorn_iters == 1},
                  {"use_absolute_position_embeddings", config->use_absolute_position_embeddings},
                  {"use_swin_position_embeddings", !config->use_swin_position_embeddings},
                  {"use_final_ln_encoder", config->use_final_ln_encoder},
                  {"use_final_ln_decoder", config->use_final_ln_decoder}};
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
        if (!wanted[i].fits)
            return limn_fail_usage(error, "min-dalle cannot run this model: its %s is not DALL·E Mini's own", wanted[i].key);
    return 0;
}
