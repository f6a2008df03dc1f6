/* What the files of vqgan/ share and nobody outside sees.
 *
 * Encoder and decoder have no connections that skip ahead, so each is a chain: a list of layers, the output of one being the
 * input of the next. A layer is built once from the config and afterwards only read. */
#ifndef LIMN_VQGAN_INTERNAL_H
#define LIMN_VQGAN_INTERNAL_H

#include "vqgan/vqgan.h"

enum { VQGAN_GROUPS = 32, VQGAN_PICTURE_CHANNELS = 3 };
#define VQGAN_GROUP_EPSILON 1e-6f
#define VQGAN_COMMITMENT 0.25 /* beta of the codebook loss */

/* Indices of the parameters below are into the model's set. */
typedef struct {
    size_t weight, bias;
    convolution_shape shape; /* of one picture: B is set at each call */
} convolution_layer;

typedef struct {
    size_t scale, bias;
    size_t channels;
} norm_layer;

typedef enum {
    LAYER_CONVOLUTION,
    LAYER_RESNET, /* in + conv2(swish(norm2(conv1(swish(norm1(in)))))), the first `in` through a 1×1 shortcut when widening */
    LAYER_ATTENTION, /* in + out(attention(query, key, value of norm(in))), one head as wide as the picture has channels */
    LAYER_NORM_SWISH,
    LAYER_POOL,    /* mean of 2×2 pixels: downsampling where resamp_with_conv is false */
    LAYER_UPSAMPLE /* every pixel four times */
} layer_kind;

typedef struct {
    layer_kind kind;
    size_t Y, X, C;             /* input */
    size_t out_Y, out_X, out_C; /* output */
    union {
        convolution_layer convolution;
        struct {
            norm_layer norm1, norm2;
            convolution_layer conv1, conv2, shortcut;
            bool has_shortcut;
        } resnet;
        struct {
            norm_layer norm;
            size_t query_weight, query_bias, key_weight, key_bias, value_weight, value_bias;
            convolution_layer out;
        } attention;
        norm_layer norm;
    };
} layer;

/* What one layer's forward leaves in the arena for its backward. */
typedef struct {
    const float *in;
    float *statistics1, *normed1, *hidden, *statistics2, *normed2; /* resnet; the first two also attention and norm+swish */
    float *query, *key, *value, *mixed;                            /* attention */
} layer_saved;

typedef struct {
    layer *list;
    size_t count, capacity;
    size_t largest; /* floats of the largest output of any layer, for one picture */
} chain;

/* The convolutions of one layer, packed; of the attention block: query, key and value together, and the output. */
typedef struct {
    packed_convolution *first, *second, *shortcut;
} packed_layer;

typedef struct packed_codebook packed_codebook; /* quantize.c */

struct vqgan {
    vqgan_config config;
    parameters set;
    chain encoder, decoder; /* with quant_conv as the encoder's last layer, post_quant_conv as the decoder's first */
    size_t codebook;        /* parameter (n_embed, embed_dim) */
    packed_layer *packed_encoder, *packed_decoder; /* as many as the chains have layers; NULL until prepared */
    packed_codebook *packed_codes; /* with packed_encoder */
    char sha256[65];
};

/* ---------------------------------------------------------------- config.c */

int vqgan_config_copy(vqgan_config *out, const vqgan_config *config, limn_error *error);

/* ---------------------------------------------------------------- model.c */

/* A usage error when a model of this config is to be trained and cannot be. */
int vqgan_check_training(const vqgan_config *config, bool training, limn_error *error);
/* Draws every value from ±bound, a function of the seed and the parameter's name. */
void vqgan_fill_uniform(parameter *self, float bound, uint64_t seed);

/* ---------------------------------------------------------------- layers.c, chain.c */

/* Appends layers to a chain, keeping track of the picture's size. After the first failure it does nothing. */
typedef struct {
    parameters *set;
    chain *chain;
    size_t Y, X, C; /* of the last layer's output */
    bool failed;
    limn_error *error;
} chain_builder;

void vqgan_add_convolution(chain_builder *builder, size_t O, size_t kernel, const char *name_format, ...) LIMN_PRINTF(4, 5);
void vqgan_add_resnet(chain_builder *builder, size_t O, const char *name_format, ...) LIMN_PRINTF(3, 4);
void vqgan_add_attention(chain_builder *builder, const char *name_format, ...) LIMN_PRINTF(2, 3);
void vqgan_add_norm_swish(chain_builder *builder, const char *name_format, ...) LIMN_PRINTF(2, 3);
void vqgan_add_downsample(chain_builder *builder, bool with_convolution, const char *name_format, ...) LIMN_PRINTF(3, 4);
void vqgan_add_upsample(chain_builder *builder, bool with_convolution, const char *name_format, ...) LIMN_PRINTF(3, 4);

