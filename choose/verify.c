/* Every file whole, and what it says of itself true. */
#include "choose/internal.h"

#include <stdlib.h>
#include <sys/stat.h>

enum { FAULTS_LISTED = 1000 };

/* Of one file, until it is its turn to be told. */
typedef struct {
    bool known; /* whole by the record */
    uint64_t samples;
    json_t *faults; /* array of objects */
    char mark[512]; /* name, size and time: the line of the record */
    char kind[200]; /* of a shard: its VQGAN and so on */
} file_report;

typedef struct {
    const choose_verify_options *options;
    choose_walk *walk;
    FILE *out;
    choose_verify_summary *summary;
    char *known; /* the record as it was, "\n" + lines */
    limn_append_file record;
    char first_kind[200];
} verifier;

static void free_report(void *part) {
    file_report *report = part;
    json_decref(report->faults);
    free(report);
}

/* ---------------------------------------------------------------- faults of a file */

static void add_fault(file_report *report, const char *path, const char *key, const char *format, ...) LIMN_PRINTF(4, 5);
static void add_fault(file_report *report, const char *path, const char *key, const char *format, ...) {
    limn_error text;
    char sentence[sizeof text.message];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
    limn_fail(&text, "%s", sentence); /* makes it printable */
    json_t *fault = json_pack("{s:s, s:s}", "file", path, "fault", text.message);
    if (key) {
        limn_fail(&text, "%s", key);
        json_object_set_new(fault, "key", json_string(text.message));
    }
    json_array_append_new(report->faults, fault);
}

static void check_picture(const verifier *self, const choose_sample *sample, file_report *report, const char *path) {
    const tar_sample *entry = sample->entry;
    if (!entry->image || entry->image_size == 0) {
        add_fault(report, path, sample->key, "no picture");
        return;
    }
    if (picture_sniff(entry->image, entry->image_size) == PICTURE_UNKNOWN) {
        add_fault(report, path, sample->key, "neither JPEG nor PNG nor WebP");
        return;
    }
    if (self->options->stored_sha256) {
        char stored[65];
        const char *said = choose_string(sample, "sha256");
        limn_sha256(entry->image, entry->image_size, stored);
        if (said && strcmp(said, stored))
            add_fault(report, path, sample->key, "the picture's SHA-256 is %.8s…, KEY.json says %.8s…", stored, said);
    }
    if (!self->options->decode) return;
    picture decoded;
    const picture_decode_options how = {0};
    limn_error error = {0};
    double width, height;
    if (picture_decode(&decoded, entry->image, entry->image_size, &how, NULL, NULL, &error)) {
        add_fault(report, path, sample->key, "%s", error.message);
        return;
    }
    if (choose_number(sample, "width", &width) && choose_number(sample, "height", &height) &&
        (width != (double)decoded.width || height != (double)decoded.height))
        add_fault(report, path, sample->key, "the picture is %zux%zu, KEY.json says %gx%g", decoded.width, decoded.height,
                  width, height);
    picture_free(&decoded);
}

static void check_sample(const verifier *self, const choose_sample *sample, choose_seen *keys, file_report *report,
                         const char *path) {
    const char *key = choose_string(sample, "key");
    uint64_t identity;
    choose_identity(sample, CHOOSE_BY_KEY, &identity);
    if (choose_seen_add(keys, identity, NULL) == 1) add_fault(report, path, sample->key, "this key comes twice");
    for (size_t i = 0; i < sample->captions; i++)
        if (!limn_utf8_valid(sample->caption[i].data, sample->caption[i].size))
            add_fault(report, path, sample->key, "a caption that is not UTF-8");
    if (!sample->entry) return;
    if (sample->fields_damaged) add_fault(report, path, sample->key, "its .json is no JSON object, or above a mebibyte");
    /* Packers put files into folders: only the part behind them is the key. */
    if (key && strcmp(key, limn_base_name(sample->key))) add_fault(report, path, sample->key, "KEY.json says key %.60s", key);
    check_picture(self, sample, report, path);
}

/* ---------------------------------------------------------------- stats beside a file */

static void check_number(const json_t *stats, const char *key, uint64_t found, file_report *report, const char *path) {
    const json_t *value = json_object_get(stats, key);
    if (json_is_integer(value) && json_integer_value(value) != (json_int_t)found)
        add_fault(report, path, NULL, "its stats.json says %s %lld, there are %llu", key, (long long)json_integer_value(value),
                  (unsigned long long)found);
}

static void check_stats(const char *path, uint64_t bytes, uint64_t captions, file_report *report) {
    char beside[4096];
    limn_error error = {0};
    const bool shard = choose_form_of(path) == CHOOSE_SHARDS;
    if (snprintf(beside, sizeof beside, "%.*s.stats.json", (int)(strrchr(path, '.') - path), path) >= (int)sizeof beside)
        return;
    if (!limn_file_exists(beside)) return;
    json_t *stats = limn_json_load(beside, &error);
    if (!stats) add_fault(report, path, NULL, "%s", error.message);
    check_number(stats, "pairs", report->samples, report, path);
    check_number(stats, shard ? "h5_bytes" : "tar_bytes", bytes, report, path);
    if (shard) check_number(stats, "pictures", report->samples, report, path);
    if (shard) check_number(stats, "captions", captions, report, path);
    json_decref(stats);
}

