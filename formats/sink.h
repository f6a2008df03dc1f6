/* Where the writers of weights put their bytes: a file of known size, whole or not there; formats/ only. */
#ifndef LIMN_FORMATS_SINK_H
#define LIMN_FORMATS_SINK_H

#include "formats/formats.h"

#include <pthread.h>

/* No file is larger than this. */
#define SINK_BYTES_MAX ((size_t)1 << 50)

typedef struct {
    size_t at, bytes;
} sink_correction;

enum { SINK_ROOMS = 3, SINK_THREADS = 2 };
typedef struct {
    unsigned char *bytes;
    size_t at; /* where in the file they belong */
    enum { ROOM_FREE, ROOM_FULL, ROOM_BEING_WRITTEN } state;
} sink_room;

struct tensor_sink {
    limn_atomic_file atomic;
    char path[4096];
    int descriptor;
    size_t size, at;             /* of the whole file; where the next byte goes */
    sink_room rooms[SINK_ROOMS]; /* rooms[filling] holds `used` bytes that end at `at` and are not yet written */
    size_t filling, used;
    limn_buffer corrections; /* sink_put_at's, each a sink_correction and its bytes */
    bool direct;             /* written past the page cache: by whole rooms only */
    /* the threads that write, of large files */
    bool ending;
    limn_threads threads;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int why; /* errno of the first write that failed */
    /* of the tensor at work */
    size_t left;        /* bytes that it still needs */
    bool checked;       /* whether `checksum` is wanted */
    uint32_t checksum;  /* CRC-32 of its bytes so far */
    size_t until_break; /* before so many more of its bytes `on_break` puts something in between; SIZE_MAX: never */
    int (*on_break)(struct tensor_sink *sink, limn_error *error);
    void *context; /* the writer's, for on_break */
};

/* Begins a file that will have `size` bytes, whose space is taken at once where the file system can. */
int sink_open(tensor_sink *sink, const char *path, size_t size, limn_error *error);
int sink_put(tensor_sink *sink, const void *data, size_t bytes, limn_error *error);
/* Over bytes that were put before; written when the file is closed. */
int sink_put_at(tensor_sink *sink, size_t at, const void *data, size_t bytes, limn_error *error);
/* Asks the producer for tensor `index`, which has `bytes` bytes. */
int sink_put_tensor(tensor_sink *sink, const tensor *tensors, size_t index, size_t bytes, tensor_producer producer,
                    void *context, limn_error *error);
/* Flushes, syncs and renames when `failed` is 0, else removes what was written; frees either way. Returns 0 or -1. */
int sink_close(tensor_sink *sink, int failed, limn_error *error);

#endif
