/* The PatchGAN discriminator (Isola and others, arXiv 1611.07004): 4×4 convolutions, BatchNorm, LeakyReLU 0.2.
 *
 * Stage 0 halves the picture; stages 1 … n_layers−1 halve it again and double the width up to eight times ndf; stage n_layers
 * only widens; the last stage gives one logit per patch. All but the first and last have a BatchNorm and no bias. */
#include "vqgan/internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { KERNEL = 4, MAX_LAYERS = 8 };
#define SLOPE 0.2f
#define BATCH_EPSILON 1e-5f
#define BATCH_MOMENTUM 0.1f

typedef struct {
    size_t in, out, stride;
    size_t weight, bias; /* parameters; the bias is the convolution's (stages without a norm) or the norm's */
    bool has_norm, is_last;
    size_t scale; /* of the norm */
    float *running_mean, *running_var;
} stage;

struct vqgan_discriminator {
    parameters set;
    size_t stages;
    stage list[MAX_LAYERS + 2];
    float *statistics; /* for each norm: running means, then running variances */
    size_t statistics_count;
};

/* What a stage's forward leaves for its backward. */
typedef struct {
    convolution_shape shape;
    size_t rows; /* B·Y′·X′ */
    const float *in;
    float *convolved, *statistics, *normed, *out; /* normed is convolved, and out is normed, where a stage does no such thing */
} stage_saved;

struct discriminator_saved {
    stage_saved list[MAX_LAYERS + 2];
};

/* ---------------------------------------------------------------- making one */

static int add_stage(vqgan_discriminator *self, size_t in, size_t out, size_t stride, bool has_norm, bool is_last,
                     size_t position, limn_error *error) {
    stage *added = &self->list[self->stages++];
    *added = (stage){.in = in, .out = out, .stride = stride, .has_norm = has_norm, .is_last = is_last};
    added->weight = parameters_add(&self->set, PARAMETER_CONVOLUTION, 4, (const size_t[]){out, KERNEL, KERNEL, in}, error,
                                   "main.%zu.weight", position);
    if (added->weight == SIZE_MAX) return -1;
    size_t bias_position = has_norm ? position + 1 : position;
    if (has_norm) added->scale = parameters_add(&self->set, PARAMETER_PLAIN, 1, &out, error, "main.%zu.weight", bias_position);
    added->bias = parameters_add(&self->set, PARAMETER_PLAIN, 1, &out, error, "main.%zu.bias", bias_position);
    return added->scale == SIZE_MAX || added->bias == SIZE_MAX ? -1 : 0;
}

static size_t min_size(size_t a, size_t b) {
    return a < b ? a : b;
}

/* Positions are those of the original's nn.Sequential: 0, 2, 5, 8 … */
static int add_stages(vqgan_discriminator *self, size_t n_layers, size_t ndf, limn_error *error) {
    if (add_stage(self, VQGAN_PICTURE_CHANNELS, ndf, 2, false, false, 0, error) != 0) return -1;
    size_t width = ndf, position = 2;
    for (size_t n = 1; n <= n_layers; n++, position += 3) {
        size_t wider = ndf * min_size((size_t)1 << n, 8);
        if (add_stage(self, width, wider, n < n_layers ? 2 : 1, true, false, position, error) != 0) return -1;
        width = wider;
    }
    return add_stage(self, width, 1, 1, false, true, position, error);
}

static int allocate_statistics(vqgan_discriminator *self, limn_error *error) {
    for (size_t i = 0; i < self->stages; i++)
        if (self->list[i].has_norm) self->statistics_count += 2 * self->list[i].out;
    self->statistics = limn_allocate(self->statistics_count, sizeof *self->statistics, error);
    if (!self->statistics) return -1;
    float *at = self->statistics;
    for (size_t i = 0; i < self->stages; i++) {
        stage *here = &self->list[i];
        if (!here->has_norm) continue;
        here->running_mean = at;
        here->running_var = at + here->out;
        at += 2 * here->out;
        for (size_t c = 0; c < here->out; c++) here->running_var[c] = 1;
    }
    return 0;
}

