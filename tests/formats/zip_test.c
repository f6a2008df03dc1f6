/* Zip files of checkpoints that lie. */
#include "tests/formats/check.h"

/* A pickle of one tensor that is storage "0", four floats. */
static limn_buffer good_pickle(void) {
    limn_buffer pickle = {0};
    PUT(&pickle, "\x80\x02}");
    pickle_text(&pickle, "w");
    pickle_vector(&pickle, "0", 4);
    PUT(&pickle, "s.");
    return pickle;
}

static const float values[4] = {0, 1, 2, 3};

static zip_made pickle_entry(const limn_buffer *pickle) {
    return (zip_made){.name = "a/data.pkl", .data = pickle->data, .size = pickle->size};
}

static const zip_made storage_entry = {.name = "a/data/0", .data = values, .size = sizeof values};

static void refuse_bytes(const char *bytes, size_t size, const char *part) {
    limn_error error = {0};
    const char *path = scratch_write("z.pt", bytes, size);
    assert_refused(pytorch_open(path, &error), &error, path, part);
}

static void refuse_zip(zip_maker *zip, const char *part) {
    refuse_bytes(zip->file.data, zip->file.size, part);
    zip_discard(zip);
}

static void accept_zip(zip_maker *zip) {
    limn_error error = {0};
    tensor_file *file = pytorch_open(scratch_write("z.pt", zip->file.data, zip->file.size), &error);
    if (!file) fail_msg("%s", error.message);
    assert_floats(file, "w", 4, values);
    tensor_file_close(file);
    zip_discard(zip);
}

static void test_good_and_cut(void **state) {
    (void)state;
    limn_buffer pickle = good_pickle();
    for (int zip64 = 0; zip64 < 2; zip64++) {
        zip_maker zip = {0};
        zip_made storage = storage_entry, first = pickle_entry(&pickle);
        storage.zip64 = first.zip64 = zip64;
        zip_add(&zip, first);
        zip_add(&zip, storage);
        if (zip64)
            zip_end64(&zip, 0);
        else
            zip_end(&zip, 0, 0);
        for (size_t cut = 0; cut < zip.file.size; cut++) refuse_bytes(zip.file.data, cut, "");
        /* A comment may follow, of exactly the length that it says. */
        put(&zip.file, "hi", 2);
        refuse_bytes(zip.file.data, zip.file.size, "a zip file without its directory at the end");
        zip.file.data[zip.file.size - 4] = 2;
        accept_zip(&zip);
    }
    limn_buffer_free(&pickle);
}

/* The storage's entry with one lie. */
static void refuse_entry(zip_made storage, const char *part) {
    zip_maker zip = {0};
    limn_buffer pickle = good_pickle();
    zip_add(&zip, pickle_entry(&pickle));
    zip_add(&zip, storage);
    zip_end(&zip, 0, 0);
    refuse_zip(&zip, part);
    limn_buffer_free(&pickle);
}

static void test_entries_that_lie(void **state) {
    (void)state;
    static const struct {
        int64_t size, packed, offset;
        const char *part;
    } lies[] = {{4, 4, 0, "longer than the file"},
                {4, 0, 0, "of two sizes"},
                {-16, 0, 0, "of two sizes"},
                {-4, -4, 0, "but storage 0 has 12 bytes"},
                {0, 0, 1, "calls by another name"},
                {0, 0, -1, "calls by another name"},
                {0, 0, 1000000, "outside of the file"},
                {1 << 30, 1 << 30, 0, "longer than the file"},
                {0, 0, 60, "outside of the file"},
                {0, 0, 47, "outside of the file"}};
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++)
        for (int zip64 = 0; zip64 < 2; zip64++) {
            zip_made storage = storage_entry;
            storage.size_lie = lies[i].size;
            storage.packed_lie = lies[i].packed;
            storage.offset_lie = lies[i].offset;
            storage.zip64 = zip64;
            refuse_entry(storage, lies[i].part);
        }
    zip_made storage = storage_entry;
    storage.zip64 = true;
    storage.size_lie = storage.packed_lie = INT64_MAX;
    refuse_entry(storage, "longer than the file");
    storage.size_lie = storage.packed_lie = 0;
    storage.offset_lie = INT64_MAX;
    refuse_entry(storage, "outside of the file");
    storage = storage_entry;
    storage.local_name = "a/data/1";
    refuse_entry(storage, "calls by another name");
    storage.local_name = "a/data/";
    refuse_entry(storage, "calls by another name");
    storage.local_name = "a/data/00";
    refuse_entry(storage, "calls by another name");
    storage = storage_entry;
    storage.local_method = 8;
    refuse_entry(storage, "two methods of compression");
    storage.method = 8;
    refuse_entry(storage, "the zip entry a/data/0 is compressed, which torch.save never does");
    storage = storage_entry;
    storage.flags = 1;
    refuse_entry(storage, "the zip entry a/data/0 is encrypted");
    storage = storage_entry;
    storage.name = "a/data.pkl"; /* a second one */
    refuse_entry(storage, "a zip file that holds an entry twice");
    storage.name = "b/data.pkl";
    refuse_entry(storage, "a zip file of two checkpoints");
    storage.name = "a/constants.pkl";
    refuse_entry(storage, "a TorchScript program, not a checkpoint");
}

