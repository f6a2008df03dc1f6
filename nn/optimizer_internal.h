/* What the files of the optimizers share. */
#ifndef LIMN_NN_OPTIMIZER_INTERNAL_H
#define LIMN_NN_OPTIMIZER_INTERNAL_H

#include "nn/internal.h"

/* A tensor in training as the optimizer keeps it. */
typedef struct {
    size_t rank, shape[4], size;
    size_t offset; /* of its elements in the elementwise arrays */
    float *value, *average;
    const float *grad; /* NULL: frozen */
    bool decays;
} optimizer_member;

typedef struct adafactor adafactor;
typedef struct shampoo shampoo;

struct optimizer {
    optimizer_options options;
    size_t count;
    optimizer_member *members; /* (count) */
    optimizer_array arrays[OPTIMIZER_ARRAYS_MAX];
    size_t array_count;
    struct adamw_piece *pieces; /* AdamW */
    size_t piece_count;
    double *sums; /* of parts of a pass, added in order */
    adafactor *adafactor;
    shampoo *shampoo;
};

/* What an optimizer takes, before it takes it: its arrays with their sizes, and bytes of scratch. */
typedef struct {
    struct {
        const char *name;
        size_t size;
        bool elementwise;
    } arrays[OPTIMIZER_ARRAYS_MAX];
    size_t array_count;
    size_t sums; /* doubles */
    size_t scratch;
} optimizer_plan;
/* Adds an array unless its size is 0. */
void optimizer_plan_array(optimizer_plan *plan, const char *name, size_t size, bool elementwise);
/* The array of that name, or NULL where it is empty. */
float *optimizer_array_named(const optimizer *self, const char *name);

typedef struct adamw_piece {
    size_t member, start;
} adamw_piece;
void adamw_plan(optimizer_plan *plan, const optimizer_member *members, size_t count);
int adamw_create(optimizer *self, limn_error *error);
void adamw_pass(optimizer *self, const optimizer_pass *pass);

void adafactor_plan(optimizer_plan *plan, const optimizer_options *options, const optimizer_member *members, size_t count);
int adafactor_create(optimizer *self, limn_error *error);
void adafactor_free(adafactor *self);
void adafactor_pass(optimizer *self, const optimizer_pass *pass);
void adafactor_forget(optimizer *self, size_t member, size_t start, size_t count);

int shampoo_plan(optimizer_plan *plan, const optimizer_options *options, const optimizer_member *members, size_t count,
                 limn_error *error);
int shampoo_create(optimizer *self, limn_error *error);
void shampoo_free(shampoo *self);
void shampoo_pass(optimizer *self, const optimizer_pass *pass);
size_t shampoo_largest_block(const shampoo_options *options, const optimizer_member *members, size_t count);

LIMN_INLINE void move_average(float *average, const float *value, float decay, size_t n) {
    float rest = 1.0f - decay;
#pragma omp simd
    for (size_t i = 0; i < n; i++) average[i] = decay * average[i] + rest * value[i];
}

#endif
