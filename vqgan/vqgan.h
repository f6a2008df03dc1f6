/* vqgan: the picture tokenizer of "Taming Transformers" (Esser, Rombach, Ommer, arXiv 2012.09841): encoder, codebook, decoder,
 * PatchGAN discriminator and the losses, with their gradients.
 *
 * Pictures are (B, Y, X, 3) float, channels-last, in [-1,1] unless said otherwise; tokens are (B, L), L =
 * (resolution/2^(levels-1))² in raster order. Parameter names are taming-transformers'. Convolution weights are (O,Y,X,I) in
 * memory, OIHW in files. */
#ifndef LIMN_VQGAN_H
#define LIMN_VQGAN_H

#include "core/core.h"
#include "formats/formats.h"
#include "nn/nn.h"

enum { VQGAN_MAX_LEVELS = 8 };

typedef struct {
    size_t ch, in_channels, out_ch, num_res_blocks, resolution, z_channels, n_embed, embed_dim;
    size_t levels, ch_mult[VQGAN_MAX_LEVELS];
    size_t attn_count, attn_resolutions[VQGAN_MAX_LEVELS];
    bool resamp_with_conv;       /* true; false: plain 2×2 means and nearest pixels between levels */
    double dropout;              /* 0; weights of a model with another value load, but it cannot be trained further here */
    double pixel_min, pixel_max; /* what the model was trained on: "pixel_range"; pictures given as [0,1] are mapped to it */
    json_t *json;                /* the whole object as read, unknown keys included; owned */
} vqgan_config;

/* taming-transformers' names; vqgan-jax's tree; min-dalle's detokenizer, which has taming's but for the codebook and has no
 * encoder.
 */
typedef enum { VQGAN_TAMING, VQGAN_FLAX, VQGAN_MIN_DALLE } vqgan_naming;

/* Reads the keys of a config.json (DESIGN "Model folder"); absent ones are those of DALL·E Mini's f16 model, pixel_range
 * [-1,1]. strict: an unknown key is an error (configs/), else it is kept. Sizes that cannot be built are usage errors. */
int vqgan_config_read(vqgan_config *config, const json_t *json, const char *where, bool strict, limn_error *error);
void vqgan_config_free(vqgan_config *config);

/* The configuration of a folder whose weights are `file`: config.json, or the taming YAML that lies in the folder, in configs/
 * or in
 * ../configs/; min-dalle's file does without one, since its shapes tell it. */
int vqgan_config_read_folder(vqgan_config *config, const char *directory, const tensor_file *file, vqgan_naming naming,
                             const char *prefix, limn_error *error);
/* What a taming YAML says ("model" "params" "ddconfig"), as an object of config.json's keys; NULL with an error where it is
 * another kind of model. Caller: json_decref. */
json_t *vqgan_config_from_taming(const json_t *yaml, const char *where, limn_error *error);
/* The config with every known key at its value. Caller: json_decref. */
json_t *vqgan_config_to_json(const vqgan_config *config, limn_error *error);

typedef struct vqgan vqgan;

/* Random weights, a function of the seed: convolutions of variance 1/inputs (He and others, arXiv 1502.01852, for linear
 * layers), the last of each residual branch zero, codebook uniform in ±1/n_embed. */
vqgan *vqgan_create(const vqgan_config *config, uint64_t seed, bool training, limn_error *error);
/* The model's parameters, their names and shapes, without memory for their values. */
vqgan *vqgan_describe(const vqgan_config *config, bool with_encoder, limn_error *error);
/* A folder with config.json, or taming's YAML, and weights in any form that tensor_folder_open knows and under any of the names
 * below. Of Flax's the pixel_range is [0,1] unless the config says otherwise, of min-dalle's
 * always. Weights without an encoder load
 * when not training. Further tensors in the file are ignored. */
vqgan *vqgan_load(const char *directory, bool training, limn_error *error);
/* The same for drawing alone: the decoder and the codebook, prepared for this precision (vqgan_prepare); the weights as they
 * were are given back, so that the model can be neither prepared anew nor saved, and its file is not hashed. */
vqgan *vqgan_load_decoder(const char *directory, nn_precision precision, limn_error *error);
/* Writes config.json, then model.safetensors, each atomically, into the folder, which is made if need be. */
int vqgan_save(const vqgan *model, const char *directory, limn_error *error);
/* The same of other weights (parameters_with_values); only reads the model. */
int vqgan_save_values(const vqgan *model, const float *values, const char *directory, limn_error *error);
void vqgan_free(vqgan *model);
const vqgan_config *vqgan_get_config(const vqgan *model);
parameters *vqgan_get_parameters(vqgan *model); /* every weight of encoder, codebook and decoder */
size_t vqgan_token_count(const vqgan *model);   /* L */
bool vqgan_can_encode(const vqgan *model);      /* false: only the decoder was loaded, as from min-dalle's detoker.pt */
int vqgan_need_encoder(const vqgan *model, const char *directory, limn_error *error); /* an error when it cannot */
/* A usage error when the folder's weights are not in our own form: shards and runs know a VQGAN by its model.safetensors. */
int vqgan_need_converted(const char *directory, limn_error *error);
const char *vqgan_get_sha256(
    const vqgan *model); /* of the file its weights were loaded from; "" when created, or loaded for drawing alone */

