#include "train/picture_set.h"
#include "train/for_each.h"

#include "formats/formats.h"
#include "pictures/pictures.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { WARNINGS = 5 };

/* ---------------------------------------------------------------- places */

/* What tars hold, while they are listed. */
typedef struct {
    limn_buffer places;
    uint32_t file;
} tar_listing;
typedef struct {
    const picture_set *set;
    tar_listing *tars; /* (set->paths) */
} listings;

static int add_place(void *context, const char *key, uint64_t offset, uint64_t size, limn_error *error) {
    (void)key;
    tar_listing *self = context;
    const picture_place place = {.offset = offset, .size = (uint32_t)size, .file = self->file};
    return limn_buffer_append(&self->places, &place, sizeof place, error);
}

static int list_tar(void *context, size_t i, limn_error *error) {
    listings *self = context;
    self->tars[i].file = (uint32_t)i;
    return tar_list_pictures(self->set->paths.items[i], add_place, &self->tars[i], error);
}

static int note_sizes(picture_set *set, limn_error *error) {
    if (set->paths.count > UINT32_MAX) return limn_fail(error, "%zu tars are too many", set->paths.count);
    set->bytes = limn_allocate(set->paths.count, sizeof *set->bytes, error);
    if (!set->bytes) return -1;
    for (size_t i = 0; i < set->paths.count; i++) {
        struct stat about;
        const char *path = set->paths.items[i];
        if (stat(path, &about)) return limn_fail(error, "%s: %s", path, strerror(errno));
        set->bytes[i] = (uint64_t)about.st_size;
    }
    return 0;
}

static int list_tars(picture_set *set, limn_error *error) {
    const size_t files = set->paths.count;
    listings all = {.set = set, .tars = limn_allocate(files, sizeof *all.tars, error)};
    size_t bytes = 0;
    if (!all.tars) return -1;
    int status = train_for_each(files, list_tar, &all, "the tars were listed", error);
    for (size_t i = 0; i < files; i++) bytes += all.tars[i].places.size;
    if (status == 0 && bytes) {
        set->list = limn_allocate(bytes, 1, error);
        if (!set->list) status = -1;
    }
    for (size_t i = 0; i < files; i++) {
        limn_buffer *places = &all.tars[i].places;
        if (status == 0 && places->size) memcpy(set->list + set->count, places->data, places->size);
        if (status == 0) set->count += places->size / sizeof *set->list;
        limn_buffer_free(places);
    }
    free(all.tars);
    return status;
}

/* ---------------------------------------------------------------- reading and decoding */

static int read_bytes(const picture_set *set, const picture_place *place, limn_buffer *room, limn_error *error) {
    const char *path = set->paths.items[place->file];
    room->size = 0;
    if (limn_buffer_reserve(room, place->size, error)) return -1;
    int file = open(path, O_RDONLY | O_CLOEXEC), status = 0;
    if (file < 0) return limn_fail(error, "%s: %s; put it back, and the same command goes on", path, strerror(errno));
    struct stat about;
    if (fstat(file, &about) || (uint64_t)about.st_size != set->bytes[place->file])
        status = limn_fail(
            error, "%s: is not as long as when the run began; put it back as it was, and the same command goes on", path);
    while (status == 0 && room->size < place->size) {
        ssize_t got = pread(file, room->data + room->size, place->size - room->size, (off_t)(place->offset + room->size));
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0)
            status = limn_fail(error, "%s: cannot be read: %s", path, got < 0 ? strerror(errno) : "it is shorter than it was");
        else
            room->size += (size_t)got;
    }
    close(file);
    return status;
}

/* 1, with the picture's place and a reason, when it cannot be decoded. */
static int decode(const picture_set *set, size_t n, size_t side, picture *out, limn_buffer *room, limn_error *error) {
    const picture_place *place = &set->list[n];
    const picture_decode_options options = {.min_side = side};
    if (read_bytes(set, place, room, error)) return -1;
    if (picture_decode(out, (const unsigned char *)room->data, place->size, &options, NULL, NULL, error) == 0) return 0;
    limn_fail_context(error, "%s: the picture at byte %llu", set->paths.items[place->file], (unsigned long long)place->offset);
    return 1;
}

int picture_set_decode(const picture_set *set, size_t n, size_t side, float *out, limn_buffer *room, limn_error *error) {
    picture decoded, sized;
    int status = decode(set, n, side, &decoded, room, error);
    if (status) return status;
    if (decoded.width != side || decoded.height != side) {
        status = picture_resize(&decoded, &sized, RESIZE_CENTER_CROP, side, error);
        picture_free(&decoded);
        if (status) return -1;
        decoded = sized;
    }
    picture_to_floats(&decoded, out);
    picture_free(&decoded);
    return 0;
}

/* Decodes every picture, and leaves out those that cannot be. */
static int leave_out_broken(picture_set *set, limn_error *error) {
    bool *broken = limn_allocate(set->count, sizeof *broken, error);
    size_t warned = 0, kept = 0;
    int failed = 0;
    if (!broken) return -1;
#pragma omp parallel num_threads((int)limn_get_threads())
    {
        limn_buffer room = {0};
#pragma omp for schedule(dynamic)
        for (size_t n = 0; n < set->count; n++) {
            limn_error why = {0};
            picture decoded;
            int status = decode(set, n, 1, &decoded, &room, &why);
            broken[n] = status != 0;
            if (status == 0) {
                picture_free(&decoded);
                continue;
            }
#pragma omp critical(picture_set_failed)
            if (status < 0) {
                failed = -1;
                if (error) *error = why;
            } else if (warned++ < WARNINGS) {
                limn_log(LIMN_LOG_WARNING, "%s; left out", why.message);
            }
        }
        limn_buffer_free(&room);
    }
    for (size_t n = 0; n < set->count; n++)
        if (!broken[n]) set->list[kept++] = set->list[n];
    set->count = kept;
    if (warned > WARNINGS) limn_log(LIMN_LOG_WARNING, "%zu pictures are broken and were left out", warned);
    free(broken);
    return failed;
}

int picture_set_open(picture_set *set, const limn_strings *given, bool decode_all, limn_error *error) {
    *set = (picture_set){0};
    int status = limn_expand_folders(given, ".tar", &set->paths, error);
    if (status == 0) status = note_sizes(set, error);
    if (status == 0) status = list_tars(set, error);
    if (status == 0 && decode_all && set->count) status = leave_out_broken(set, error);
    if (status == 0 && !set->count)
        status = limn_fail(error, "%s: holds no picture that can be %s", set->paths.count ? set->paths.items[0] : "--data",
                           decode_all ? "decoded" : "read (.jpg, .jpeg, .png or .webp)");
    if (status) picture_set_close(set);
    return status;
}

void picture_set_close(picture_set *set) {
    limn_strings_free(&set->paths);
    free(set->bytes);
    free(set->list);
    *set = (picture_set){0};
}