/* ---------------------------------------------------------------- files */

static bool is_known(const verifier *self, const char *mark) {
    return self->known && strstr(self->known, mark) != NULL;
}

static int verify_file(void *context, size_t job, void **part, limn_error *error) {
    verifier *self = context;
    const char *path = self->options->inputs.items[job];
    struct stat status = {0};
    choose_sample sample = {0};
    file_report *report = limn_allocate(1, sizeof *report, error);
    *part = report;
    if (!report || !(report->faults = json_array())) return -1;
    stat(path, &status);
    snprintf(report->mark, sizeof report->mark, "\n%.300s %lld %lld.%09ld %d%d\n", limn_base_name(path),
             (long long)status.st_size, (long long)status.st_mtim.tv_sec, status.st_mtim.tv_nsec, self->options->decode,
             self->options->stored_sha256);
    if (is_known(self, report->mark)) {
        report->known = true;
        self->walk->seen.bytes += (uint64_t)status.st_size;
        return 0;
    }
    choose_seen *keys = choose_seen_create(0, error);
    if (!keys) return -1;
    limn_error damage = {0};
    uint64_t captions = 0;
    choose_reader *reader = choose_reader_open(path, &self->walk->seen, &damage);
    int got = reader ? 1 : -1;
    while (got == 1 && (got = choose_reader_next(reader, &sample, &damage)) == 1) {
        report->samples++;
        captions += sample.captions;
        check_sample(self, &sample, keys, report, path);
        if (sample.shard && !report->kind[0])
            snprintf(report->kind, sizeof report->kind, "VQGAN %.8s…, %s, %zu pixels, %zu tokens of %zu",
                     sample.shard->vqgan_sha256, sample.shard->precision, sample.shard->image_size, sample.shard->length,
                     sample.shard->codebook_size);
    }
    choose_reader_close(reader);
    choose_seen_free(keys);
    if (got < 0 && damage.exit_code == LIMN_EXIT_INTERRUPTED) {
        if (error) *error = damage;
        return -1;
    }
    if (got < 0)
        add_fault(report, path, NULL, "%s", damage.message);
    else
        check_stats(path, (uint64_t)status.st_size, captions, report);
    return 0;
}

static int tell(void *context, size_t job, void *part, limn_error *error) {
    verifier *self = context;
    file_report *report = part;
    choose_verify_summary *summary = self->summary;
    const char *path = self->options->inputs.items[job];
    size_t index;
    json_t *fault;
    if (report->kind[0] && !self->first_kind[0]) memcpy(self->first_kind, report->kind, sizeof self->first_kind);
    if (report->kind[0] && strcmp(report->kind, self->first_kind))
        add_fault(report, path, NULL, "another kind of shard than those before: %s, not %s", report->kind, self->first_kind);
    const size_t faults = json_array_size(report->faults);
    summary->files++;
    summary->files_known += report->known;
    summary->samples += report->samples;
    summary->faults += faults;
    summary->files_with_faults += faults > 0;
    json_array_foreach(report->faults, index, fault) {
        const char *key = json_string_value(json_object_get(fault, "key"));
        if (self->out)
            fprintf(self->out, "%s\t%s\t%s\n", path, key ? key : "-", json_string_value(json_object_get(fault, "fault")));
        if (json_array_size(summary->faults_json) < FAULTS_LISTED) json_array_append(summary->faults_json, fault);
    }
    if (faults || report->known || !self->options->record) return 0;
    return limn_append(&self->record, report->mark + 1, strlen(report->mark + 1), error);
}

static int open_record(verifier *self, limn_error *error) {
    const char *path = self->options->record;
    size_t size;
    if (!path) return 0;
    if (limn_file_exists(path)) {
        char *text = limn_file_read(path, (size_t)1 << 30, &size, error);
        self->known = text ? limn_allocate(size + 2, 1, error) : NULL;
        if (self->known) {
            self->known[0] = '\n';
            memcpy(self->known + 1, text, size);
        }
        free(text);
        if (!self->known) return -1;
    }
    return limn_append_open(&self->record, path, error);
}

int choose_verify(const choose_verify_options *options, FILE *out, choose_verify_summary *summary, limn_error *error) {
    *summary = (choose_verify_summary){.faults_json = json_array()};
    if (!summary->faults_json) return limn_fail(error, "out of memory for the faults");
    choose_walk walk = {.what = "verifying",
                        .jobs = options->inputs.count,
                        .total_bytes = choose_bytes_of(&options->inputs),
                        .work = verify_file,
                        .merge = tell,
                        .free_part = free_report};
    verifier self = {.options = options, .walk = &walk, .out = out, .summary = summary, .record = {.descriptor = -1}};
    walk.context = &self;
    int status = open_record(&self, error);
    if (status == 0) status = choose_walk_run(&walk, NULL, error);
    if (limn_append_close(&self.record, status ? NULL : error)) status = -1;
    free(self.known);
    return status;
}