/* Where parameter `index` lies in a file of that naming. */
void vqgan_place_of(const vqgan *model, size_t index, vqgan_naming naming, tensor_place *out);
/* The naming of a file's tensors, and what stands before all names ("state_dict."); an error when it holds no VQGAN. */
int vqgan_find_naming(const tensor_file *file, vqgan_naming *out, char out_prefix[256], limn_error *error);
bool vqgan_file_has_encoder(const tensor_file *file, vqgan_naming naming, const char *prefix);
/* Every parameter has its tensor, of its shape; else an error that names it. */
int vqgan_check_weights(const vqgan *model, const tensor_file *file, vqgan_naming naming, const char *prefix,
                        limn_error *error);

/* Files have PyTorch's layout: copies a parameter's `from` (its value or its gradient, in memory's layout) to the file's, and
 * back. The two may not overlap. */
void vqgan_layout_to_file(const parameter *self, float *to, const float *from);
void vqgan_layout_from_file(const parameter *self, float *to, const float *from);

/* Pixels in [0,1] to the model's range and back (clamped to [0,1]). In place allowed. */
void vqgan_pixels_to_model(const vqgan *model, float *out, const float *in, size_t n);
void vqgan_pixels_from_model(const vqgan *model, float *out, const float *in, size_t n);

/* Lays the weights of one half, or both, out for vqgan_encode and vqgan_decode, which are then several times as fast; of a
 * model that is not trained meanwhile, since later changes of its weights are not seen. They take two (bf16) to four (fp32)
 * times their size in the file. BF16: products of numbers rounded to bfloat16, sums and all else fp32; INT8 is taken as BF16.
 * An encoder that the model lacks is left out. Without memory: an error, and the model is as it was before it was prepared. */
typedef enum { VQGAN_BOTH, VQGAN_ENCODER, VQGAN_DECODER } vqgan_half;
int vqgan_prepare(vqgan *model, nn_precision precision, vqgan_half half, limn_error *error);

/* How fast a configuration's VQGAN encodes (or decodes) on this machine, with random weights and data, prepared. */
typedef struct {
    double seconds; /* of the fastest step */
    double flops;   /* of one step, convolutions counted as computed directly */
} vqgan_measurement;
/* Steps of B pictures, after one that is not measured. path: a configuration with a section vqgan. */
int vqgan_measure(const char *path, bool decode, nn_precision precision, size_t B, size_t steps, vqgan_measurement *out,
                  limn_error *error);

/* Pictures in the model's range to tokens (only where vqgan_can_encode). `latent` (B, l, l, embed_dim: before quantising) is
 * written when not NULL. */
void vqgan_encode(const vqgan *model, int32_t *tokens, float *latent, const float *pictures, size_t B, limn_arena *arena);
/* Tokens (all below n_embed) to pictures in the model's range, not clamped. */
void vqgan_decode(const vqgan *model, float *pictures, const int32_t *tokens, size_t B, limn_arena *arena);

/* ---------------------------------------------------------------- training */

typedef struct vqgan_discriminator vqgan_discriminator; /* PatchGAN (Isola and others, arXiv 1611.07004), n_layers and ndf */

vqgan_discriminator *vqgan_discriminator_create(size_t n_layers, size_t ndf, uint64_t seed, limn_error *error);
void vqgan_discriminator_free(vqgan_discriminator *discriminator);
/* Takes over the discriminator that a folder's weights have beside the model, as taming-transformers' checkpoints do
 * ("loss.discriminator.main.0.weight"). 1: taken; 0: there is none, and nothing has changed; -1: it has other layers or widths, or
 * cannot be read, and this one is to be created anew. */
int vqgan_discriminator_load(vqgan_discriminator *discriminator, const char *directory, limn_error *error);
parameters *vqgan_discriminator_get_parameters(vqgan_discriminator *discriminator);
/* Running means and variances of its BatchNorms, as one block (saved in checkpoints). */
float *vqgan_discriminator_statistics(vqgan_discriminator *discriminator, size_t *count);
/* logits (B, y, x, 1) of pictures in [-1,1]; the batch's statistics, which move the running ones as in PyTorch. Returns the
 * number of logits, and does no more when `logits` is NULL. 0: the picture is smaller than one patch (3·2^n_layers pixels a
 * side are needed). */
size_t vqgan_discriminator_forward(vqgan_discriminator *discriminator, float *logits, const float *pictures, size_t B, size_t Y,
                                   size_t X, limn_arena *arena);

