/* formats: how tensors, tars and token shards lie on disk. Knows bytes, not meaning.
 * Every reader treats its file as hostile: each size is checked against the file before it is used. */
#ifndef LIMN_FORMATS_H
#define LIMN_FORMATS_H

#include "core/core.h"

/* ---------------------------------------------------------------- named tensors */

typedef enum {
    TENSOR_F32,
    TENSOR_F16,
    TENSOR_BF16,
    TENSOR_F64,
    TENSOR_I64,
    TENSOR_I32,
    TENSOR_U16,
    TENSOR_U8,
    TENSOR_BOOL
} tensor_type;

enum { TENSOR_MAX_RANK = 8 };

/* How the elements of a tensor lie that is not one row-major run: strided (a transposed or sliced view of a PyTorch storage) or
 * in chunks (Flax's arrays above 1 GiB). Kept behind; tensor_to_float, tensor_to_int64 and tensor_copy follow it. */
typedef struct tensor_layout tensor_layout;

typedef struct {
    const char *name; /* dotted or slashed path, owned by the file; UTF-8 without NUL */
    tensor_type type;
    size_t rank, shape[TENSOR_MAX_RANK];
    size_t count;     /* product of shape; 1 for rank 0 */
    const void *data; /* all elements in row-major order, inside the mapping, perhaps unaligned for the type; NULL when `layout`
                       * says how they lie, and allowed to be NULL when count is 0 */
    const tensor_layout *layout; /* NULL when data holds all; owned by the file */
} tensor;

/* A set of named tensors, from one file or from the shards of an index; sorted by name (strcmp), no name twice. Files are
 * mapped: opening reads the heads alone, and no tensor data is copied. */
typedef struct tensor_file tensor_file;
typedef enum { TENSOR_FORM_SAFETENSORS, TENSOR_FORM_FLAX, TENSOR_FORM_PYTORCH } tensor_form;

/* Any of the forms below, told apart by content, not by name. A JSON file is taken as an index in Hugging Face's form,
 * {"metadata": …, "weight_map": {tensor: file}}, of shards beside it in any one of the forms: all are opened as one set.
 * Every tensor of the map must be in the shard that it names, shards hold no tensor that the map lacks, and a file name that
 * is a path is refused. */
tensor_file *tensor_file_open(const char *path, limn_error *error);

/* safetensors (https://github.com/huggingface/safetensors, "Format"). */
tensor_file *safetensors_open(const char *path, limn_error *error);

/* Flax's msgpack of nested maps (flax.serialization; extension type 1 is an array: shape, dtype name, raw bytes; type 3 a
 * NumPy scalar). Map keys are joined with '/'. Arrays that Flax has cut into chunks (a map that begins with
 * "__msgpack_chunked_array__") are one tensor. Numbers and texts beside the arrays are skipped. */
tensor_file *flax_msgpack_open(const char *path, limn_error *error);

/* PyTorch's checkpoints: the zip form (torch.save since 1.6) and the pickle stream before it (torch 0.1 to 1.5,
 * torchvision's VGG16). The tar form before 2017, TorchScript programs, compressed entries and big-endian files are errors that
 * say so. The CRC-32s of the zip are not looked at (PyTorch does not either).
 *
 * Names are the dict keys on the way from the root, joined with '.', whatever they mean: a bare state_dict gives
 * "encoder.conv_in.weight", a Lightning checkpoint "state_dict.encoder.conv_in.weight" beside
 * "optimizer_states.0.state.0.exp_avg". Lists and tuples give the index, numbers as keys their digits, a root that is itself a
 * tensor the name "tensor". Parameters count as tensors; a tensor under two names is presented under both. Numbers, texts and
 * booleans that are values of dicts become the metadata, under names of the same form ("epoch", "hyper_parameters.lr"); NumPy
 * arrays and scalars, and attributes of objects (state_dict()'s _metadata), are skipped.
 *
 * The pickle is read by a small stack machine (protocols 0 to 5) that builds inert values: nothing in it is ever called or
 * imported. Classes other than those in formats/pickle_globals.c (what torch, NumPy, Lightning and OmegaConf put beside
 * weights) are an error that names the class and the byte. Limits: 8 million instructions, 64 levels, names of 1023 bytes,
 * and tensors that together take at most 16 times the bytes of the file (views may share elements). */
