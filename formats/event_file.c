/* TensorBoard's event files. A file is a row of records (TensorFlow's "TFRecord": length, its checksum, bytes, their checksum),
 * each a protocol buffer `Event` of tensorboard/compat/proto/event.proto; the few fields that are written here have their
 * numbers below. */
#include "formats/formats.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static const char PREFIX[] = "events.out.tfevents.";

struct event_file {
    limn_append_file file;
    limn_buffer summary, value, inner, event, record; /* of the event at hand */
};

/* ---------------------------------------------------------------- checksums */

/* CRC-32C (Castagnoli; RFC 3720, appendix B.4), bits mirrored. */
uint32_t event_checksum(const void *data, size_t size) {
    const unsigned char *bytes = data;
    uint32_t crc = 0xFFFFFFFFu;
    for (size_t i = 0; i < size; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0x82F63B78u : 0);
    }
    return ~crc;
}

/* A record that holds records would have checksums of checksums: TFRecord turns them by 15 bits and adds a number. */
static uint32_t masked_checksum(const void *data, size_t size) {
    uint32_t crc = event_checksum(data, size);
    return (crc >> 15 | crc << 17) + 0xA282EAD8u;
}

/* ---------------------------------------------------------------- protocol buffers */

enum { WIRE_VARINT = 0, WIRE_8_BYTES = 1, WIRE_SIZED = 2, WIRE_4_BYTES = 5 };

static int put_little_endian(limn_buffer *out, uint64_t value, size_t bytes, limn_error *error) {
    unsigned char data[8];
    for (size_t i = 0; i < bytes; i++) data[i] = (unsigned char)(value >> 8 * i);
    return limn_buffer_append(out, data, bytes, error);
}

static int put_varint(limn_buffer *out, uint64_t value, limn_error *error) {
    unsigned char data[10];
    size_t size = 0;
    for (; value >= 0x80; value >>= 7) data[size++] = (unsigned char)(value | 0x80);
    data[size++] = (unsigned char)value;
    return limn_buffer_append(out, data, size, error);
}

static int put_key(limn_buffer *out, unsigned field, unsigned wire, limn_error *error) {
    return put_varint(out, field << 3 | wire, error);
}

static int put_number(limn_buffer *out, unsigned field, uint64_t value, limn_error *error) {
    return put_key(out, field, WIRE_VARINT, error) || put_varint(out, value, error) ? -1 : 0;
}

static int put_float(limn_buffer *out, unsigned field, float value, limn_error *error) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return put_key(out, field, WIRE_4_BYTES, error) || put_little_endian(out, bits, 4, error) ? -1 : 0;
}

static int put_double(limn_buffer *out, unsigned field, double value, limn_error *error) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return put_key(out, field, WIRE_8_BYTES, error) || put_little_endian(out, bits, 8, error) ? -1 : 0;
}

/* Text, bytes, or a message inside. */
static int put_sized(limn_buffer *out, unsigned field, const void *data, size_t size, limn_error *error) {
    return put_key(out, field, WIRE_SIZED, error) || put_varint(out, size, error) || limn_buffer_append(out, data, size, error)
               ? -1
               : 0;
}

/* ---------------------------------------------------------------- events */

enum { EVENT_WALL_TIME = 1, EVENT_STEP = 2, EVENT_FILE_VERSION = 3, EVENT_SUMMARY = 5, EVENT_SESSION_LOG = 7 };
enum { SESSION_STATUS = 1, SESSION_START = 1 };
enum { SUMMARY_VALUE = 1 };
enum { VALUE_TAG = 1, VALUE_SIMPLE = 2, VALUE_IMAGE = 4, VALUE_TENSOR = 8, VALUE_METADATA = 9 };
enum { IMAGE_HEIGHT = 1, IMAGE_WIDTH = 2, IMAGE_COLORSPACE = 3, IMAGE_BYTES = 4, RGB = 3 };
enum { TENSOR_DTYPE = 1, TENSOR_STRING_VALUE = 8, DTYPE_STRING = 7 }; /* no shape: one text */
enum { METADATA_PLUGIN = 1, PLUGIN_NAME = 1 };

/* One event whose field `field` is the sized data. */
static int write_event(event_file *self, uint64_t step, unsigned field, const void *data, size_t size, limn_error *error) {
    limn_buffer *event = &self->event, *record = &self->record;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    event->size = record->size = 0;
    if (put_double(event, EVENT_WALL_TIME, (double)now.tv_sec + 1e-9 * (double)now.tv_nsec, error) ||
        put_number(event, EVENT_STEP, step, error) || put_sized(event, field, data, size, error) ||
        put_little_endian(record, event->size, 8, error) ||
        put_little_endian(record, masked_checksum(record->data, 8), 4, error) ||
        limn_buffer_append(record, event->data, event->size, error) ||
        put_little_endian(record, masked_checksum(event->data, event->size), 4, error))
        return -1;
    return limn_append(&self->file, record->data, record->size, error);
}

