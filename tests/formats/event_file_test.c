/* TensorBoard's event files, taken apart record by record. tests/peers/read_events.py reads the same file with TensorBoard. */
#include "formats/internal.h"
#include "tests/scratch.h"

#include <math.h>

static void test_checksums(void **state) {
    (void)state;
    /* RFC 3720, appendix B.4, and the check value of CRC-32C. */
    unsigned char bytes[32] = {0};
    assert_int_equal(event_checksum(bytes, sizeof bytes), 0x8A9136AA);
    memset(bytes, 0xFF, sizeof bytes);
    assert_int_equal(event_checksum(bytes, sizeof bytes), 0x62A8AB43);
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (unsigned char)i;
    assert_int_equal(event_checksum(bytes, sizeof bytes), 0x46DD794E);
    assert_int_equal(event_checksum("123456789", 9), 0xE3069283);
    assert_int_equal(event_checksum("", 0), 0);
}

/* ---------------------------------------------------------------- reading */

typedef struct {
    const unsigned char *at, *end;
} bytes;

static uint64_t take_number(bytes *in, size_t size) {
    assert_true((size_t)(in->end - in->at) >= size);
    uint64_t value = 0;
    for (size_t i = 0; i < size; i++) value |= (uint64_t)*in->at++ << 8 * i;
    return value;
}

static uint64_t take_varint(bytes *in) {
    uint64_t value = 0;
    for (unsigned shift = 0;; shift += 7) {
        assert_true(in->at < in->end && shift < 64);
        value |= (uint64_t)(*in->at & 0x7F) << shift;
        if (!(*in->at++ & 0x80)) return value;
    }
}

/* The next field of a message; its number is the result, 0 at the end. */
static unsigned take_field(bytes *in, uint64_t *number, bytes *inside) {
    if (in->at == in->end) return 0;
    uint64_t key = take_varint(in);
    switch (key & 7) {
    case 0:
        *number = take_varint(in);
        break;
    case 1:
        *number = take_number(in, 8);
        break;
    case 5:
        *number = take_number(in, 4);
        break;
    case 2:
        *number = take_varint(in);
        assert_true((size_t)(in->end - in->at) >= *number);
        *inside = (bytes){in->at, in->at + *number};
        in->at = inside->end;
        break;
    default:
        fail_msg("wire type %d", (int)(key & 7));
    }
    return (unsigned)(key >> 3);
}

static bytes need_field(bytes in, unsigned wanted, uint64_t *number) {
    bytes inside = {NULL, NULL};
    for (unsigned field; (field = take_field(&in, number, &inside));)
        if (field == wanted) return inside;
    fail_msg("field %u is missing", wanted);
    return in;
}

static uint32_t unmask(uint64_t masked) {
    uint32_t turned = (uint32_t)masked - 0xA282EAD8u;
    return turned << 15 | turned >> 17;
}

static bytes take_record(bytes *in) {
    const unsigned char *head = in->at;
    uint64_t size = take_number(in, 8);
    assert_int_equal(unmask(take_number(in, 4)), event_checksum(head, 8));
    assert_true(size <= (uint64_t)(in->end - in->at));
    bytes record = {in->at, in->at + size};
    in->at += size;
    assert_int_equal(unmask(take_number(in, 4)), event_checksum(record.at, size));
    return record;
}

static void assert_text(bytes text, const char *expected) {
    assert_int_equal(text.end - text.at, strlen(expected));
    assert_memory_equal(text.at, expected, strlen(expected));
}

static void assert_step(bytes record, uint64_t expected) {
    uint64_t step;
    need_field(record, 2, &step);
    assert_int_equal(step, expected);
}

/* The head of every file: version, and the session's first step. */
static void assert_head(bytes *in, uint64_t first_step) {
    uint64_t number;
    assert_text(need_field(take_record(in), 3, &number), "brain.Event:2");
    bytes session = take_record(in);
    assert_step(session, first_step);
    need_field(need_field(session, 7, &number), 1, &number);
    assert_int_equal(number, 1);
}

/* The path of the last of a folder's event files, which are to be `count`. */
static const char *event_path(const char *directory, size_t count) {
    static char path[4096];
    char text[1024];
    const char *item = text;
    limn_strings pattern = {1, &item}, found = {0};
    snprintf(text, sizeof text, "%s/events.out.tfevents.*", directory);
    assert_int_equal(limn_expand_paths(&pattern, &found, NULL), 0);
    assert_int_equal(found.count, count);
    snprintf(path, sizeof path, "%s", found.items[count - 1]);
    limn_strings_free(&found);
    return path;
}

static char *read_events(const char *path, bytes *out) {
    size_t size;
    char *data = limn_file_read(path, 1 << 20, &size, NULL);
    assert_non_null(data);
    *out = (bytes){(unsigned char *)data, (unsigned char *)data + size};
    return data;
}

