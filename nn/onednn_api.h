/* What the files that call oneDNN share. The two generations of its API differ in how a layout (memory descriptor) is held and
 * in how a primitive is described; the first section levels that, and all else is written once. */
#ifndef LIMN_NN_ONEDNN_API_H
#define LIMN_NN_ONEDNN_API_H

#include "core/core.h"

#include <dnnl.h>
#include <dnnl_debug.h>
#include <string.h>

/* ---------------------------------------------------------------- two generations of the API */

#if DNNL_VERSION_MAJOR >= 3

typedef dnnl_memory_desc_t layout; /* a pointer that is ours */
typedef const_dnnl_memory_desc_t layout_view;

static inline layout_view view(const layout *l) {
    return *l;
}

static inline dnnl_status_t layout_make(layout *out, int rank, const dnnl_dims_t dims, dnnl_data_type_t type,
                                        dnnl_format_tag_t tag) {
    return dnnl_memory_desc_create_with_tag(out, rank, dims, type, tag);
}

static inline dnnl_status_t layout_make_strided(layout *out, int rank, const dnnl_dims_t dims, dnnl_data_type_t type,
                                                const dnnl_dims_t strides) {
    return dnnl_memory_desc_create_with_strides(out, rank, dims, type, strides);
}

static inline void layout_free(layout *l) {
    if (*l != NULL) dnnl_memory_desc_destroy(*l);
}

static inline dnnl_status_t describe_product(dnnl_primitive_desc_t *out, dnnl_engine_t engine, layout_view in,
                                             layout_view weight, layout_view product, const_dnnl_primitive_attr_t attributes) {
    return dnnl_matmul_primitive_desc_create(out, engine, in, weight, NULL, product, attributes);
}

static inline dnnl_status_t describe_convolution(dnnl_primitive_desc_t *out, dnnl_engine_t engine, layout_view in,
                                                 layout_view weight, layout_view bias, layout_view product,
                                                 const dnnl_dims_t strides, const dnnl_dims_t before, const dnnl_dims_t after,
                                                 const_dnnl_primitive_attr_t attributes) {
    const dnnl_dims_t dilation = {0, 0};
    return dnnl_convolution_forward_primitive_desc_create(out, engine, dnnl_forward_inference, dnnl_convolution_direct, in,
                                                          weight, bias, product, strides, dilation, before, after, attributes);
}

static inline dnnl_status_t append_sum(dnnl_post_ops_t after) {
    return dnnl_post_ops_append_sum(after, 1.0f, 0, dnnl_data_type_undef);
}

#else

typedef dnnl_memory_desc_t layout; /* a value */
typedef const dnnl_memory_desc_t *layout_view;

static inline layout_view view(const layout *l) {
    return l;
}

static inline dnnl_status_t layout_make(layout *out, int rank, const dnnl_dims_t dims, dnnl_data_type_t type,
                                        dnnl_format_tag_t tag) {
    return dnnl_memory_desc_init_by_tag(out, rank, dims, type, tag);
}

static inline dnnl_status_t layout_make_strided(layout *out, int rank, const dnnl_dims_t dims, dnnl_data_type_t type,
                                                const dnnl_dims_t strides) {
    return dnnl_memory_desc_init_by_strides(out, rank, dims, type, strides);
}

static inline void layout_free(layout *l) {
    (void)l;
}

static inline dnnl_status_t append_sum(dnnl_post_ops_t after) {
    return dnnl_post_ops_append_sum(after, 1.0f);
}

static inline dnnl_status_t describe_product(dnnl_primitive_desc_t *out, dnnl_engine_t engine, layout_view in,
                                             layout_view weight, layout_view product, const_dnnl_primitive_attr_t attributes) {
    dnnl_matmul_desc_t operation;
    const dnnl_status_t status = dnnl_matmul_desc_init(&operation, in, weight, NULL, product);
    return status != dnnl_success ? status : dnnl_primitive_desc_create(out, &operation, attributes, engine, NULL);
}

static inline dnnl_status_t describe_convolution(dnnl_primitive_desc_t *out, dnnl_engine_t engine, layout_view in,
                                                 layout_view weight, layout_view bias, layout_view product,
                                                 const dnnl_dims_t strides, const dnnl_dims_t before, const dnnl_dims_t after,
                                                 const_dnnl_primitive_attr_t attributes) {
    dnnl_convolution_desc_t operation;
    const dnnl_status_t status = dnnl_convolution_forward_desc_init(&operation, dnnl_forward_inference, dnnl_convolution_direct,
                                                                    in, weight, bias, product, strides, before, after);
    return status != dnnl_success ? status : dnnl_primitive_desc_create(out, &operation, attributes, engine, NULL);
}

#endif

/* ---------------------------------------------------------------- making primitives */

static inline int check(dnnl_status_t status, const char *what, limn_error *error) {
    return status == dnnl_success ? 0 : limn_fail(error, "oneDNN cannot %s: %s", what, dnnl_status2str(status));
}

/* Attributes of every primitive of ours: its scratch is given by us; with `add` the product is added to what is in its place.
 * (A second addend as a post-operation would save a copy, but few of the library's convolutions have that, and then it falls
 * back on its reference loops, a thousand times slower.) */
static inline int make_attributes(dnnl_primitive_attr_t *out, bool add, limn_error *error) {
    if (check(dnnl_primitive_attr_create(out), "make attributes", error) != 0) return -1;
    if (check(dnnl_primitive_attr_set_scratchpad_mode(*out, dnnl_scratchpad_mode_user), "use our scratch", error) != 0)
        return -1;
    if (!add) return 0;
    dnnl_post_ops_t after = NULL;
    int status = check(dnnl_post_ops_create(&after), "add a residual", error);
    if (status == 0) status = check(append_sum(after), "add a residual", error);
    if (status == 0) status = check(dnnl_primitive_attr_set_post_ops(*out, after), "add a residual", error);
    if (after != NULL) dnnl_post_ops_destroy(after);
    return status;
}

/* Makes a primitive, unless the library has nothing but its reference loops for it. */
static inline int make_primitive(dnnl_primitive_t *out, dnnl_primitive_desc_t described, limn_error *error) {
    const char *name = NULL;
    if (check(dnnl_primitive_desc_query(described, dnnl_query_impl_info_str, 0, &name), "name its kernel", error) != 0)
        return -1;
    if (strncmp(name, "ref", 3) == 0) return limn_fail(error, "oneDNN has no fast kernel for it, only %s", name);
    return check(dnnl_primitive_create(out, described), "make its kernel", error);
}

#endif
