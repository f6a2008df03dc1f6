/* formats: how tensors, tars and token shards lie on disk. Knows bytes, not meaning.
 * Every reader treats its file as hostile: each size is checked against the file before it is used. */
#ifndef LIMN_FORMATS_H
#define LIMN_FORMATS_H

#include "core/core.h"

/* ---------------------------------------------------------------- named tensors */

typedef enum { TENSOR_F32, TENSOR_F16, TENSOR_BF16, TENSOR_F64, TENSOR_I64, TENSOR_I32, TENSOR_U16, TENSOR_U8, TENSOR_BOOL } tensor_type;

enum { TENSOR_MAX_RANK = 8 };

typedef struct {
    const char *name; /* dotted or slashed path, owned by the file */
    tensor_type type;
    size_t rank, shape[TENSOR_MAX_RANK];
    size_t count;     /* product of shape; 1 for rank 0 */
    const void *data; /* inside the mapping, or owned by the file; may be unaligned for its type */
} tensor;

/* A set of named tensors, from one safetensors or msgpack file; sorted by name. */
typedef struct tensor_file tensor_file;

/* safetensors (https://github.com/huggingface/safetensors, "Format"): mapped, not copied. */
tensor_file *safetensors_open(const char *path, limn_error *error);
/* Flax's msgpack of nested maps (flax.serialization; extension type 1 is an array: shape, dtype name, raw bytes; type 3 a
 * NumPy scalar). Map keys are joined with '/'. Mapped; array data is not copied. */
tensor_file *flax_msgpack_open(const char *path, limn_error *error);
void tensor_file_close(tensor_file *file); /* NULL allowed */
size_t tensor_file_count(const tensor_file *file);
const tensor *tensor_file_at(const tensor_file *file, size_t index);
const tensor *tensor_file_find(const tensor_file *file, const char *name); /* NULL when absent */
const char *tensor_file_path(const tensor_file *file);
/* The "__metadata__" strings of a safetensors file as an object; NULL when there are none. Borrowed. */
const json_t *tensor_file_metadata(const tensor_file *file);
/* Looks up a tensor that must have this shape (rank numbers); an error names file, tensor, the shape found and the expected. */
const tensor *tensor_file_need(const tensor_file *file, const char *name, size_t rank, const size_t *shape, limn_error *error);

/* Elements start … start+count-1 as float (from any type above). */
void tensor_to_float(const tensor *source, size_t start, size_t count, float *out);
void tensor_to_int64(const tensor *source, size_t start, size_t count, int64_t *out);
size_t tensor_type_size(tensor_type type);

/* ---------------------------------------------------------------- a folder's weights */

/* The file in a model folder that holds its weights: the first that is there of model.safetensors, flax_model.msgpack,
 * pytorch_model.bin (each also in shards, by its .index.json), model.ckpt, last.ckpt, checkpoints/last.ckpt, min-dalle's encoder.pt
 * or detoker.pt, else the only file of such an ending. */
int tensor_folder_find(const char *directory, char path[4096], limn_error *error);
/* Opens it; min-dalle's encoder.pt and decoder.pt as one set, with "encoder." and "decoder." before the names. */
tensor_file *tensor_folder_open(const char *directory, limn_error *error);

/* ---------------------------------------------------------------- a weight's place in someone's file */

/* The order of a weight's axes. PyTorch's ([out, in], OIHW) is ours too; Flax has kernels as [in, out] and HWIO. */
typedef enum { TENSOR_PYTORCH, TENSOR_IN_OUT, TENSOR_HWIO } tensor_order;

typedef struct {
    char name[256];
    tensor_order order;
    size_t rank, shape[4]; /* of this weight alone, in PyTorch's order */
    bool stacked;          /* the tensor has a leading axis of `layers`, and this weight is its entry `layer` */
    size_t layer, layers;  /* 0 and 1 when not stacked */
} tensor_place;