tensor_file *pytorch_open(const char *path, limn_error *error);

void tensor_file_close(tensor_file *file); /* NULL allowed */
size_t tensor_file_count(const tensor_file *file);
const tensor *tensor_file_at(const tensor_file *file, size_t index);
const tensor *tensor_file_find(const tensor_file *file, const char *name); /* NULL when absent */
const char *tensor_file_path(const tensor_file *file);
tensor_form tensor_file_form(const tensor_file *file);
/* What stands beside the tensors, as an object: the "__metadata__" strings of a safetensors file, PyTorch's numbers and texts
 * (see above), an index' "metadata"; NULL when there is none. Borrowed. */
const json_t *tensor_file_metadata(const tensor_file *file);
/* Looks up a tensor that must have this shape (rank numbers); an error names file, tensor, the shape found and the expected. */
const tensor *tensor_file_need(const tensor_file *file, const char *name, size_t rank, const size_t *shape, limn_error *error);

/* Elements start … start+count-1 in row-major order, as float, as whole numbers (rounded toward zero; NaN is 0), or in their
 * own type into count * tensor_type_size bytes. From any type and layout; the range must lie in the tensor. */
void tensor_to_float(const tensor *source, size_t start, size_t count, float *out);
void tensor_to_int64(const tensor *source, size_t start, size_t count, int64_t *out);
void tensor_copy(const tensor *source, size_t start, size_t count, void *out);
/* Lets the system read these elements from the disk already, where they lie in one run; returns at once. */
void tensor_will_need(const tensor *source, size_t start, size_t count);
/* The other way: F16 and BF16 are rounded to nearest even, NaN stays NaN, what is too large becomes infinity; whole-number
 * types are rounded to nearest even and clamped, NaN is 0. `out` takes count * tensor_type_size bytes. */
void tensor_from_float(tensor_type type, const float *in, size_t count, void *out);
size_t tensor_type_size(tensor_type type);

/* ---------------------------------------------------------------- a folder's weights */

/* The file in a model folder that holds its weights: the first that is there of model.safetensors, flax_model.msgpack,
 * pytorch_model.bin (each also in shards, by its .index.json), model.ckpt, last.ckpt, checkpoints/last.ckpt, min-dalle's
 * encoder.pt or detoker.pt, else the only file of such an ending. */
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
/* Size `dimension` of the tensor of that name after `prefix`; 0 when there is none, or it has fewer dimensions. */
size_t tensor_file_size(const tensor_file *file, const char *prefix, const char *name, size_t dimension);
/* Looks for a tensor named `name`, alone or after a prefix that ends with '.' or '/' ("state_dict.", "params/"), and gives that
 * prefix. */
bool tensor_file_find_prefix(const tensor_file *file, const char *name, char out_prefix[256]);

/* ---------------------------------------------------------------- writing tensors */

/* Every writer below is atomic (a hidden temporary, renamed when it is whole and on disk), takes the file's space before the
 * first tensor is asked for, so that a full disk is one early line, and leaves nothing behind when it fails. The bytes depend
 * on the arguments alone. Of a `tensor` given to a writer only name, type, rank and shape are looked at.
 *
 * Data comes from a producer, called once per tensor in the order of the file: `index` is the tensor's place in the array that
 * the writer was given. It writes exactly the tensor's bytes (row-major, little-endian, its own type), in pieces of any
 * size, and returns 0; what it returns otherwise, with its error, ends the writing. So a model of any size is written in the
 * memory of one piece. Pieces of a few kilobytes up are all written at the speed of the disk. */
typedef struct tensor_sink tensor_sink;
int tensor_sink_write(tensor_sink *sink, const void *data, size_t bytes, limn_error *error);
typedef int (*tensor_producer)(void *context, size_t index, tensor_sink *sink, limn_error *error);

/* safetensors, in the order of the names. `metadata` may be NULL (an object of strings). */
int safetensors_write_from(const char *path, const tensor *tensors, size_t count, const json_t *metadata,
                           tensor_producer producer, void *context, limn_error *error);