/* An entry whose bytes are another entry, header and all. */
static void test_entries_that_overlap(void **state) {
    (void)state;
    limn_buffer pickle = good_pickle();
    zip_maker zip = {0}, inner = {0};
    zip_add(&inner, storage_entry);
    zip_add(&zip, pickle_entry(&pickle));
    zip_made outer = {.name = "a/data/outer", .data = inner.file.data, .size = inner.file.size};
    zip_add(&zip, outer);
    size_t header = zip.file.size - inner.file.size;
    zip_made storage = storage_entry;
    size_t end = zip.file.size;
    storage.offset_lie = (int64_t)header - (int64_t)end;
    zip_add(&zip, storage);
    zip.file.size = end; /* its own bytes go again: only the directory's record stays */
    zip_end(&zip, 0, 0);
    refuse_zip(&zip, "zip entries that overlap");
    zip_discard(&inner);
    limn_buffer_free(&pickle);
}

static void test_directories_that_lie(void **state) {
    (void)state;
    static const struct {
        int64_t count, offset;
        const char *part;
    } lies[] = {{1, 0, "not where the file says"},    {-1, 0, "shorter than it says"},
                {0, 1, "not where the file says"},    {0, -1, "not where the file says"},
                {1000, 0, "not where the file says"}, {0, 1 << 30, "not where the file says"}};
    limn_buffer pickle = good_pickle();
    zip_maker zip = {0};
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        zip_add(&zip, pickle_entry(&pickle));
        zip_add(&zip, storage_entry);
        zip_end(&zip, lies[i].count, lies[i].offset);
        refuse_zip(&zip, lies[i].part);
    }
    static const int64_t locators[] = {1, -1, 1000000, INT64_MIN, -20000};
    for (size_t i = 0; i < sizeof locators / sizeof *locators; i++) {
        zip_add(&zip, pickle_entry(&pickle));
        zip_add(&zip, storage_entry);
        zip_end64(&zip, locators[i]);
        refuse_zip(&zip, "a zip64 record that is not where the file says");
    }
    /* A name, an extra field and a comment that reach over the end of the directory. */
    for (size_t field = 28; field <= 32; field += 2) {
        zip_add(&zip, pickle_entry(&pickle));
        zip_add(&zip, storage_entry);
        zip.directory.data[zip.directory.size - 46 - strlen(storage_entry.name) + field + 1] = 0x7f;
        zip_end(&zip, 0, 0);
        refuse_zip(&zip, "a zip directory that is longer than it says");
    }
    zip_add(&zip, pickle_entry(&pickle));
    zip_add(&zip, storage_entry);
    zip.directory.data[0] = 'Q';
    zip_end(&zip, 0, 0);
    refuse_zip(&zip, "a zip directory of other records");
    /* The storage's local header: its signature, and an extra field that reaches over the end of the file. */
    for (size_t field = 3; field <= 29; field += 26) {
        zip_add(&zip, pickle_entry(&pickle));
        size_t header = zip.file.size;
        zip_add(&zip, storage_entry);
        zip.file.data[header + field] = 0x7f;
        zip_end(&zip, 0, 0);
        refuse_zip(&zip, "calls by another name");
    }
    /* A zip64 field that is too short for what stands in it. */
    zip_made storage = storage_entry;
    storage.zip64 = true;
    zip_add(&zip, pickle_entry(&pickle));
    zip_add(&zip, storage);
    zip.directory.data[zip.directory.size - 26] = 20;
    zip_end(&zip, 0, 0);
    refuse_zip(&zip, "a zip64 field that is too short");
    /* One part of several. */
    zip_add(&zip, pickle_entry(&pickle));
    zip_add(&zip, storage_entry);
    zip_end(&zip, 0, 0);
    for (size_t field = 16; field <= 18; field += 2) {
        zip.file.data[zip.file.size - field] = 1;
        refuse_bytes(zip.file.data, zip.file.size, "one part of a zip file of several");
        zip.file.data[zip.file.size - field] = 0;
    }
    accept_zip(&zip);
    char name[600];
    memset(name, 'n', sizeof name);
    strcpy(name + 580, "/data.pkl");
    zip_add(&zip, (zip_made){.name = name, .data = pickle.data, .size = pickle.size});
    zip_end(&zip, 0, 0);
    refuse_zip(&zip, "the zip entries' prefix is too long");
    zip_add(&zip, storage_entry);
    zip_end(&zip, 0, 0);
    refuse_zip(&zip, "a zip file without a data.pkl: not a PyTorch checkpoint");
    zip_end(&zip, 0, 0);
    refuse_zip(&zip, "a zip file without a data.pkl");
    limn_buffer_free(&pickle);
}

