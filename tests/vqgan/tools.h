/* What the tests of vqgan/ share: a small config, a model made of it, pictures, a step of its training. */
#ifndef LIMN_TESTS_VQGAN_TOOLS_H
#define LIMN_TESTS_VQGAN_TOOLS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "vqgan/vqgan.h"

/* 16×16 pixels, 4×4 tokens, a codebook of 20 × 8. `assignment` ("key=value") changes it; NULL: as it is. */
json_t *tiny_json(const char *assignment);
vqgan_config tiny_config(const char *assignment);
/* A model with random weights and, so that tokens differ, a codebook as spread out as the latents. */
vqgan *tiny_model(const char *assignment, bool training);
/* B random pictures of the tiny size; free(). */
float *tiny_pictures(size_t B, uint64_t seed);
/* Writes random weights for LPIPS (VGG16's 13 convolutions; the five heads) as PyTorch does. `left_out` (NULL: none) is the name of
 * a tensor that is not written. */
void write_vgg(const char *path, const char *left_out);
void write_heads(const char *path, const char *left_out);
limn_arena *tiny_arena(void);
void *zeroed(size_t count, size_t size);
/* free(). */
float *copy_of(const float *values, size_t count);
/* Fails, naming `what`, unless got is within tolerance · |expected| of expected; what is no number is not. */
void assert_near(const char *what, double got, double expected, double tolerance);

enum { BENCH_B = 2, BENCH_TOKENS = 16 }; /* pictures; tokens of each */

/* A tiny model, a discriminator and a batch to train with. */
typedef struct {
    vqgan *model;
    vqgan_discriminator *discriminator;
    limn_arena *arena;
    float *pictures;
    int32_t tokens[BENCH_B * BENCH_TOKENS];
    vqgan_loss_options options;
} bench;

bench bench_setup(const char *assignment);
void bench_free(bench *self);
/* The generator's step: fills the model's gradients, from zero, and the tokens. */
vqgan_losses bench_step(bench *self);

#endif
