/* Norms of gradients and updates by layer, and which layer went wrong. */
#include "train/layers.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { KEPT = 4096 /* values of a parameter, about */ };
/* Weights of a model that learns stay below some hundreds. */
static const float BEYOND_TRAINING = 1e6f;

/* ---------------------------------------------------------------- groups */

void layer_group_name(char group[192], const char *name) {
    if (strncmp(name, "model.", 6) == 0) name += 6;
    const char *last = strrchr(name, '.');
    size_t length = last ? (size_t)(last - name) : strlen(name), end = length, parts = 0;
    for (size_t start = 0; start < length; parts++) {
        size_t size = strcspn(name + start, ".");
        if (start + size > length) size = length - start;
        if (strspn(name + start, "0123456789") == size) {
            end = start + size;
            break;
        }
        if (parts == 1) end = start + size; /* holds unless a number follows */
        start += size + 1;
    }
    snprintf(group, 192, "%.*s", (int)end, name);
}

static size_t stride_of(const parameter *p) {
    return p->size / KEPT | 1; /* odd: no two rows of a matrix are met at the same place */
}

static size_t kept_of(const parameter *p) {
    return p->size ? (p->size - 1) / stride_of(p) + 1 : 0;
}

int layer_norms_create(layer_norms *self, const parameters *weights, limn_error *error) {
    *self = (layer_norms){.weights = weights};
    self->groups = limn_allocate(weights->count, sizeof *self->groups, error);
    self->group_of = limn_allocate(weights->count, sizeof *self->group_of, error);
    self->first = limn_allocate(weights->count + 1, sizeof *self->first, error);
    if (!self->groups || !self->group_of || !self->first) {
        layer_norms_free(self);
        return -1;
    }
    for (size_t i = 0; i < weights->count; i++) {
        char name[192];
        size_t group = 0;
        layer_group_name(name, weights->list[i].name);
        while (group < self->count && strcmp(self->groups[group].name, name) != 0) group++;
        if (group == self->count) memcpy(self->groups[self->count++].name, name, sizeof name);
        self->group_of[i] = group;
        self->first[i + 1] = self->first[i] + kept_of(&weights->list[i]);
    }
    self->kept = limn_allocate(self->first[weights->count], sizeof *self->kept, error);
    if (self->kept) return 0;
    layer_norms_free(self);
    return -1;
}

void layer_norms_free(layer_norms *self) {
    free(self->groups);
    free(self->group_of);
    free(self->first);
    free(self->kept);
    *self = (layer_norms){0};
}

/* ---------------------------------------------------------------- norms */

static void measure_gradients(layer_norms *self) {
    for (size_t g = 0; g < self->count; g++) self->groups[g].gradient = 0;
    for (size_t i = 0; i < self->weights->count; i++) {
        const parameter *p = &self->weights->list[i];
        if (p->grad)
            self->groups[self->group_of[i]].gradient += self->squares ? self->squares[i] : sum_of_squares(p->grad, p->size);
    }
    for (size_t g = 0; g < self->count; g++) self->groups[g].gradient = sqrt(self->groups[g].gradient);
}

void layer_norms_before_update(layer_norms *self) {
    measure_gradients(self);
    for (size_t i = 0; i < self->weights->count; i++) {
        const parameter *p = &self->weights->list[i];
        float *kept = self->kept + self->first[i];
        for (size_t at = 0, stride = stride_of(p); at < p->size; at += stride) *kept++ = p->value[at];
    }
}

void layer_norms_after_update(layer_norms *self) {
    for (size_t g = 0; g < self->count; g++) self->groups[g].update = 0;
    for (size_t i = 0; i < self->weights->count; i++) {
        const parameter *p = &self->weights->list[i];
        const float *kept = self->kept + self->first[i];
        double sum = 0;
        for (size_t at = 0, stride = stride_of(p); at < p->size; at += stride) {
            double moved = (double)p->value[at] - (double)*kept++;
            sum += moved * moved;
        }
        if (p->size) self->groups[self->group_of[i]].update += sum * (double)p->size / (double)kept_of(p);
    }
    for (size_t g = 0; g < self->count; g++) self->groups[g].update = sqrt(self->groups[g].update);
}

/* ---------------------------------------------------------------- what went wrong */

static bool all_numbers(const float *values, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!isfinite(values[i])) return false;
    return true;
}

static float largest_of(const float *values, size_t n) {
    float largest = 0;
    for (size_t i = 0; i < n; i++) largest = fabsf(values[i]) > largest ? fabsf(values[i]) : largest;
    return largest;
}

const parameter *layer_first_without_number(const parameters *weights) {
    for (size_t i = 0; i < weights->count; i++)
        if (!all_numbers(weights->list[i].value, weights->list[i].size)) return &weights->list[i];
    return NULL;
}

void layer_culprit(char *sentence, size_t room, layer_norms *self) {
    const parameters *weights = self->weights;
    const parameter *found = layer_first_without_number(weights);
    char group[192];
    if (found) {
        layer_group_name(group, found->name);
        snprintf(sentence, room, "%s went first: its weights %s hold what is no number", group, found->name);
        return;
    }
    for (size_t i = 0; i < weights->count; i++) {
        float largest = largest_of(weights->list[i].value, weights->list[i].size);
        if (largest < BEYOND_TRAINING) continue;
        layer_group_name(group, weights->list[i].name);
        snprintf(sentence, room, "%s went first: its weights %s are as large as %.3g", group, weights->list[i].name,
                 (double)largest);
        return;
    }
    for (size_t i = weights->count; i-- > 0;) {
        const parameter *p = &weights->list[i];
        if (!p->grad || (self->squares ? isfinite(self->squares[i]) : all_numbers(p->grad, p->size))) continue;
        layer_group_name(group, p->name);
        snprintf(sentence, room, "%s went first: on the way back, the gradient of %s is the first that is no number", group,
                 p->name);
        return;
    }
    size_t largest = 0;
    measure_gradients(self);
    for (size_t g = 1; g < self->count; g++)
        if (self->groups[g].gradient > self->groups[largest].gradient) largest = g;
    snprintf(sentence, room, "the largest gradient is that of %s (norm %.3g)", self->groups[largest].name,
             self->groups[largest].gradient);
}
