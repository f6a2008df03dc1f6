/* WebDataset tars, through libarchive. */
#include "formats/formats.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

enum {
    BLOCK = 512,
    END_BYTES = 2 * BLOCK,
    RECORD = 20 * BLOCK,
    IO_BYTES = 64 * BLOCK,
    LIST_BYTES = 8 * BLOCK,
    ENTRY_MAX = 256 << 20
};

/* ---------------------------------------------------------------- writing */

struct tar_writer {
    limn_atomic_file file;
    struct archive *archive;
    struct archive_entry *entry;
    int trouble; /* errno of the first write that failed; 0 while all is well */
};

/* Takes everything, and only remembers a failure: libarchive leaks its buffers when a write of it fails. */
static la_ssize_t write_to_stream(struct archive *archive, void *context, const void *data, size_t size) {
    (void)archive;
    tar_writer *writer = context;
    if (!writer->trouble && fwrite(data, 1, size, writer->file.stream) != size) writer->trouble = errno ? errno : EIO;
    return (la_ssize_t)size;
}

static int writer_failed(tar_writer *writer, const char *what, limn_error *error) {
    const char *why = writer->trouble ? strerror(writer->trouble) : archive_error_string(writer->archive);
    return limn_fail(error, "%s: cannot write %s: %s", writer->file.path, what, why ? why : "no reason given");
}

static int writer_start(tar_writer *writer, limn_error *error) {
    writer->archive = archive_write_new();
    writer->entry = archive_entry_new();
    if (!writer->archive || !writer->entry) return limn_fail(error, "%s: out of memory", writer->file.path);
    /* Restricted pax is ustar with a pax header only before the entries that ustar cannot hold. */
    if (archive_write_set_format_pax_restricted(writer->archive) != ARCHIVE_OK ||
        archive_write_set_bytes_per_block(writer->archive, IO_BYTES) != ARCHIVE_OK ||
        archive_write_set_bytes_in_last_block(writer->archive, RECORD) != ARCHIVE_OK ||
        archive_write_open(writer->archive, writer, NULL, write_to_stream, NULL) != ARCHIVE_OK)
        return writer_failed(writer, "it", error);
    return 0;
}

tar_writer *tar_writer_open(const char *path, limn_error *error) {
    tar_writer *writer = limn_allocate(1, sizeof *writer, error);
    if (!writer) return NULL;
    if (limn_atomic_open(&writer->file, path, error)) {
        free(writer);
        return NULL;
    }
    if (writer_start(writer, error) == 0) return writer;
    tar_writer_discard(writer);
    return NULL;
}

/* Printable ASCII, relative and inside: names of other kinds need extended headers that differ from locale to locale. */
static bool is_plain_name(const char *name) {
    for (const char *at = name; *at; at++)
        if (*at < 0x20 || *at > 0x7e) return false;
    return *name && *name != '/' && !strstr(name, "..");
}

int tar_writer_add(tar_writer *writer, const char *name, const void *data, size_t size, limn_error *error) {
    if (size > ENTRY_MAX)
        return limn_fail(error, "%s: %s has %zu bytes, more than an entry may have", writer->file.path, name, size);
    if (!is_plain_name(name))
        return limn_fail(error, "%s: '%s' cannot be the name of an entry: plain ASCII, without '..', is needed",
                         writer->file.path, name);
    struct archive_entry *entry = archive_entry_clear(writer->entry);
    archive_entry_set_pathname(entry, name);
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_perm(entry, 0644);
    archive_entry_set_mtime(entry, 0, 0);
    archive_entry_set_size(entry, (la_int64_t)size);
    if (archive_write_header(writer->archive, entry) != ARCHIVE_OK) return writer_failed(writer, name, error);
    if (size && archive_write_data(writer->archive, data, size) != (la_ssize_t)size) return writer_failed(writer, name, error);
    if (writer->trouble) return writer_failed(writer, name, error);
    return 0;
}