/* As the original's weights_init: convolutions normal (0, 0.02), norms' scales normal (1, 0.02), norms' biases 0. Convolutions'
 * biases keep PyTorch's default. */
static void initialise(vqgan_discriminator *self, uint64_t seed) {
    for (size_t i = 0; i < self->stages; i++) {
        stage *here = &self->list[i];
        parameter *weight = &self->set.list[here->weight], *bias = &self->set.list[here->bias];
        limn_random_fill_normal(weight->mutable_value, weight->size, 0.02f, seed, limn_random_stream(weight->name));
        if (here->has_norm) {
            parameter *scale = &self->set.list[here->scale];
            limn_random_fill_normal(scale->mutable_value, scale->size, 0.02f, seed, limn_random_stream(scale->name));
            for (size_t c = 0; c < scale->size; c++) scale->mutable_value[c] += 1;
        } else {
            vqgan_fill_uniform(bias, 1.0f / sqrtf((float)(weight->size / here->out)), seed);
        }
    }
}

vqgan_discriminator *vqgan_discriminator_create(size_t n_layers, size_t ndf, uint64_t seed, limn_error *error) {
    if (n_layers < 1 || n_layers > MAX_LAYERS || ndf < 1 || ndf > 1024) {
        limn_fail_usage(error, "a discriminator of %zu layers and width %zu cannot be built: 1 to %d layers, width 1 to 1024",
                        n_layers, ndf, MAX_LAYERS);
        return NULL;
    }
    vqgan_discriminator *self = calloc(1, sizeof *self);
    if (!self) {
        limn_fail(error, "out of memory for a discriminator");
        return NULL;
    }
    if (add_stages(self, n_layers, ndf, error) != 0 || parameters_allocate(&self->set, true, error) != 0 ||
        allocate_statistics(self, error) != 0) {
        vqgan_discriminator_free(self);
        return NULL;
    }
    initialise(self, seed);
    return self;
}

void vqgan_discriminator_free(vqgan_discriminator *discriminator) {
    if (!discriminator) return;
    parameters_free(&discriminator->set);
    free(discriminator->statistics);
    free(discriminator);
}

parameters *vqgan_discriminator_get_parameters(vqgan_discriminator *discriminator) {
    return &discriminator->set;
}

float *vqgan_discriminator_statistics(vqgan_discriminator *discriminator, size_t *count) {
    *count = discriminator->statistics_count;
    return discriminator->statistics;
}

/* ---------------------------------------------------------------- loading */

/* The tensor of that name, of one axis or OIHW as its parameter says. NULL with an error. */
static const tensor *find_tensor(const tensor_file *file, const char *prefix, const char *name, size_t rank,
                                 const size_t *shape, limn_error *error) {
    char whole[640];
    const size_t in_file[4] = {shape[0], rank == 4 ? shape[3] : 0, rank == 4 ? shape[1] : 0, rank == 4 ? shape[2] : 0};
    snprintf(whole, sizeof whole, "%sloss.discriminator.%s", prefix, name);
    return tensor_file_need(file, whole, rank, in_file, error);
}

static int read_parameters(vqgan_discriminator *self, const tensor_file *file, const char *prefix, float *room,
                           limn_error *error) {
    for (size_t i = 0; i < self->set.count; i++) {
        const parameter *here = &self->set.list[i];
        const tensor *source = find_tensor(file, prefix, here->name, here->rank, here->shape, error);
        if (!source) return -1;
        tensor_to_float(source, 0, here->size, room);
        vqgan_layout_from_file(here, here->mutable_value, room);
    }
    return 0;
}