/* The same with the tensors' own data (of any layout). */
int safetensors_write(const char *path, const tensor *tensors, size_t count, const json_t *metadata, limn_error *error);

/* Flax's msgpack, the bytes of flax.serialization.msgpack_serialize: names are cut at '/' into nested maps whose keys are
 * sorted by their bytes, which is also the order of the file; arrays above 1 GiB are cut into chunks as Flax does. A name that
 * is a tensor and a map at once ("a" and "a/b"), or has an empty part, is an error. */
int flax_msgpack_write(const char *path, const tensor *tensors, size_t count, tensor_producer producer, void *context,
                       limn_error *error);

/* PyTorch's zip form, for torch.load (weights_only=True, mmap=True, and torch 1.6 or later): a dict of tensors in the order
 * given, which is also the order of the file; with `under` ("state_dict") that dict is the value of this key in a dict of
 * one. Storages begin at multiples of 64 bytes. TENSOR_U16 is an error: PyTorch has no storage for it before 2.3. */
int pytorch_write(const char *path, const tensor *tensors, size_t count, const char *under, tensor_producer producer,
                  void *context, limn_error *error);

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
    const char *image_ending;   /* of these four, whatever its case in the tar; NULL when there is no picture */
    const char *caption;        /* .txt; NULL when missing */
    const char *json;           /* .json; NULL when missing */
    size_t others;              /* further entries of the sample, which are not read */
} tar_sample;
typedef struct tar_reader tar_reader;
tar_reader *tar_reader_open(const char *path, limn_error *error);
/* 1: a sample; 0: the end; -1: a damaged or truncated tar. Entries above 256 MiB are an error. */
int tar_reader_next(tar_reader *reader, tar_sample *sample, limn_error *error);
uint64_t tar_reader_position(const tar_reader *reader); /* bytes of the tar that lie before what is read next */
void tar_reader_close(tar_reader *reader);
/* Calls `found` for every sample that has a picture, in the tar's order, with where that lies: `size` bytes from `offset`, at most
 * 256 MiB. Reads headers alone, but for what a disk block holds beside them. Ends with what `found` returns when that is not 0. */
typedef int (*tar_picture_found)(void *context, const char *key, uint64_t offset, uint64_t size, limn_error *error);
int tar_list_pictures(const char *path, tar_picture_found found, void *context, limn_error *error);

/* ---------------------------------------------------------------- token shards (HDF5) */

enum { TOKEN_SHARD_VERSION = 1 };

/* One shard in memory, as DESIGN's "Token shards" fixes it. Arrays are owned by the shard. */
typedef struct {
    size_t count;     /* N pictures */
    size_t length;    /* L tokens a picture */
    uint16_t *tokens; /* (N, L) */
    size_t captions;  /* M */
    unsigned char *caption_bytes;
    uint64_t *caption_offsets; /* (M+1) */
    uint32_t *caption_row;     /* (M): the picture of each caption */
    unsigned char *key_bytes;
    uint64_t *key_offsets; /* (N+1) */
    size_t columns;        /* number of extra float columns */
    char **column_names;
    float **column_values; /* each (N) */
    char vqgan_sha256[65];
    char precision[17]; /* that the VQGAN computed in, such as "bf16"; read as "fp32" where the file does not say */
    size_t image_size, codebook_size;
} token_shard;

/* Writes atomically, chunked and compressed. */
int token_shard_write(const char *path, const token_shard *shard, limn_error *error);
/* Reads a whole shard and checks it: version, shapes, monotone offsets, every token below codebook_size, every caption_row
 * below N. */
int token_shard_read(const char *path, token_shard *shard, limn_error *error);
/* Only the attributes and sizes (arrays stay NULL): cheap. */
int token_shard_read_header(const char *path, token_shard *shard, limn_error *error);
/* These, caption_row and the columns, checked as above (tokens, captions and keys stay NULL): what a choice of pictures needs. */
int token_shard_read_columns(const char *path, token_shard *shard, limn_error *error);
void token_shard_free(token_shard *shard);

