/* seq2seq: DALL·E Mini's caption-to-tokens model, a BART-like encoder-decoder, with its gradients and cached decoding.
 * Every architecture key of the published config.json is supported (ln_positions, ln_type, use_glu, use_head_scale, …).
 *
 * Letters: B pairs, S = max_text_length text tokens, T = image_length image tokens, C = d_model, V = image_vocab_size + 1. */
#ifndef LIMN_SEQ2SEQ_H
#define LIMN_SEQ2SEQ_H

#include "core/core.h"
#include "formats/formats.h"
#include "nn/nn.h"

typedef enum { LN_NORMFORMER, LN_PRELN, LN_SUBLN, LN_COGVIEW, LN_SWINV2, LN_POSTLN } ln_positions;

typedef struct {
    size_t d_model, encoder_layers, decoder_layers, encoder_attention_heads, decoder_attention_heads;
    size_t encoder_ffn_dim, decoder_ffn_dim, encoder_vocab_size, image_vocab_size, image_length, max_text_length;
    size_t bos_token_id, eos_token_id, pad_token_id, decoder_start_token_id;
    double dropout, activation_dropout, attention_dropout, init_std, tau_init;
    activation activation_function;
    ln_positions ln_positions;
    size_t sinkhorn_iters;
    bool rms_norm, use_bias, use_glu, use_head_scale, use_cosine_attention, use_deepnet_scaling, use_subln_init,
        scale_embedding;
    bool use_absolute_position_embeddings, use_swin_position_embeddings, force_ln_scale, use_final_ln_encoder,
        use_final_ln_decoder, use_scan, normalize_text, gradient_checkpointing;
    json_t *json; /* the whole object as read, unknown keys included; owned */
} seq2seq_config;

/* Defaults are the original's. strict: an unknown key is an error (configs/), else it is kept. Impossible sizes, and values the
 * original refuses, are usage errors that name the key. Two that the original accepts and then fails on are run as they are
 * meant: ln_positions "postln" (its layers end with a norm, so the stack does not) and use_final_ln_decoder false. */
int seq2seq_config_read(seq2seq_config *config, const json_t *json, const char *where, bool strict, limn_error *error);
void seq2seq_config_free(seq2seq_config *config);

typedef struct seq2seq seq2seq;

/* Random weights as the original initialises them (normal of init_std, DeepNet and sub-LN gains), a function of the seed. */
seq2seq *seq2seq_create(const seq2seq_config *config, uint64_t seed, bool training, limn_error *error);
/* What of a model is trained when it is tuned. LoRA (Hu and others, arXiv 2106.09685): a kernel W (OC,C) is used as
 * W + alpha/rank·B·A, A (rank,C) and B (OC,rank); B begins at zero. */
typedef struct {
    size_t rank; /* 0: no adapters */
    double alpha;
    const char *targets; /* comma-separated names of kernels, as parameters_select takes them */
} seq2seq_lora;
typedef struct {
    const char *train; /* what is trained, as parameters_select takes it; NULL: all, or with adapters these alone */
    seq2seq_lora lora;
} seq2seq_tuning;
/* As seq2seq_create for training; the adapters' weights stand behind the model's in the list of parameters, named
 * KERNEL.lora_A.weight and KERNEL.lora_B.weight. */
seq2seq *seq2seq_create_tuned(const seq2seq_config *config, uint64_t seed, const seq2seq_tuning *tuning, limn_error *error);
seq2seq *seq2seq_describe_tuned(const seq2seq_config *config, const seq2seq_tuning *tuning, limn_error *error);
/* The model's parameters, their names and shapes, without memory for their values. */
seq2seq *seq2seq_describe(const seq2seq_config *config, limn_error *error);
/* A folder with config.json and weights in any form that tensor_folder_open knows and under any of the names below. Ours in
 * fp32 are mapped unless training. */
seq2seq *seq2seq_load(const char *directory, bool training, limn_error *error);
/* The weights of such a folder into a model that is there. Its shapes must be the model's, but the folder may have fewer words
 * (encoder embed_tokens): those behind keep their values. Adapters, where the model has some: the folder's, else they keep
 * their values. */
int seq2seq_load_into(seq2seq *model, const char *directory, limn_error *error);
/* Writes config.json and model.safetensors, and adapters as Hugging Face's PEFT lays them out: adapter_config.json and
 * adapter_model.safetensors. seq2seq_load adds these to the weights. */
