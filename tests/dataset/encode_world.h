/* What the tests of limn-encode share: three tars of painted pictures, a small VQGAN of random weights, a folder for shards. */
#ifndef LIMN_TESTS_DATASET_ENCODE_WORLD_H
#define LIMN_TESTS_DATASET_ENCODE_WORLD_H

#include "dataset/dataset.h"
#include "tools.h"
#include "vqgan/vqgan.h"

#include <setjmp.h>

#include <cmocka.h>

enum { SIDE = 16, LENGTH = 64, CODES = 37 };

void save_random_vqgan(const char *directory, uint64_t seed);
/* A picture that is a function of its number alone. */
picture paint(size_t number, size_t width, size_t height);
void add_entry(tar_writer *writer, const char *key, const char *ending, const void *data, size_t size);
/* A tar of `count` painted pictures, key number×10000+row. */
void write_painted_tar(const char *path, size_t number, size_t count, size_t width, size_t height);

typedef struct {
    char folder[4096];
    char tars[3][4096], vqgan[4096], output[4096];
    const char *inputs[3];
    encode_options options;
    encode_summary summary;
} world;

int make_world(void **state);
int remove_world(void **state);

void encode(world *self);                             /* must succeed */
void assert_refused(world *self, const char *reason); /* must fail and say so */
token_shard read_shard(const world *self, const char *name);
bool is_there(const world *self, const char *name); /* in the folder for shards */

#endif