int event_file_scalar(event_file *self, const char *tag, double value, limn_error *error) {
    self->value.size = 0;
    return put_sized(&self->value, VALUE_TAG, tag, strlen(tag), error) ||
                   put_float(&self->value, VALUE_SIMPLE, (float)value, error) ||
                   put_sized(&self->summary, SUMMARY_VALUE, self->value.data, self->value.size, error)
               ? -1
               : 0;
}

int event_file_image(event_file *self, const char *tag, const void *png, size_t size, size_t width, size_t height,
                     limn_error *error) {
    limn_buffer *value = &self->value, *image = &self->inner;
    value->size = image->size = 0;
    return put_number(image, IMAGE_HEIGHT, height, error) || put_number(image, IMAGE_WIDTH, width, error) ||
                   put_number(image, IMAGE_COLORSPACE, RGB, error) || put_sized(image, IMAGE_BYTES, png, size, error) ||
                   put_sized(value, VALUE_TAG, tag, strlen(tag), error) ||
                   put_sized(value, VALUE_IMAGE, image->data, image->size, error) ||
                   put_sized(&self->summary, SUMMARY_VALUE, value->data, value->size, error)
               ? -1
               : 0;
}

int event_file_text(event_file *self, const char *tag, const char *text, limn_error *error) {
    static const char plugin[] = {METADATA_PLUGIN << 3 | WIRE_SIZED, 6, PLUGIN_NAME << 3 | WIRE_SIZED, 4, 't', 'e', 'x', 't'};
    limn_buffer *value = &self->value, *tensor_value = &self->inner;
    value->size = tensor_value->size = 0;
    return put_number(tensor_value, TENSOR_DTYPE, DTYPE_STRING, error) ||
                   put_sized(tensor_value, TENSOR_STRING_VALUE, text, strlen(text), error) ||
                   put_sized(value, VALUE_TAG, tag, strlen(tag), error) ||
                   put_sized(value, VALUE_TENSOR, tensor_value->data, tensor_value->size, error) ||
                   put_sized(value, VALUE_METADATA, plugin, sizeof plugin, error) ||
                   put_sized(&self->summary, SUMMARY_VALUE, value->data, value->size, error)
               ? -1
               : 0;
}

int event_file_write(event_file *self, uint64_t step, limn_error *error) {
    if (self->summary.size == 0) return 0;
    int status = write_event(self, step, EVENT_SUMMARY, self->summary.data, self->summary.size, error);
    self->summary.size = 0;
    return status;
}

/* ---------------------------------------------------------------- files */

/* The latest time in the names that are there; 0 when there are none. */
static int latest_time(const char *directory, uint64_t *latest, limn_error *error) {
    *latest = 0;
    DIR *folder = opendir(directory);
    if (!folder) return limn_fail(error, "%s: cannot be listed: %s", directory, strerror(errno));
    for (struct dirent *entry; (entry = readdir(folder));) {
        if (strncmp(entry->d_name, PREFIX, sizeof PREFIX - 1) != 0) continue;
        uint64_t found = strtoull(entry->d_name + sizeof PREFIX - 1, NULL, 10);
        if (found > *latest && found < 9999999999u) *latest = found;
    }
    closedir(folder);
    return 0;
}

/* Readers take the files of a folder in the order of their names. */
static int choose_path(char path[4096], const char *directory, limn_error *error) {
    uint64_t latest, now = (uint64_t)time(NULL);
    char host[256] = "", name[512];
    if (latest_time(directory, &latest, error)) return -1;
    if (gethostname(host, sizeof host - 1)) snprintf(host, sizeof host, "host");
    snprintf(name, sizeof name, "%s%010llu.%s.%ld.0", PREFIX, (unsigned long long)(now > latest ? now : latest + 1), host,
             (long)getpid());
    return limn_path_join(path, 4096, directory, name, error);
}

event_file *event_file_create(const char *directory, uint64_t first_step, limn_error *error) {
    static const char version[] = "brain.Event:2", session[] = {SESSION_STATUS << 3 | WIRE_VARINT, SESSION_START};
    char path[4096];
    event_file *self = limn_allocate(1, sizeof *self, error);
    if (!self) return NULL;
    self->file.descriptor = -1;
    if (choose_path(path, directory, error) == 0 && limn_append_open(&self->file, path, error) == 0 &&
        write_event(self, 0, EVENT_FILE_VERSION, version, sizeof version - 1, error) == 0 &&
        write_event(self, first_step, EVENT_SESSION_LOG, session, sizeof session, error) == 0)
        return self;
    (void)event_file_close(self, NULL);
    return NULL;
}

int event_file_close(event_file *self, limn_error *error) {
    if (!self) return 0;
    int status = limn_append_close(&self->file, error);
    limn_buffer *buffers[] = {&self->summary, &self->value, &self->inner, &self->event, &self->record};
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++) limn_buffer_free(buffers[i]);
    free(self);
    return status;
}