/* The rows of a shard that grows in memory. A row's tokens are appended to `tokens` and its captions added, then it is ended. */
typedef struct {
    size_t count, captions; /* ended rows; captions, also of the row at hand */
    limn_buffer tokens;     /* uint16_t (count, L) */
    limn_buffer caption_bytes, caption_offsets, caption_row, key_bytes, key_offsets;
} token_shard_rows;
int token_shard_rows_begin(token_shard_rows *self, limn_error *error);
int token_shard_rows_caption(token_shard_rows *self, const char *text, size_t size, limn_error *error);
int token_shard_rows_end(token_shard_rows *self, const char *key, limn_error *error);
/* Lends its arrays to a shard, which is not to be freed. */
void token_shard_rows_lend(const token_shard_rows *self, token_shard *shard);
void token_shard_rows_free(token_shard_rows *self); /* of a zeroed one too */

/* ---------------------------------------------------------------- token lines (JSON) */

/* Pairs as lines of JSON, plain or gzipped: an object a line with "captions" (a text or a list of texts) or else "caption", and
 * the picture's tokens in a list "encoding" or else "tokens". Blank lines count for nothing. A plain file can be read in parts. */
typedef struct {
    uint64_t offset;    /* of its first byte in the file */
    size_t line, lines; /* the number of its first line, from 1; how many lines at most */
} token_lines_part;
/* Parts of `lines` lines each (the last may have less), of an empty file none; free(*out_parts). A gzipped file is one part, since
 * it can only be read from its beginning. Looks at line ends alone, at the speed of the disk. */
int token_lines_cut(const char *path, size_t lines, token_lines_part **out_parts, size_t *out_count, limn_error *error);
/* Reads a part as a shard without keys, image_size and vqgan_sha256. Every line must have `length` tokens below codebook_size and
 * a caption. column_names are the numbers of each line that become columns: null is NaN, and a line without one a usage error.
 * What is wrong is said with file and line. */
int token_lines_read(const char *path, const token_lines_part *part, size_t length, size_t codebook_size,
                     const char *const *column_names, size_t columns, token_shard *shard, limn_error *error);

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
int train_state_read(const char *path, state_array *arrays, size_t array_count, state_counter *counters, size_t counter_count,
                     limn_error *error);
/* For arrays that are not in this process's memory as a whole: of those whose `values` are NULL the mover is asked for one piece
 * after another when writing, and given them when reading. Pieces are of STATE_PIECE values, the last of less. The file's bytes are
 * those of train_state_write. */
enum { STATE_PIECE = 1 << 20 };
typedef struct {
    int (*move)(void *context, const state_array *array, size_t start, size_t count, float *piece, limn_error *error);
    void *context;
} state_mover;
int train_state_write_pieces(const char *path, const state_array *arrays, size_t array_count, const state_counter *counters,
                             size_t counter_count, const state_mover *mover, limn_error *error);
int train_state_read_pieces(const char *path, state_array *arrays, size_t array_count, state_counter *counters,
                            size_t counter_count, const state_mover *mover, limn_error *error);

/* ---------------------------------------------------------------- TensorBoard's event files */

/* One DIRECTORY/events.out.tfevents.TIME.HOST.PID.0, whose name sorts after those that are there: TensorBoard reads them in
 * this order. It begins with a session that starts at first_step, at which TensorBoard forgets what earlier files say of that
 * step and later ones: steps that a killed run did after its last checkpoint are not shown twice. What a full disk does not
 * take is kept and written later (limn_append). */
typedef struct event_file event_file;
event_file *event_file_create(const char *directory, uint64_t first_step, limn_error *error);
/* Gathers values for the event at hand: a number (kept as float; NaN and infinities are allowed), a picture as the bytes of a
 * PNG of 8-bit RGB, a text in Markdown. Tags with a slash are grouped by what stands before it. */
int event_file_scalar(event_file *self, const char *tag, double value, limn_error *error);
int event_file_image(event_file *self, const char *tag, const void *png, size_t size, size_t width, size_t height,
                     limn_error *error);
int event_file_text(event_file *self, const char *tag, const char *text, limn_error *error);
/* Writes what was gathered as one event of this step; nothing when nothing was. */
int event_file_write(event_file *self, uint64_t step, limn_error *error);
/* Fails when something could not be written to the end; frees; NULL allowed. */
int event_file_close(event_file *self, limn_error *error);

#endif
