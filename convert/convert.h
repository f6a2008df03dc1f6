/* convert: weights from the forms in which they are published to a model folder, and from there to what the original code
 * loads.
 *
 * Whatever a source is, its parameters are those of seq2seq/ or vqgan/, which know where each lies in a file of each naming. So
 * a conversion is a list of pairs of places, gone through one weight at a time: it needs the memory of one weight. */
#ifndef LIMN_CONVERT_H
#define LIMN_CONVERT_H

#include "core/core.h"

typedef enum {
    CONVERT_SAFETENSORS, /* a model folder of ours (DESIGN, "Model folder") */
    CONVERT_FLAX,        /* what dalle-mini and vqgan-jax load: flax_model.msgpack */
    CONVERT_PYTORCH /* what min-dalle and taming-transformers load: encoder.pt, decoder.pt, detoker.pt; model.ckpt, config.yaml
                     */
} convert_form;

typedef struct {
    const char *source; /* folder or file; what it is, is found out */
    const char *output; /* folder */
    const char *vqgan;  /* the VQGAN that is put beside a model, folder or file; NULL: the source's own, if it has one */
    convert_form to;
    const char *pixel_range; /* "0,1" or "-1,1": what the VQGAN was trained on, instead of what its config says; or NULL */
    bool bf16;               /* weights are stored as bfloat16 */
    const char *scan;        /* for CONVERT_FLAX: "yes" or "no" for stacked layers; NULL: as the config says */
    bool restart;            /* replaces what the output holds */
} convert_options;

/* The same options on a finished output do nothing; on an unfinished one they finish it; others are a usage error that names
 * the difference. Every file is written whole or not at all. */
int convert_model(const convert_options *options, limn_error *error);

#endif
