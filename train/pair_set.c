#include "train/data.h"

#include <stdlib.h>
#include <string.h>

/* Sizes of all shards together, so that everything is allocated once. */
typedef struct {
    size_t pictures, captions, bytes;
} totals;

static int check_shard(const char *path, const token_shard *shard, size_t length, size_t codebook_size, const char *vqgan_sha256,
                       limn_error *error) {
    if (strcmp(shard->vqgan_sha256, vqgan_sha256) != 0)
        return limn_fail(error, "%s: was made with another VQGAN (%.12s…, not %.12s…); encode the pictures again or give that --vqgan",
                         path, shard->vqgan_sha256, vqgan_sha256);
    if (shard->length != length || shard->codebook_size > codebook_size)
        return limn_fail(error, "%s: has %zu tokens a picture from a codebook of %zu, the configuration wants %zu from %zu", path,
                         shard->length, shard->codebook_size, length, codebook_size);
    return 0;
}

/* Groups a shard's captions by picture (a stable counting sort) behind what the set holds already. */
static int append_shard(pair_set *set, totals *at, const char *path, const token_shard *shard, limn_error *error) {
    memcpy(set->tokens + at->pictures * set->length, shard->tokens, shard->count * set->length * sizeof *set->tokens);
    uint64_t *start = set->caption_start + at->pictures;
    for (size_t n = 0; n <= shard->count; n++) start[n] = 0;
    for (size_t m = 0; m < shard->captions; m++) start[shard->caption_row[m] + 1]++;
    for (size_t n = 0; n < shard->count; n++)
        if (!start[n + 1]) return limn_fail(error, "%s: picture %zu has no caption; encode the pictures again", path, n);
    start[0] = at->captions;
    for (size_t n = 0; n < shard->count; n++) start[n + 1] += start[n];

    uint64_t *next = limn_allocate(shard->count, sizeof *next, error);
    uint32_t *order = limn_allocate(shard->captions, sizeof *order, error);
    if (!next || !order) {
        free(next);
        free(order);
        return -1;
    }
    for (size_t n = 0; n < shard->count; n++) next[n] = start[n] - at->captions;
    for (size_t m = 0; m < shard->captions; m++) order[next[shard->caption_row[m]]++] = (uint32_t)m;
    for (size_t i = 0; i < shard->captions; i++) {
        uint64_t from = shard->caption_offsets[order[i]], size = shard->caption_offsets[order[i] + 1] - from;
        set->caption_offset[at->captions++] = at->bytes;
        memcpy(set->caption_bytes + at->bytes, shard->caption_bytes + from, size);
        at->bytes += size;
    }
    set->caption_offset[at->captions] = at->bytes;
    at->pictures += shard->count;
    free(next);
    free(order);
    return 0;
}

static int count_shards(const limn_strings *paths, totals *sum, size_t length, size_t codebook_size, const char *vqgan_sha256,
                        limn_error *error) {
    for (size_t i = 0; i < paths->count; i++) {
        token_shard shard;
        if (token_shard_read(paths->items[i], &shard, error)) return -1;
        int status = check_shard(paths->items[i], &shard, length, codebook_size, vqgan_sha256, error);
        if (status == 0) {
            sum->pictures += shard.count;
            sum->captions += shard.captions;
            sum->bytes += shard.captions ? shard.caption_offsets[shard.captions] : 0;
        }
        token_shard_free(&shard);
        if (status) return -1;
    }
    if (!sum->pictures) return limn_fail(error, "%s: holds no pairs; look at the statistics that limn-encode wrote", paths->items[0]);
    return 0;
}

int pair_set_read(pair_set *set, const limn_strings *paths, size_t length, size_t codebook_size, const char *vqgan_sha256,
                  limn_error *error) {
    *set = (pair_set){.length = length};
    totals sum = {0}, at = {0};
    size_t tokens;
    if (count_shards(paths, &sum, length, codebook_size, vqgan_sha256, error)) return -1;
    set->count = sum.pictures;
    int status = limn_multiply(sum.pictures, length, &tokens, error);
    if (status == 0) {
        set->tokens = limn_allocate(tokens, sizeof *set->tokens, error);
        set->caption_start = limn_allocate(sum.pictures + 1, sizeof *set->caption_start, error);
        set->caption_offset = limn_allocate(sum.captions + 1, sizeof *set->caption_offset, error);
        set->caption_bytes = limn_allocate(sum.bytes + 1, 1, error);
        if (!set->tokens || !set->caption_start || !set->caption_offset || !set->caption_bytes) status = -1;
    }
    for (size_t i = 0; status == 0 && i < paths->count; i++) {
        token_shard shard;
        status = token_shard_read(paths->items[i], &shard, error);
        if (status) break;
        if (shard.count > sum.pictures - at.pictures || shard.captions > sum.captions - at.captions)
            status = limn_fail(error, "%s: changed while it was read; run again", paths->items[i]);
        else status = append_shard(set, &at, paths->items[i], &shard, error);
        token_shard_free(&shard);
    }
    if (status) pair_set_free(set);
    return status;
}

void pair_set_free(pair_set *set) {
    free(set->tokens);
    free(set->caption_start);
    free(set->caption_offset);
    free(set->caption_bytes);
    *set = (pair_set){0};
}

const char *pair_set_caption(const pair_set *set, size_t n, uint64_t choice, size_t *out_size) {
    uint64_t first = set->caption_start[n], count = set->caption_start[n + 1] - first;
    uint64_t m = first + choice % count;
    *out_size = set->caption_offset[m + 1] - set->caption_offset[m];
    return set->caption_bytes + set->caption_offset[m];
}