/* The shape of the file's tensor: its order of axes, and its stack. */
void tensor_place_shape(const tensor_place *place, size_t *out_rank, size_t out_shape[TENSOR_MAX_RANK]);
/* The file's tensor of that name after `prefix` and of that shape; else NULL with an error as tensor_file_need's. */
const tensor *tensor_place_need(const tensor_file *file, const char *prefix, const tensor_place *place, limn_error *error);
/* The weight as floats in PyTorch's order. `scratch` has the same room; it is not used where the file has that order too. */
void tensor_place_read(const tensor *source, const tensor_place *place, float *out, float *scratch);
/* One weight from the file's order of axes to PyTorch's, and back. */
void tensor_place_to_pytorch(const tensor_place *place, float *out, const float *in);
void tensor_place_from_pytorch(const tensor_place *place, float *out, const float *in);
/* Looks for a tensor named `name`, alone or after a prefix that ends with '.' or '/' ("state_dict.", "params/"), and gives that
 * prefix. */
bool tensor_file_find_prefix(const tensor_file *file, const char *name, char out_prefix[256]);

/* ---------------------------------------------------------------- writing tensors */

/* Writes a safetensors file atomically. Tensors are written in the order of their names. `metadata` may be NULL (an object
 * of strings). The bytes depend on the arguments alone. */
int safetensors_write(const char *path, const tensor *tensors, size_t count, const json_t *metadata, limn_error *error);

/* ---------------------------------------------------------------- WebDataset tars */

/* Writing: entries in the order given, mtime 0, mode 0644, owner 0, ustar (pax only where a name needs it). Atomic. */
typedef struct tar_writer tar_writer;
tar_writer *tar_writer_open(const char *path, limn_error *error);
int tar_writer_add(tar_writer *writer, const char *name, const void *data, size_t size, limn_error *error);
int tar_writer_commit(tar_writer *writer, limn_error *error); /* frees, also on error */
void tar_writer_discard(tar_writer *writer);

/* Reading one sample at a time: entries that share the part of the name before the first dot of the file name are one
 * sample. Buffers belong to the reader until the next call. */
typedef struct {
    char key[256];
    size_t image_size, caption_size, json_size;
    const unsigned char *image; /* .jpg, .jpeg, .png or .webp; NULL when missing */
    const char *caption;        /* .txt; NULL when missing */
    const char *json;           /* .json; NULL when missing */
} tar_sample;
typedef struct tar_reader tar_reader;
tar_reader *tar_reader_open(const char *path, limn_error *error);
/* 1: a sample; 0: the end; -1: a damaged or truncated tar. Entries above 256 MiB are an error. */
int tar_reader_next(tar_reader *reader, tar_sample *sample, limn_error *error);
void tar_reader_close(tar_reader *reader);

/* ---------------------------------------------------------------- token shards (HDF5) */

enum { TOKEN_SHARD_VERSION = 1 };

/* One shard in memory, as DESIGN's "Token shards" fixes it. Arrays are owned by the shard. */
typedef struct {
    size_t count;            /* N pictures */
    size_t length;           /* L tokens a picture */
    uint16_t *tokens;        /* (N, L) */
    size_t captions;         /* M */
    unsigned char *caption_bytes;
    uint64_t *caption_offsets; /* (M+1) */
    uint32_t *caption_row;     /* (M): the picture of each caption */
    unsigned char *key_bytes;
    uint64_t *key_offsets; /* (N+1) */
    size_t columns;        /* number of extra float columns */
    char **column_names;
    float **column_values; /* each (N) */
    char vqgan_sha256[65];
    size_t image_size, codebook_size;
} token_shard;

/* Writes atomically, chunked and compressed. */
int token_shard_write(const char *path, const token_shard *shard, limn_error *error);
/* Reads a whole shard and checks it: version, shapes, monotone offsets, every token below codebook_size, every caption_row
 * below N. */
int token_shard_read(const char *path, token_shard *shard, limn_error *error);
/* Only the attributes and sizes (arrays stay NULL): cheap. */
int token_shard_read_header(const char *path, token_shard *shard, limn_error *error);
void token_shard_free(token_shard *shard);

/* ---------------------------------------------------------------- training state (HDF5) */

/* Named one-dimensional arrays and 64-bit counters: what a checkpoint needs beside the model. */
typedef struct {
    const char *name;
    size_t count;
    float *values; /* read into when reading: count must match the file's */
} state_array;
typedef struct {
    const char *name;
    uint64_t value;
} state_counter;
int train_state_write(const char *path, const state_array *arrays, size_t array_count, const state_counter *counters,
                      size_t counter_count, limn_error *error);
int train_state_read(const char *path, state_array *arrays, size_t array_count, state_counter *counters,
                     size_t counter_count, limn_error *error);

#endif
