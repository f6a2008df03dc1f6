/* golden-optimizers FILE: parameters after each step, against optax's and DALL·E Mini's Distributed Shampoo. */
#include "tests/golden/golden.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "nn/nn.h"

enum { STEPS_RISING = 4, STEPS_AT_MOST = 1000, TENSORS_AT_MOST = 256 };

static const char *const names[] = {"adamw", "adafactor", "shampoo_rmsprop_normalized", "shampoo_adagrad", "shampoo_sgd"};
enum { NAMES = sizeof names / sizeof *names };

/* What the README beside the golden data says of each. */
static optimizer_options options_of(const char *name) {
    optimizer_options o;
    if (strcmp(name, "adamw") == 0) {
        o = optimizer_defaults(OPTIMIZER_ADAMW);
        o.weight_decay = 0.01;
    } else if (strcmp(name, "adafactor") == 0) {
        o = optimizer_defaults(OPTIMIZER_ADAFACTOR);
        o.adafactor.min_dim_size_to_factor = 8;
        o.weight_decay = 0.001;
    } else {
        o = optimizer_defaults(OPTIMIZER_SHAMPOO);
        o.beta2 = 0.99;
        o.weight_decay = 0.01;
        o.shampoo.block_size = 16;
        o.shampoo.start_preconditioning_step = 3;
        o.shampoo.preconditioning_compute_steps = 2;
        o.shampoo.graft = strcmp(name, "shampoo_sgd") == 0       ? GRAFT_SGD
                          : strcmp(name, "shampoo_adagrad") == 0 ? GRAFT_ADAGRAD
                                                                 : GRAFT_RMSPROP_NORMALIZED;
    }
    return o;
}

/* All tensors of the file: where they begin, and what is compared. */
typedef struct {
    const tensor_file *file;
    size_t count, size;
    const char *names[TENSORS_AT_MOST]; /* without "param0/" */
    const tensor *starts[TENSORS_AT_MOST];
    optimizer_tensor tensors[TENSORS_AT_MOST];
    double largest[TENSORS_AT_MOST]; /* change from the first parameters, of the optimizer at hand */
    float *values, *grads, *expected;
} run;

/* "adamw/step3/dense" and the like; NULL when absent. */
static const tensor *find(const run *self, const char *prefix, size_t step, const char *name) {
    char path[512];
    int length = snprintf(path, sizeof path, "%s%zu/%s", prefix, step, name);
    return length > 0 && (size_t)length < sizeof path ? tensor_file_find(self->file, path) : NULL;
}

static int begin(run *self, const tensor_file *file, limn_error *error) {
    static const char prefix[] = "param0/";
    *self = (run){.file = file};
    for (size_t i = 0; i < tensor_file_count(file); i++) {
        const tensor *t = tensor_file_at(file, i);
        if (strncmp(t->name, prefix, sizeof prefix - 1) != 0) continue;
        if (self->count == TENSORS_AT_MOST || t->rank > 4)
            return limn_fail(error, "%s: '%s': at most %d tensors of at most 4 axes", tensor_file_path(file), t->name,
                             TENSORS_AT_MOST);
        self->names[self->count] = t->name + sizeof prefix - 1;
        self->starts[self->count++] = t;
        self->size += t->count;
    }
    self->values = limn_allocate(self->size, sizeof(float), error);
    self->grads = limn_allocate(self->size, sizeof(float), error);
    self->expected = limn_allocate(self->size, sizeof(float), error);
    if (self->values == NULL || self->grads == NULL || self->expected == NULL) return -1;
    for (size_t i = 0, offset = 0; i < self->count; offset += self->starts[i++]->count) {
        optimizer_tensor *t = &self->tensors[i];
        *t = (optimizer_tensor){.name = self->names[i],
                                .rank = self->starts[i]->rank,
                                .value = self->values + offset,
                                .grad = self->grads + offset,
                                .decays = true};
        for (size_t k = 0; k < t->rank; k++) t->shape[k] = self->starts[i]->shape[k];
    }
    return 0;
}

static void end(run *self) {
    free(self->values);
    free(self->grads);
    free(self->expected);
}

/* The tolerance is a share of the largest change from the first parameters to any later ones. */
static int measure_changes(run *self, const char *prefix, size_t *steps, limn_error *error) {
    for (size_t i = 0; i < self->count; i++) {
        size_t n = self->starts[i]->count, step = 0;
        tensor_to_float(self->starts[i], 0, n, self->tensors[i].value);
        self->largest[i] = 0;
        for (;; step++) {
            const tensor *after = step < STEPS_AT_MOST ? find(self, prefix, step, self->names[i]) : NULL;
            if (after == NULL) break;
            if (after->count != n)
                return limn_fail(error, "%s: '%s' has %zu numbers, '%s' %zu", tensor_file_path(self->file), after->name,
                                 after->count, self->starts[i]->name, n);
            tensor_to_float(after, 0, n, self->expected);
            for (size_t k = 0; k < n; k++)
                self->largest[i] = fmax(self->largest[i], fabs((double)self->expected[k] - (double)self->tensors[i].value[k]));
        }
        if (i > 0 && step != *steps)
            return limn_fail(error, "%s: %s has %zu steps of '%s' and %zu of another", tensor_file_path(self->file), prefix,
                             step, self->names[i], *steps);
        *steps = step;
    }
    return 0;
}

static int read_gradients(const run *self, size_t step, limn_error *error) {
    size_t offset = 0;
    for (size_t i = 0; i < self->count; offset += self->starts[i++]->count) {
        const tensor *given = find(self, "grad", step, self->names[i]);
        size_t n = self->starts[i]->count;
        if (given == NULL || given->count != n)
            return limn_fail(error, "%s: no gradient 'grad%zu/%s' of %zu numbers", tensor_file_path(self->file), step,
                             self->names[i], n);
        tensor_to_float(given, 0, n, self->grads + offset);
    }
    return 0;
}

static int compare(golden *report, run *self, const char *name, limn_error *error) {
    char prefix[64];
    size_t steps = 0;
    snprintf(prefix, sizeof prefix, "%s/step", name);
    if (measure_changes(self, prefix, &steps, error) != 0) return -1;
    golden_check(report, name, steps > 0, "parameters after the first step are there");
    const optimizer_options options = options_of(name);
    optimizer *moves = optimizer_create(&options, self->tensors, self->count, error);
    if (moves == NULL) return -1;
    int status = 0;
    for (size_t step = 0; step < steps && status == 0; step++) {
        status = read_gradients(self, step, error);
        if (status != 0) break;
        optimizer_step(moves, &(optimizer_pass){.learning_rate = 0.05 * fmin(1.0, (double)step / STEPS_RISING),
                                                .step = step + 1,
                                                .grad_scale = 1});
        for (size_t i = 0; i < self->count; i++) {
            const tensor *after = find(self, prefix, step, self->names[i]);
            golden_compare(report, after->name, self->tensors[i].value, after->count, after, self->largest[i], 1e-3);
        }
    }
    optimizer_free(moves);
    return status;
}

int main(int argc, char **argv) {
    golden report;
    limn_error error = {0};
    golden_begin(&report, "golden-optimizers", argc, argv);
    tensor_file *file = safetensors_open(report.path, &error);
    run self = {0};
    int status = file != NULL ? begin(&self, file, &error) : -1;
    for (size_t i = 0; i < NAMES && status == 0 && self.count > 0; i++)
        if (golden_wants(&report, names[i])) status = compare(&report, &self, names[i], &error);
    if (status != 0) golden_error(&report, &error);
    end(&self);
    tensor_file_close(file);
    return golden_finish(&report);
}