static void writer_free(tar_writer *writer) {
    writer->trouble = ECANCELED; /* what libarchive still holds goes nowhere */
    if (writer->archive) archive_write_free(writer->archive);
    archive_entry_free(writer->entry);
    limn_atomic_discard(&writer->file);
    free(writer);
}

int tar_writer_commit(tar_writer *writer, limn_error *error) {
    bool closed = archive_write_close(writer->archive) == ARCHIVE_OK && !writer->trouble;
    int failed = closed ? limn_atomic_commit(&writer->file, error) : writer_failed(writer, "its end", error);
    writer_free(writer);
    return failed;
}

void tar_writer_discard(tar_writer *writer) {
    if (writer) writer_free(writer);
}

/* ---------------------------------------------------------------- reading */

struct tar_reader {
    char path[4096];
    struct archive *archive;
    struct archive_entry *entry; /* libarchive's; the header that was read last */
    bool ended;                  /* libarchive must not be asked again */
    bool pending;                /* that header begins the next sample, its data is still to be read */
    limn_buffer image, caption, json;
};

/* A tar that was cut off between two entries looks whole to libarchive: the two zero blocks at the end are what tells. */
static int check_end(const char *path, limn_error *error) {
    struct stat status;
    /* Before it is opened: a named pipe would wait for ever. */
    if (stat(path, &status) == 0 && !S_ISREG(status.st_mode)) return limn_fail(error, "%s: not a file", path);
    FILE *stream = fopen(path, "rbe");
    if (!stream) return limn_fail(error, "%s: %s", path, strerror(errno));
    char end[END_BYTES], zero[END_BYTES] = {0};
    int failed = 0;
    if (fseek(stream, -(long)END_BYTES, SEEK_END) != 0 || fread(end, 1, sizeof end, stream) != sizeof end ||
        memcmp(end, zero, sizeof end) != 0)
        failed = limn_fail(error, "%s: not a tar, or cut short: it has no end mark; make or fetch it again", path);
    fclose(stream);
    return failed;
}

static int reader_failed(const tar_reader *reader, const char *name, limn_error *error) {
    const char *why = archive_error_string(reader->archive);
    return limn_fail(error, "%s: damaged or cut short%s%s: %s; make or fetch it again", reader->path, name ? " at " : "",
                     name ? name : "", why ? why : "no reason given");
}

static tar_reader *open_in_blocks(const char *path, size_t block_bytes, limn_error *error) {
    if (strlen(path) >= sizeof((tar_reader *)0)->path) {
        limn_fail(error, "a path is too long: %.100s…", path);
        return NULL;
    }
    if (check_end(path, error)) return NULL;
    tar_reader *reader = limn_allocate(1, sizeof *reader, error);
    if (!reader) return NULL;
    memcpy(reader->path, path, strlen(path) + 1);
    reader->archive = archive_read_new();
    if (!reader->archive) {
        limn_fail(error, "%s: out of memory", path);
    } else if (archive_read_support_format_tar(reader->archive) != ARCHIVE_OK ||
               archive_read_support_format_empty(reader->archive) != ARCHIVE_OK ||
               archive_read_open_filename(reader->archive, path, block_bytes) != ARCHIVE_OK) {
        reader_failed(reader, NULL, error);
    } else {
        return reader;
    }
    tar_reader_close(reader);
    return NULL;
}

tar_reader *tar_reader_open(const char *path, limn_error *error) {
    return open_in_blocks(path, IO_BYTES, error);
}

void tar_reader_close(tar_reader *reader) {
    if (!reader) return;
    if (reader->archive) archive_read_free(reader->archive);
    limn_buffer_free(&reader->image);
    limn_buffer_free(&reader->caption);
    limn_buffer_free(&reader->json);
    free(reader);
}

uint64_t tar_reader_position(const tar_reader *reader) {
    la_int64_t at = archive_read_header_position(reader->archive);
    return at > 0 ? (uint64_t)at : 0;
}

/* The current entry's name; empty when it has none. Names in UTF-8 do not pass through the locale, which may know ASCII only.
 */