int seq2seq_save(const seq2seq *model, const char *directory, limn_error *error);
bool seq2seq_has_adapters(const char *directory); /* whether a folder has some */
/* The same of other weights (parameters_with_values); only reads the model. */
int seq2seq_save_values(const seq2seq *model, const float *values, const char *directory, limn_error *error);
void seq2seq_free(seq2seq *model);
const seq2seq_config *seq2seq_get_config(const seq2seq *model);
parameters *seq2seq_get_parameters(seq2seq *model);

/* ---------------------------------------------------------------- others' names */

/* Ours; the original's Flax tree with layers apart or stacked ("scanned"); min-dalle's, where a first component "encoder." or
 * "decoder." stands for the two files. */
typedef enum { SEQ2SEQ_LIMN, SEQ2SEQ_FLAX, SEQ2SEQ_FLAX_SCANNED, SEQ2SEQ_MIN_DALLE } seq2seq_naming;
/* Where parameter `index` lies in a file of that naming. */
void seq2seq_place_of(const seq2seq *model, size_t index, seq2seq_naming naming, tensor_place *out);
/* The naming of a file's tensors, and what stands before all names ("params/"; mostly nothing). An error when it holds no model
 * of this kind. */
int seq2seq_find_naming(const tensor_file *file, seq2seq_naming *out, char out_prefix[256], limn_error *error);
/* Every parameter has its tensor, of its shape, and there is no further one under the prefix; else an error that names it. */
int seq2seq_check_weights(const seq2seq *model, const tensor_file *file, seq2seq_naming naming, const char *prefix,
                          limn_error *error);
/* The configuration of a folder whose weights are `file`: its config.json; min-dalle's files do without one, since their shapes
 * tell it. */
int seq2seq_config_read_folder(seq2seq_config *config, const char *directory, const tensor_file *file, seq2seq_naming naming,
                               const char *prefix, limn_error *error);
/* A usage error that names the first key in which a model differs from the one architecture that min-dalle has. */
int seq2seq_check_min_dalle(const seq2seq_config *config, limn_error *error);

/* ---------------------------------------------------------------- training */

typedef struct {
    size_t B;
    const int32_t *input_ids;         /* (B,S) */
    const int32_t *attention_mask;    /* (B,S) 1 for text, 0 for padding */
    const int32_t *decoder_input_ids; /* (B,T): decoder_start_token_id, then labels shifted right */
    const int32_t *labels;            /* (B,T) */
} seq2seq_batch;

/* Fills decoder_input_ids (B,T) from labels (B,T). */
void seq2seq_shift_right(const seq2seq_config *config, int32_t *decoder_input_ids, const int32_t *labels, size_t B);

/* Ids are used as indices and not checked again below this call: every batch from outside passes through here once. An error
 * names the array, the place and the bound. Arrays that are NULL are passed over. */
int seq2seq_check_batch(const seq2seq_config *config, const seq2seq_batch *batch, limn_error *error);

/* Mean cross-entropy over all B·T tokens. Gradients of grad_scale·loss are added to the parameters', or begun anew when first.
 * Dropout, where the config has it, is a function of (seed, step, micro_batch). */
typedef struct {
    float grad_scale; /* 1/number of micro-batches */
    bool first;       /* of a step's micro-batches: gradients that are there already do not count */
    uint64_t seed, step, micro_batch;
    /* BF16: products of numbers rounded to bfloat16, and what is kept for the backward in bfloat16; weights, their gradients,
     * sums, norms, softmax and loss are float32. */
    nn_precision precision;
    /* Called from the backward, when given, as soon as the gradients of parameters first … first+count−1 are complete. */
    void (*gradients_ready)(void *self, size_t first, size_t count);
    void *self;
} seq2seq_step_options;
double seq2seq_forward_backward(seq2seq *model, const seq2seq_batch *batch, const seq2seq_step_options *options,
                                limn_arena *arena);
/* No dropout, no gradients. encoder_hidden (B,S,C), logits (B,T,V) and losses (B,T) are written when not NULL; batch->labels
 * may be NULL (then 0 is returned). */
double seq2seq_evaluate(const seq2seq *model, const seq2seq_batch *batch, nn_precision precision, float *encoder_hidden,
                        float *logits, float *losses, limn_arena *arena);
/* The limit, in floats, of an arena in which training steps and evaluations of B pairs are run with the present number of
 * threads; an upper bound within a quarter (and a megabyte) of what they take. SIZE_MAX where B is beyond any memory. With
 * gradient_checkpointing each layer's forward is run again in the backward, and only its input is kept. */