/* zip64's record: 56 bytes, which its locator (20) and the end record (22) follow. */
static void test_zip64_records_that_lie(void **state) {
    (void)state;
    limn_buffer pickle = good_pickle();
    zip_maker zip = {0};
    zip_add(&zip, pickle_entry(&pickle));
    zip_add(&zip, storage_entry);
    size_t directory = zip.file.size;
    zip_end64(&zip, 0);
    size_t record = zip.file.size - 98;
    for (size_t field = 16; field <= 20; field += 4) {
        zip.file.data[record + field] = 1;
        refuse_bytes(zip.file.data, zip.file.size, "one part of a zip file of several");
        zip.file.data[record + field] = 0;
    }
    /* A directory behind the file, of a negative size: their sum is right. */
    uint64_t offset = record + 1000000, bytes = record - offset;
    memcpy(zip.file.data + record + 40, &bytes, 8);
    memcpy(zip.file.data + record + 48, &offset, 8);
    refuse_bytes(zip.file.data, zip.file.size, "a zip directory that is not where the file says");
    bytes = record - directory;
    offset = directory;
    memcpy(zip.file.data + record + 40, &bytes, 8);
    memcpy(zip.file.data + record + 48, &offset, 8);
    /* A record that would reach over its locator. */
    offset = record + 48;
    memcpy(zip.file.data + record + 48, "PK\6\6", 4);
    memcpy(zip.file.data + record + 56 + 8, &offset, 8);
    refuse_zip(&zip, "a zip64 record that is not where the file says");
    limn_buffer_free(&pickle);
}

static void test_byte_order(void **state) {
    (void)state;
    static const char *const orders[] = {"big", "little ", "", "lottle"};
    limn_buffer pickle = good_pickle();
    for (size_t i = 0; i < sizeof orders / sizeof *orders; i++) {
        zip_maker zip = {0};
        zip_add(&zip, pickle_entry(&pickle));
        zip_add(&zip, (zip_made){.name = "a/byteorder", .data = orders[i], .size = strlen(orders[i])});
        zip_add(&zip, storage_entry);
        zip_end(&zip, 0, 0);
        refuse_zip(&zip, "was not saved on a little-endian machine");
    }
    limn_buffer_free(&pickle);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_and_cut),           cmocka_unit_test(test_entries_that_lie),
        cmocka_unit_test(test_entries_that_overlap),   cmocka_unit_test(test_directories_that_lie),
        cmocka_unit_test(test_zip64_records_that_lie), cmocka_unit_test(test_byte_order),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