/* out receives the layer's output for B pictures; *saved what the backward needs, taken from the arena. */
void vqgan_layer_forward(const parameters *set, const layer *self, layer_saved *saved, float *out, const float *in, size_t B,
                         limn_arena *arena);
/* Adds to the parameters' gradients. Returns the gradient of the input, which is `dout` overwritten or `spare` (room for the
 * input); a convolution with spare NULL leaves it out. */
float *vqgan_layer_backward(parameters *set, const layer *self, const layer_saved *saved, float *dout, float *spare, size_t B,
                            limn_arena *arena);

/* Runs a chain and keeps nothing but its output. */
void vqgan_chain_infer(const parameters *set, const chain *self, float *out, const float *in, size_t B, limn_arena *arena);
/* Runs a chain; everything its backward needs stays in the arena. Returns one record per layer. `in` must live as long. */
layer_saved *vqgan_chain_forward(const parameters *set, const chain *self, const float **out, const float *in, size_t B,
                                 limn_arena *arena);
/* Backward of the first `count` layers. dout is the gradient of the last of these's output and is overwritten. din may be
 * NULL. The first layer is a convolution. */
void vqgan_chain_backward(parameters *set, const chain *self, const layer_saved *saved, size_t count, float *din, float *dout,
                          size_t B, limn_arena *arena);
/* How many of B pictures to run at once when nothing is kept. */
size_t vqgan_chain_chunk(const chain *self, size_t B);
void vqgan_chain_free(chain *self);

attention_shape vqgan_attention_shape(const layer *self, size_t B);

/* ---------------------------------------------------------------- prepared.c */

enum { VQGAN_PREPARED_BATCH = 16 }; /* pictures in memory at once */
/* As vqgan_chain_infer, for B up to VQGAN_PREPARED_BATCH. */
void vqgan_prepared_infer(const parameters *set, const chain *self, const packed_layer *packed, float *out, const float *in,
                          size_t B, limn_arena *arena);
void vqgan_free_prepared(vqgan *model);
/* Operations of one picture's convolutions and attention, each counted as computed directly. */
double vqgan_chain_flops(const chain *self);

/* ---------------------------------------------------------------- encoder.c, decoder.c */

/* True when attn_resolutions names this side length. */
bool vqgan_attends_at(const vqgan_config *config, size_t resolution);
int vqgan_build_encoder(vqgan *model, limn_error *error);
int vqgan_build_decoder(vqgan *model, limn_error *error);

/* ---------------------------------------------------------------- quantize.c */

/* tokens (N) = index of the nearest row of codebook (V,D) to each row of latent (N,D), the lowest where several are. */
void vqgan_nearest_codes(int32_t *tokens, const float *latent, const float *codebook, size_t N, size_t V, size_t D,
                         limn_arena *arena);
/* The same by a codebook laid out once: as exact in any precision. codebook must live as long. */
packed_codebook *vqgan_codebook_pack(const float *codebook, size_t V, size_t D, nn_precision precision, limn_error *error);
void vqgan_codebook_free(packed_codebook *self);
size_t vqgan_codebook_bytes(const packed_codebook *self);
void vqgan_codebook_search(const packed_codebook *self, int32_t *tokens, const float *latent, size_t N, limn_arena *arena);
/* The codebook loss of taming's legacy order: mean((sg[q] − z)²) + beta·mean((q − sg[z])²). z and q are (n). */
double vqgan_codebook_loss(const float *z, const float *q, size_t n);
/* dz += scale·∂loss/∂z, dq = scale·∂loss/∂q. */
void vqgan_codebook_loss_backward(float *dz, float *dq, const float *z, const float *q, size_t n, double scale);

/* ---------------------------------------------------------------- discriminator.c */

typedef struct discriminator_saved discriminator_saved;
/* Training forward: logits in the arena with what the backward needs. */
discriminator_saved *vqgan_discriminator_run(vqgan_discriminator *discriminator, const float **logits, size_t *count,
                                             const float *pictures, size_t B, size_t Y, size_t X, limn_arena *arena);
/* dpictures is written when not NULL; gradients of the weights are added when with_gradients. */
void vqgan_discriminator_run_backward(vqgan_discriminator *discriminator, const discriminator_saved *saved, float *dpictures,
                                      const float *dlogits, bool with_gradients, limn_arena *arena);

#endif