/* LPIPS (Zhang and others, arXiv 1801.03924) on VGG16, with the linear heads of its version 0.1. */
typedef struct vqgan_lpips vqgan_lpips;
/* For pictures of Y×X pixels, each at least 16. vgg: torchvision's vgg16-397923af.pth (features.N.weight and bias; its
 * classifier is not read); heads: LPIPS' vgg.pth (linN.model.1.weight); both in any form that tensor_file_open knows and with
 * anything before the names. with_gradient costs as much memory again: together about 0.5 GB. */
vqgan_lpips *vqgan_lpips_load(const char *vgg, const char *heads, size_t Y, size_t X, bool with_gradient, limn_error *error);
void vqgan_lpips_free(vqgan_lpips *lpips); /* NULL allowed */
/* distances (B) of pictures a and b (B,Y,X,3) in [-1,1], 0 for equal ones. db (B,Y,X,3; only when loaded with_gradient) gets
 * the gradient of their mean with respect to b; NULL: not wanted. Takes so many bytes of the
 * arena for each pixel, of one picture or of 2·256² pixels at once. */
enum { VQGAN_LPIPS_BYTES_PER_PIXEL = 5000 };
void vqgan_lpips_compare(const vqgan_lpips *lpips, double *distances, float *db, const float *a, const float *b, size_t B,
                         limn_arena *arena);

typedef struct {
    double l1, codebook;               /* mean |x − x̂|; legacy codebook loss, commitment 0.25 */
    double perceptual;                 /* mean LPIPS of x and x̂; 0 without it */
    double generator, adaptive_weight; /* −mean(logits of x̂); λ of the paper's eq. 7, times discriminator_weight */
    double total; /* l1 + perceptual_weight·perceptual + codebook_weight·codebook + adaptive_weight·generator */
    double discriminator;              /* hinge */
} vqgan_losses;

typedef struct {
    double codebook_weight;      /* 1 */
    double discriminator_weight; /* 0.8; times the adaptive weight */
    bool use_discriminator;      /* false before disc_start */
    bool without_codebook;       /* latents go to the decoder as they are; no codebook loss, and tokens are not written */
    bool encoder_frozen;         /* nothing before the codebook is trained: encoder and quant_conv get no gradient */
    const vqgan_lpips *lpips;    /* NULL: no perceptual loss */
    double perceptual_weight;    /* 1 */
} vqgan_loss_options;

/* One generator pass: losses, and gradients added to the model's parameters. `reconstruction` (B,Y,X,3), `latent` and `tokens`
 * are written when not NULL. The discriminator (NULL allowed when unused) is run but its gradients are left alone. */
void vqgan_generator_step(vqgan *model, vqgan_discriminator *discriminator, vqgan_losses *losses, float *reconstruction,
                          float *latent, int32_t *tokens, const float *pictures, size_t B, const vqgan_loss_options *options,
                          limn_arena *arena);
/* One discriminator pass, hinge loss of real against (detached) fake pictures; gradients added to its parameters. */
void vqgan_discriminator_step(vqgan_discriminator *discriminator, vqgan_losses *losses, const float *real, const float *fake,
                              size_t B, size_t Y, size_t X, limn_arena *arena);

/* Places the codes by k-means (Lloyd's iterations from random rows) on latent (n, embed_dim), n at least n_embed: the
 * data-dependent start of Łańcucki and others, arXiv 2005.08520, for an encoder that has learnt without a codebook.
 * A function of the seed and its arguments. */
int vqgan_fit_codebook(vqgan *model, const float *latent, size_t n, size_t iterations, uint64_t seed, limn_arena *arena,
                       limn_error *error);

/* Codebook use, and the revival of dead codes: a code whose decayed count of uses falls under a threshold is placed on a latent
 * drawn at random from the current batch ("random restart", Jukebox, arXiv 2005.00341, section 3; also used by SoundStream,
 * arXiv 2107.03312). */
typedef struct {
    size_t used;       /* codes used since the last reset */
    double perplexity; /* exp(entropy) of use since the last reset */
    size_t revived;    /* by the last call of vqgan_revive_codes */
} vqgan_codebook_use;
/* Fills in used and perplexity from counts (n_embed); `revived` is left as it is. */
void vqgan_measure_use(vqgan_codebook_use *use, const float *counts, size_t n_embed);
/* Counts tokens of one batch into `counts` (n_embed, decayed by `decay` first). */
void vqgan_count_codes(float *counts, const int32_t *tokens, size_t n, size_t n_embed, float decay);
/* Replaces codes with counts below `threshold` by rows of latent (n, embed_dim), a different one for each while there are
 * enough. revived[i] (n_embed) is set for those replaced and cleared for the others, so that the caller clears their moments;
 * their count becomes the mean of all (at least twice the threshold), which gives them time to prove useful. Returns how many.
 * A function of (seed, step) and its arguments. */
size_t vqgan_revive_codes(vqgan *model, float *counts, bool *revived, const float *latent, size_t n, float threshold,
                          uint64_t seed, uint64_t step);

#endif