static const char *entry_name(const tar_reader *reader) {
    const char *name = archive_entry_pathname(reader->entry);
    if (!name) name = archive_entry_pathname_utf8(reader->entry);
    return name ? name : "";
}

/* Moves to the next header of any kind. 1 when there is one, 0 at the end, -1 with an error. */
static int any_header(tar_reader *reader, limn_error *error) {
    if (reader->ended) return 0;
    int result = archive_read_next_header(reader->archive, &reader->entry);
    reader->ended = result != ARCHIVE_OK && result != ARCHIVE_WARN;
    if (result == ARCHIVE_EOF) return 0;
    return reader->ended ? reader_failed(reader, NULL, error) : 1;
}

/* A regular file that is not hidden. */
static bool belongs_to_sample(const tar_reader *reader) {
    const char *name = entry_name(reader), *slash = strrchr(name, '/'), *base = slash ? slash + 1 : name;
    return archive_entry_filetype(reader->entry) == AE_IFREG && !archive_entry_hardlink(reader->entry) && *base && *base != '.';
}

/* Moves to the next regular file that belongs to a sample. 1 when there is one, 0 at the end, -1 with an error. */
static int next_header(tar_reader *reader, limn_error *error) {
    for (;;) {
        int more = any_header(reader, error);
        if (more <= 0 || belongs_to_sample(reader)) return more;
    }
}

/* Splits "a/0001.seg.png" into its key "a/0001" and "seg.png"; the second is returned. NULL with an error. */
static const char *split_name(const tar_reader *reader, char key[256], limn_error *error) {
    const char *name = entry_name(reader);
    const char *slash = strrchr(name, '/'), *base = slash ? slash + 1 : name;
    size_t length = (size_t)(base - name) + strcspn(base, ".");
    if (length >= 256) {
        limn_fail(error, "%s: the name %.80s… is longer than 255 bytes", reader->path, name);
        return NULL;
    }
    memcpy(key, name, length);
    key[length] = '\0';
    return name[length] ? name + length + 1 : name + length;
}

/* The ending of a picture's name as we write it; NULL of other entries. */
static const char *picture_ending(const char *extension) {
    static const char *const pictures[] = {"jpg", "jpeg", "png", "webp"};
    for (size_t i = 0; i < sizeof pictures / sizeof *pictures; i++)
        if (strcasecmp(extension, pictures[i]) == 0) return pictures[i];
    return NULL;
}

static limn_buffer *buffer_for(tar_reader *reader, const char *extension) {
    if (picture_ending(extension)) return &reader->image;
    if (strcasecmp(extension, "txt") == 0) return &reader->caption;
    if (strcasecmp(extension, "json") == 0) return &reader->json;
    return NULL;
}

/* Reads the current entry's data into the buffer, which was emptied before. */
static int read_data(tar_reader *reader, limn_buffer *buffer, limn_error *error) {
    const char *name = entry_name(reader);
    la_int64_t size = archive_entry_size(reader->entry);
    if (size < 0 || size > ENTRY_MAX)
        return limn_fail(error, "%s: entry %s claims %lld bytes, more than the 256 MiB allowed", reader->path, name,
                         (long long)size);
    if (limn_buffer_append(buffer, "", 0, error)) return -1;
    char chunk[65536];
    /* Grows with what is really there: a header that lies about the size takes no memory. */
    for (;;) {
        la_ssize_t got = archive_read_data(reader->archive, chunk, sizeof chunk);
        if (got < 0) return reader_failed(reader, name, error);
        if (got == 0) break;
        if ((size_t)got > ENTRY_MAX - buffer->size)
            return limn_fail(error, "%s: entry %s is larger than the 256 MiB allowed", reader->path, name);
        if (limn_buffer_append(buffer, chunk, (size_t)got, error)) return -1;
    }
    if (buffer->size != (size_t)size)
        return limn_fail(error, "%s: entry %s has %zu of its %lld bytes; make or fetch it again", reader->path, name,
                         buffer->size, (long long)size);
    return 0;
}

