/* golden-optimizers FILE: parameters after each step, against optax's. */
#include "tests/golden/golden.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "nn/nn.h"

enum { STEPS_RISING = 4, STEPS_AT_MOST = 1000 };

/* "adamw/step3/dense" and the like; NULL when absent. */
static const tensor *find(const tensor_file *file, const char *format, size_t step, const char *name) {
    char path[512];
    int length = snprintf(path, sizeof path, format, step, name);
    return length > 0 && (size_t)length < sizeof path ? tensor_file_find(file, path) : NULL;
}

/* One tensor's whole run. */
static int compare_adamw(golden *self, const tensor_file *file, const char *name, limn_error *error) {
    const tensor *start = find(file, "param%zu/%s", 0, name);
    size_t n = start->count;
    float *arrays = limn_allocate(n, 5 * sizeof(float), error);
    if (arrays == NULL) return limn_fail_context(error, "tensor '%s'", start->name);
    float *value = arrays, *m = arrays + n, *v = arrays + 2 * n, *grad = arrays + 3 * n, *expected = arrays + 4 * n;
    int status = 0;

    /* The tolerance is a share of the largest change from the first parameters to the last. */
    double largest = 0;
    tensor_to_float(start, 0, n, value);
    golden_check(self, start->name, find(file, "adamw/step%zu/%s", 0, name) != NULL,
                 "parameters after the first step are there");
    for (size_t step = 0; step < STEPS_AT_MOST; step++) {
        const tensor *after = find(file, "adamw/step%zu/%s", step, name);
        if (after == NULL) break;
        if (after->count != n) {
            status = limn_fail(error, "%s: '%s' has %zu numbers, '%s' %zu", tensor_file_path(file), after->name, after->count,
                               start->name, n);
            goto done;
        }
        tensor_to_float(after, 0, n, expected);
        for (size_t i = 0; i < n; i++) largest = fmax(largest, fabs((double)expected[i] - (double)value[i]));
    }

    adamw_options options = {.beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8, .weight_decay = 0.01};
    for (size_t step = 0; step < STEPS_AT_MOST; step++) {
        const tensor *after = find(file, "adamw/step%zu/%s", step, name), *given = find(file, "grad%zu/%s", step, name);
        if (after == NULL) break;
        if (given == NULL || given->count != n) {
            status = limn_fail(error, "%s: no gradient 'grad%zu/%s' of %zu numbers", tensor_file_path(file), step, name, n);
            goto done;
        }
        tensor_to_float(given, 0, n, grad);
        options.learning_rate = 0.05 * fmin(1.0, (double)step / STEPS_RISING);
        adamw_step(value, m, v, grad, n, &options, step + 1, 1.0f);
        golden_compare(self, after->name, value, n, after, largest, 1e-3);
    }
done:
    free(arrays);
    return status;
}

int main(int argc, char **argv) {
    golden self;
    golden_begin(&self, "golden-optimizers", argc, argv);
    limn_error error = {0};
    tensor_file *file = safetensors_open(self.path, &error);
    if (file == NULL) golden_error(&self, &error);
    const char *prefix = "param0/";
    for (size_t i = 0; file != NULL && i < tensor_file_count(file); i++) {
        const char *name = tensor_file_at(file, i)->name;
        if (strncmp(name, prefix, strlen(prefix)) != 0) continue;
        if (golden_wants(&self, "adamw") && compare_adamw(&self, file, name + strlen(prefix), &error) != 0)
            golden_error(&self, &error);
    }
    tensor_file_close(file);
    return golden_finish(&self);
}