/* A norm's statistics lie beside its weight: "main.3.weight", "main.3.running_mean". */
static int read_statistics(vqgan_discriminator *self, const tensor_file *file, const char *prefix, limn_error *error) {
    static const char *const names[] = {"running_mean", "running_var"};
    for (size_t i = 0; i < self->stages; i++) {
        const stage *here = &self->list[i];
        for (size_t k = 0; here->has_norm && k < 2; k++) {
            const char *weight = self->set.list[here->scale].name;
            char name[256];
            snprintf(name, sizeof name, "%.*s%s", (int)(strlen(weight) - strlen("weight")), weight, names[k]);
            const tensor *source = find_tensor(file, prefix, name, 1, &here->out, error);
            if (!source) return -1;
            tensor_to_float(source, 0, here->out, k ? here->running_var : here->running_mean);
        }
    }
    return 0;
}

int vqgan_discriminator_load(vqgan_discriminator *discriminator, const char *directory, limn_error *error) {
    tensor_file *file = tensor_folder_open(directory, error);
    char prefix[256];
    if (!file) return -1;
    int status = 0;
    if (tensor_file_find_prefix(file, "loss.discriminator.main.0.weight", prefix)) {
        size_t largest = 0;
        for (size_t i = 0; i < discriminator->set.count; i++)
            if (discriminator->set.list[i].size > largest) largest = discriminator->set.list[i].size;
        float *room = limn_allocate(largest, sizeof *room, error);
        bool read = room && read_parameters(discriminator, file, prefix, room, error) == 0 &&
                    read_statistics(discriminator, file, prefix, error) == 0;
        status = read ? 1 : -1;
        free(room);
    }
    tensor_file_close(file);
    return status;
}

/* ---------------------------------------------------------------- forward and backward */

static convolution_shape stage_shape(const stage *self, size_t B, size_t Y, size_t X) {
    return (convolution_shape){.B = B,
                               .Y = Y,
                               .X = X,
                               .C = self->in,
                               .O = self->out,
                               .kernel = KERNEL,
                               .stride = self->stride,
                               .pad_top = 1,
                               .pad_left = 1,
                               .pad_bottom = 1,
                               .pad_right = 1};
}

static const float *value_of(const vqgan_discriminator *self, size_t index) {
    return self->set.list[index].value;
}

static void stage_forward(vqgan_discriminator *self, const stage *here, stage_saved *saved, const float *in, size_t B, size_t Y,
                          size_t X, limn_arena *arena) {
    *saved = (stage_saved){.shape = stage_shape(here, B, Y, X), .in = in};
    saved->rows = B * convolution_out_rows(&saved->shape) * convolution_out_columns(&saved->shape);
    size_t n = saved->rows * here->out;
    const float *bias = value_of(self, here->bias);
    saved->convolved = saved->normed = saved->out = limn_arena_floats(arena, n);
    convolution_forward(saved->convolved, in, value_of(self, here->weight), here->has_norm ? NULL : bias, NULL, &saved->shape,
                        arena);
    if (here->has_norm) {
        saved->statistics = limn_arena_floats(arena, 2 * here->out);
        saved->normed = limn_arena_floats(arena, n);
        batchnorm_forward(saved->normed, saved->statistics, saved->convolved, value_of(self, here->scale), bias,
                          here->running_mean, here->running_var, BATCH_MOMENTUM, saved->rows, here->out, BATCH_EPSILON);
    }
    if (!here->is_last) {
        saved->out = limn_arena_floats(arena, n);
        leaky_relu_forward(saved->out, saved->normed, SLOPE, n);
    }
}

discriminator_saved *vqgan_discriminator_run(vqgan_discriminator *discriminator, const float **logits, size_t *count,
                                             const float *pictures, size_t B, size_t Y, size_t X, limn_arena *arena) {
    discriminator_saved *saved = limn_arena_bytes(arena, sizeof *saved);
    const float *in = pictures;
    for (size_t i = 0; i < discriminator->stages; i++) {
        stage_saved *here = &saved->list[i];
        stage_forward(discriminator, &discriminator->list[i], here, in, B, Y, X, arena);
        Y = convolution_out_rows(&here->shape);
        X = convolution_out_columns(&here->shape);
        in = here->out;
    }
    *logits = in;
    *count = B * Y * X;
    return saved;
}