int tar_reader_next(tar_reader *reader, tar_sample *sample, limn_error *error) {
    memset(sample, 0, sizeof *sample);
    reader->image.size = reader->caption.size = reader->json.size = 0;
    bool have_image = false, have_caption = false, have_json = false, first = true;
    int more = reader->pending ? 1 : next_header(reader, error);
    reader->pending = false;
    for (; more > 0; more = next_header(reader, error)) {
        char key[sizeof sample->key];
        const char *extension = split_name(reader, key, error);
        if (!extension) return -1;
        if (first) memcpy(sample->key, key, sizeof key);
        if (!first && strcmp(sample->key, key) != 0) {
            reader->pending = true;
            break;
        }
        first = false;
        limn_buffer *buffer = buffer_for(reader, extension);
        bool *have = buffer == &reader->image ? &have_image : buffer == &reader->caption ? &have_caption : &have_json;
        if (!buffer || *have) { /* of two pictures of one sample the first counts */
            sample->others++;
            continue;
        }
        *have = true;
        if (buffer == &reader->image) sample->image_ending = picture_ending(extension);
        if (read_data(reader, buffer, error)) return -1;
    }
    if (more < 0) return -1;
    if (have_image) sample->image = (const unsigned char *)reader->image.data;
    if (have_caption) sample->caption = reader->caption.data;
    if (have_json) sample->json = reader->json.data;
    sample->image_size = reader->image.size;
    sample->caption_size = reader->caption.size;
    sample->json_size = reader->json.size;
    return first ? 0 : 1;
}

/* ---------------------------------------------------------------- places of pictures */

/* Room for a picture's place until the next header shows where it ends. */
typedef struct {
    char key[256];
    uint64_t size;
    bool waits;
} awaited;

/* Takes the current entry when it is the first picture of its sample. */
static int await_picture(tar_reader *reader, awaited *picture, limn_error *error) {
    char key[256];
    if (!belongs_to_sample(reader)) return 0;
    const char *extension = split_name(reader, key, error);
    if (!extension) return -1;
    if (buffer_for(reader, extension) != &reader->image || strcmp(key, picture->key) == 0) return 0;
    const la_int64_t size = archive_entry_size(reader->entry);
    if (size < 0 || size > ENTRY_MAX)
        return limn_fail(error, "%s: entry %s claims %lld bytes, more than the 256 MiB allowed", reader->path,
                         entry_name(reader), (long long)size);
    if (archive_entry_sparse_count(reader->entry)) return 0; /* with holes: its bytes are not in one run */
    memcpy(picture->key, key, sizeof key);
    picture->size = (uint64_t)size;
    picture->waits = true;
    return 0;
}

/* libarchive says where headers begin, not where data does: what is padded to whole blocks ends where the next header begins.
 */
int tar_list_pictures(const char *path, tar_picture_found found, void *context, limn_error *error) {
    tar_reader *reader = open_in_blocks(path, LIST_BYTES, error);
    if (!reader) return -1;
    struct stat about;
    awaited picture = {.waits = false};
    int more = 1, status = stat(path, &about) ? limn_fail(error, "%s: %s", path, strerror(errno)) : 0;
    const uint64_t bytes = status == 0 ? (uint64_t)about.st_size : 0;
    while (status == 0 && more > 0) {
        more = any_header(reader, error);
        if (more < 0) status = -1;
        if (status == 0 && picture.waits) {
            const uint64_t end = tar_reader_position(reader), blocks = (picture.size + BLOCK - 1) / BLOCK;
            picture.waits = false;
            /* libarchive steps over what is not there without a word */
            status = end > bytes || blocks * BLOCK > end
                         ? limn_fail(error, "%s: damaged or cut short at %s; make or fetch it again", path, picture.key)
                         : found(context, picture.key, end - blocks * BLOCK, picture.size, error);
        }
        if (status == 0 && more > 0) status = await_picture(reader, &picture, error);
    }
    tar_reader_close(reader);
    return status;
}