size_t seq2seq_activation_floats(const seq2seq_config *config, size_t B, nn_precision precision);
/* The same in bytes, with what this model's adapters take on top. */
size_t seq2seq_training_bytes(const seq2seq *model, size_t B, nn_precision precision);
/* FLOPs of the matrix products of one training step for B pairs (forward and backward), without those of
 * attention's scores and mixed values, which *attention receives when given. */
double seq2seq_training_flops(const seq2seq_config *config, size_t B, double *attention);

/* ---------------------------------------------------------------- cached decoding */

/* Packs what a decoding step multiplies with (the decoder's and the head's weights) for this precision, once after loading;
 * decoders created afterwards use that, and keep keys and values in fewer bits unless it is FP32: 8, with a scale for each, of
 * the image's tokens, and bfloat16 of the text's. Encoder, norms and embeddings stay float32. Pages of a mapped file that have
 * been packed are given back to the system. Not for a model in training. */
int seq2seq_prepare(seq2seq *model, nn_precision precision, limn_error *error);

/* The state of `rows` sequences being drawn: cross-attention's keys and values, made once from the text, and the
 * self-attention's, that grow by one token a step. */
typedef struct seq2seq_decoder seq2seq_decoder;
seq2seq_decoder *seq2seq_decoder_create(const seq2seq *model, size_t rows, limn_error *error);
/* Runs the encoder over `texts` captions, at most `rows` (input_ids and attention_mask are (texts,S)), and keeps their keys and
 * values; row r attends to caption row_text[r] (rows). Position goes back to 0. */
void seq2seq_decoder_begin(seq2seq_decoder *decoder, const int32_t *input_ids, const int32_t *attention_mask, size_t texts,
                           const size_t *row_text);
/* One step: tokens[rows] at the current position (decoder_start_token_id first) to logits (rows, V). Position grows by one;
 * there are image_length steps. */
void seq2seq_decoder_step(seq2seq_decoder *decoder, const int32_t *tokens, float *logits);
size_t seq2seq_decoder_position(const seq2seq_decoder *decoder);
/* What a decoder of so many rows takes, in bytes: mostly keys and values. SIZE_MAX where rows are impossible. */
size_t seq2seq_decoder_bytes(const seq2seq *model, size_t rows);
void seq2seq_decoder_free(seq2seq_decoder *decoder);

/* ---------------------------------------------------------------- drawing */

typedef struct {
    size_t count; /* drawings, in all */
    uint64_t seed;
    double guidance;    /* logits = uncond + guidance·(cond − uncond); 1: off (no unconditional rows) */
    double temperature; /* 0: always the most likely token */
    size_t top_k;       /* 0: all */
    double top_p;       /* 1: all */
} sampling_options;
/* Guidance (Ho and Salimans, arXiv 2207.12598), masking of ids that are not codes, temperature, top-k, top-p (Holtzman and
 * others, arXiv 1904.09751: the fewest most likely tokens whose share reaches p), then one draw a row. cond and uncond are
 * (rows,V) (uncond NULL when guidance is off). Row i draws by number (seed, first_row + i, position) alone. Of equal logits the
 * lower id comes first; one that is no number is never drawn. Writes tokens[rows]. Scratch of 16 bytes a code and row. */
void sample_tokens(int32_t *tokens, const float *cond, const float *uncond, size_t rows, size_t V, size_t codes,
                   const sampling_options *options, size_t first_row, size_t position, limn_arena *arena);

/* Is told after each step that drawings first … first + drawings − 1 have `position` tokens by now, and those before them all;
 * they stand in the array of tokens. */
typedef struct {
    void (*step)(void *context, size_t first, size_t drawings, size_t position);
    void *context;
} drawing_watcher;
/* What is drawn: drawing i shows caption i modulo `captions`. */
typedef struct {
    const int32_t *ids, *mask; /* (captions + 1, S): the captions and, last, none at all ("<s></s>") */
    size_t captions;
    size_t codes; /* tokens below this are codes */
} drawing_captions;
/* Draws tokens (options->count, T), some drawings at a time, as the memory that is free allows; watcher may be NULL. Ctrl-C
 * ends it with an error. The same options and threads give the same tokens on the same kind of CPU. Also of a model in
 * training. */
int seq2seq_draw(const seq2seq *model, const drawing_captions *captions, const sampling_options *options, int32_t *tokens,
                 const drawing_watcher *watcher, limn_error *error);

#endif