void vqgan_discriminator_run_backward(vqgan_discriminator *discriminator, const discriminator_saved *saved, float *dpictures,
                                      const float *dlogits, bool with_gradients, limn_arena *arena) {
    size_t mark = limn_arena_mark(arena);
    parameter *list = discriminator->set.list;
    const float *dout = dlogits;
    for (size_t i = discriminator->stages; i-- > 0;) {
        const stage *here = &discriminator->list[i];
        const stage_saved *kept = &saved->list[i];
        const convolution_shape *shape = &kept->shape;
        size_t n = kept->rows * here->out;
        float *dbias = with_gradients ? list[here->bias].grad : NULL;
        if (!here->is_last) {
            float *dnormed = limn_arena_floats(arena, n);
            leaky_relu_backward(dnormed, dout, kept->normed, SLOPE, n);
            dout = dnormed;
        }
        if (here->has_norm) {
            float *dconvolved = limn_arena_floats(arena, n);
            batchnorm_backward(dconvolved, with_gradients ? list[here->scale].grad : NULL, dbias, dout, kept->convolved,
                               kept->statistics, list[here->scale].value, kept->rows, here->out);
            dout = dconvolved;
            dbias = NULL;
        }
        float *din = i == 0 ? dpictures : limn_arena_floats(arena, shape->B * shape->Y * shape->X * shape->C);
        convolution_backward(din, with_gradients ? list[here->weight].grad : NULL, dbias, dout, kept->in,
                             list[here->weight].value, shape, arena);
        dout = din;
    }
    limn_arena_release(arena, mark);
}

/* A side after all stages; 0 when a kernel does not fit. */
static size_t side_of_logits(const vqgan_discriminator *self, size_t side) {
    for (size_t i = 0; i < self->stages; i++) {
        if (side + 2 < KERNEL) return 0;
        side = (side + 2 - KERNEL) / self->list[i].stride + 1;
    }
    return side;
}

size_t vqgan_discriminator_forward(vqgan_discriminator *discriminator, float *logits, const float *pictures, size_t B, size_t Y,
                                   size_t X, limn_arena *arena) {
    size_t count = B * side_of_logits(discriminator, Y) * side_of_logits(discriminator, X);
    if (!logits || count == 0) return count;
    size_t mark = limn_arena_mark(arena);
    const float *result;
    vqgan_discriminator_run(discriminator, &result, &count, pictures, B, Y, X, arena);
    memcpy(logits, result, count * sizeof *logits);
    limn_arena_release(arena, mark);
    return count;
}

/* ---------------------------------------------------------------- hinge loss */

/* Half the mean of relu(1 − sign·logit), and its gradient. */
static double hinge(float *dlogits, const float *logits, float sign, size_t count) {
    double sum = 0;
    float slope = -0.5f * sign / (float)count;
    for (size_t i = 0; i < count; i++) {
        float margin = 1 - sign * logits[i];
        sum += margin > 0 ? (double)margin : 0;
        dlogits[i] = margin > 0 ? slope : 0;
    }
    return 0.5 * sum / (double)count;
}

static double judge(vqgan_discriminator *self, const float *pictures, float sign, size_t B, size_t Y, size_t X,
                    limn_arena *arena) {
    size_t mark = limn_arena_mark(arena), count;
    const float *logits;
    discriminator_saved *saved = vqgan_discriminator_run(self, &logits, &count, pictures, B, Y, X, arena);
    float *dlogits = limn_arena_floats(arena, count);
    double loss = hinge(dlogits, logits, sign, count);
    vqgan_discriminator_run_backward(self, saved, NULL, dlogits, true, arena);
    limn_arena_release(arena, mark);
    return loss;
}

void vqgan_discriminator_step(vqgan_discriminator *discriminator, vqgan_losses *losses, const float *real, const float *fake,
                              size_t B, size_t Y, size_t X, limn_arena *arena) {
    losses->discriminator = judge(discriminator, real, 1, B, Y, X, arena) + judge(discriminator, fake, -1, B, Y, X, arena);
}