static void test_values_come_back(void **state) {
    (void)state;
    const char *directory = scratch_path("values");
    static const unsigned char png[] = {0x89, 'P', 'N', 'G', 0, 255};
    assert_int_equal(limn_make_directories(directory, NULL), 0);
    event_file *events = event_file_create(directory, 1, NULL);
    assert_non_null(events);
    assert_int_equal(event_file_write(events, 5, NULL), 0); /* nothing was gathered: no event */
    assert_int_equal(event_file_scalar(events, "loss/train", 9.25, NULL), 0);
    assert_int_equal(event_file_scalar(events, "loss/valid", NAN, NULL), 0);
    assert_int_equal(event_file_write(events, 300, NULL), 0);
    assert_int_equal(event_file_image(events, "drawings", png, sizeof png, 200, 100, NULL), 0);
    assert_int_equal(event_file_text(events, "config", "# now", NULL), 0);
    assert_int_equal(event_file_write(events, UINT64_C(5000000000), NULL), 0);
    assert_int_equal(event_file_close(events, NULL), 0);
    assert_int_equal(event_file_close(NULL, NULL), 0);

    bytes in, inside;
    uint64_t number;
    char *data = read_events(event_path(directory, 1), &in);
    assert_head(&in, 1);
    bytes record = take_record(&in), summary = need_field(record, 5, &number);
    assert_step(record, 300);
    need_field(record, 1, &number);
    double wall_time;
    memcpy(&wall_time, &number, sizeof wall_time);
    assert_true(wall_time > 1.6e9);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(take_field(&summary, &number, &inside), 1);
        assert_text(need_field(inside, 1, &number), i ? "loss/valid" : "loss/train");
        need_field(inside, 2, &number);
        uint32_t bits = (uint32_t)number;
        float value;
        memcpy(&value, &bits, sizeof value);
        assert_true(i ? isnan(value) : value >= 9.25f && value <= 9.25f);
    }
    assert_int_equal(take_field(&summary, &number, &inside), 0);

    record = take_record(&in);
    assert_step(record, UINT64_C(5000000000));
    summary = need_field(record, 5, &number);
    assert_int_equal(take_field(&summary, &number, &inside), 1);
    assert_text(need_field(inside, 1, &number), "drawings");
    bytes image = need_field(inside, 4, &number);
    need_field(image, 1, &number);
    assert_int_equal(number, 100);
    need_field(image, 2, &number);
    assert_int_equal(number, 200);
    need_field(image, 3, &number);
    assert_int_equal(number, 3);
    bytes picture = need_field(image, 4, &number);
    assert_int_equal(picture.end - picture.at, sizeof png);
    assert_memory_equal(picture.at, png, sizeof png);
    assert_int_equal(take_field(&summary, &number, &inside), 1);
    assert_text(need_field(need_field(inside, 8, &number), 8, &number), "# now");
    assert_text(need_field(need_field(need_field(inside, 9, &number), 1, &number), 1, &number), "text");
    assert_true(in.at == in.end);
    free(data);
}

static void test_later_files_sort_later(void **state) {
    (void)state;
    const char *directory = scratch_path("names");
    assert_int_equal(limn_make_directories(directory, NULL), 0);
    scratch_write("names/events.out.tfevents.5000000000.host.1.0", "half a rec", 10);
    for (size_t count = 2; count < 5; count++) {
        event_file *events = event_file_create(directory, 10 * count, NULL);
        assert_non_null(events);
        assert_int_equal(event_file_close(events, NULL), 0);
        bytes in;
        char *data = read_events(event_path(directory, count), &in); /* the last by name is this one */
        assert_head(&in, 10 * count);
        free(data);
    }
    limn_error error = {0};
    assert_null(event_file_create(scratch_path("nowhere"), 1, &error));
    assert_contains(error.message, "nowhere");
}

static void test_a_full_disk_delays(void **state) {
    (void)state;
    const char *directory = scratch_path("full");
    assert_int_equal(limn_make_directories(directory, NULL), 0);
    limn_set_log_level(LIMN_LOG_QUIET);
    event_file *events = event_file_create(directory, 1, NULL);
    assert_non_null(events);
    scratch_limit_files(120);
    for (uint64_t step = 1; step <= 3; step++) {
        assert_int_equal(event_file_scalar(events, "loss", 1, NULL), 0);
        assert_int_equal(event_file_write(events, step, NULL), 0);
    }
    scratch_limit_files(RLIM_INFINITY);
    assert_int_equal(event_file_close(events, NULL), 0);
    limn_set_log_level(LIMN_LOG_INFO);
    bytes in;
    char *data = read_events(event_path(directory, 1), &in);
    assert_head(&in, 1);
    for (uint64_t step = 1; step <= 3; step++) assert_step(take_record(&in), step);
    assert_true(in.at == in.end);
    free(data);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_checksums),
        cmocka_unit_test(test_values_come_back),
        cmocka_unit_test(test_later_files_sort_later),
        cmocka_unit_test(test_a_full_disk_delays),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
