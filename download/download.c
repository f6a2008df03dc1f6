/* The run: rows from the list to the fetcher, pictures from it to the workers, full shards to tars, all within bounds. */
#include "download/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum {
    ROWS_PER_TURN = 256,
    SKIPS_PER_TURN = 20000,
    BAD_ROWS_TOLD = 5,
    MIN_OPEN_SHARDS = 4,
    MAX_OPEN_SHARDS = 64,
    SPARE_FILES = 256
};

typedef struct {
    const download_options *options;
    output_folder folder;
    caption_list *list;
    bool list_ended;
    fetcher *fetcher;
    workers *workers;
    size_t backlog;                  /* rows that may wait for a worker before fetching pauses */
    shard *current;                  /* takes the list's next rows; NULL while they belong to others or are done already */
    uint64_t next_row;               /* of the list */
    shard *open[MAX_OPEN_SHARDS];    /* from creation until finished */
    bool submitted[MAX_OPEN_SHARDS]; /* given to the workers to finish */
    size_t open_count, open_limit;
    uint64_t rows_before;                   /* of the shards that were finished already */
    uint64_t rows, failed, bytes, bad_rows; /* of this run: taken from the list, failed before a worker saw them, received */
} run;

/* ---------------------------------------------------------------- from list to fetcher */

static bool is_ours(const char *name) {
    static const char *const keys[] = {"key",    "url",    "caption",        "status",          "width",
                                       "height", "sha256", "original_width", "original_height", "exif"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (!strcmp(name, keys[i])) return true;
    return false;
}

static download_row *copy_row(const run *self, const caption_row *from, limn_error *error) {
    download_row *row = limn_allocate(1, sizeof *row, error);
    if (!row) return NULL;
    row->shard = self->current;
    row->index = (size_t)(from->number % self->options->shard_size);
    row->file = from->file;
    row->line = from->line;
    if (from->problem) {
        download_row_fail(row, "bad_row", "%s", from->problem);
        return row;
    }
    row->url = strndup(from->url.data, from->url.size);
    row->caption = malloc(from->caption.size + 1);
    bool made = row->url && row->caption;
    if (made) {
        memcpy(row->caption, from->caption.data, from->caption.size);
        row->caption_size = from->caption.size;
    }
    if (made && from->extra_count) made = (row->extras = json_object()) != NULL;
    for (size_t i = 0; made && i < from->extra_count; i++) {
        char name[1024]; /* a column called like a key of ours keeps its values under another name */
        snprintf(name, sizeof name, "%s%s", from->extra_names[i], is_ours(from->extra_names[i]) ? "_in_list" : "");
        json_t *value = json_stringn(from->extra_values[i].data, from->extra_values[i].size);
        json_object_set_new(row->extras, name, value); /* a name cut inside a character is left out */
    }
    if (made) return row;
    download_row_free(row);
    limn_fail(error, "out of memory for a row of the list");
    return NULL;
}

static int give_up_row(run *self, download_row *row, limn_error *error) {
    const int status = shard_add_failed(row->shard, row, error);
    self->failed++;
    download_row_free(row);
    return status;
}

static int send_row(run *self, const caption_row *from, limn_error *error) {
    download_row *row = copy_row(self, from, error);
    if (!row) return -1;
    self->rows++;
    if (from->problem) {
        if (++self->bad_rows <= BAD_ROWS_TOLD)
            limn_log(LIMN_LOG_WARNING, "%s, line %zu: %s%s", from->file, from->line, from->problem,
                     self->bad_rows == BAD_ROWS_TOLD ? "; further bad rows are named in the shards' .failed.tsv only" : "");
        return give_up_row(self, row, error);
    }
    const size_t size = from->url.size;
    if (url_has_scheme(row->url, size, "http") || url_has_scheme(row->url, size, "https"))
        return fetcher_add(self->fetcher, row, error);
    if (!url_has_scheme(row->url, size, "file")) {
        download_row_fail(row, "bad_address", "neither http:// nor https:// nor file://");
        return give_up_row(self, row, error);
    }
    if (!self->options->fetch.allow_private) {
        download_row_fail(row, "private_address", "a file of this machine (--allow-private takes it)");
        return give_up_row(self, row, error);
    }
    workers_add_row(self->workers, row);
    return 0;
}

/* Makes the shard of the list's next row the current one, or none when it is another part's or finished. */
static int begin_shard(run *self, uint64_t number, limn_error *error) {
    self->current = NULL;
    if (number % self->options->parts != self->options->part) return 0;
    if (output_shard_finished(self->options, number, NULL)) return 0;
    self->current = shard_create(self->options, number, error);
    if (!self->current) return -1;
    self->submitted[self->open_count] = false;
    self->open[self->open_count++] = self->current;
    return 0;
}

/* Takes rows while there is room. *busy is set when it stopped only to let others have their turn. */
static int take_rows(run *self, bool *busy, limn_error *error) {
    const size_t shard_size = self->options->shard_size;
    caption_row row;
    uint64_t pairs;
    *busy = false;
    for (uint64_t taken = 0, skipped = 0; !self->list_ended;) {
        const size_t index = (size_t)(self->next_row % shard_size);
        if (index == 0) {
            if (self->open_count == self->open_limit) return 0;
            if (self->current) shard_end(self->current, shard_size);
            self->current = NULL;
        } else if (!self->current) { /* the rest of a shard that is another part's or finished */
            const uint64_t rest = shard_size - index, most = rest < SKIPS_PER_TURN ? rest : SKIPS_PER_TURN;
            uint64_t passed;
            if (caption_list_skip(self->list, most, &passed, error)) return -1;
            self->next_row += passed;
            self->list_ended = passed < most;
            *busy = !self->list_ended && (skipped += passed) >= SKIPS_PER_TURN;
            if (*busy) return 0;
            continue;
        }
        if (fetcher_active(self->fetcher) >= self->options->fetch.concurrency) return 0;
        if (workers_rows(self->workers, &pairs) >= self->backlog) return 0;
        const int got = caption_list_next(self->list, &row, error);
        if (got < 0) return -1;
        if (got == 0) {
            self->list_ended = true;
            if (self->current) shard_end(self->current, index);
            self->current = NULL;
            return 0;
        }
        if (index == 0 && begin_shard(self, self->next_row / shard_size, error)) return -1;
        self->next_row++;
        if (self->current ? send_row(self, &row, error) : 0) return -1;
        if (self->current ? ++taken == ROWS_PER_TURN : ++skipped >= SKIPS_PER_TURN) {
            *busy = true;
            return 0;
        }
    }
    return 0;
}

/* ---------------------------------------------------------------- from fetcher to shards */

static int pass_on(run *self, limn_error *error) {
    for (download_row *row; (row = fetcher_take(self->fetcher));) {
        self->bytes += row->data_size;
        if (!row->reason[0])
            workers_add_row(self->workers, row);
        else if (give_up_row(self, row, error))
            return -1;
    }
    for (size_t i = 0; i < self->open_count; i++) {
        if (self->submitted[i] || !shard_is_full(self->open[i])) continue;
        if (workers_add_finish(self->workers, self->open[i], error)) return -1;
        self->submitted[i] = true;
    }
    if (workers_check(self->workers, error)) return -1;
    for (shard *done; (done = workers_take_finished(self->workers));) {
        for (size_t i = 0; i < self->open_count; i++) {
            if (self->open[i] != done) continue;
            self->open[i] = self->open[--self->open_count];
            self->submitted[i] = self->submitted[self->open_count];
            break;
        }
        limn_log(LIMN_LOG_DEBUG, "shard %05llu is finished", (unsigned long long)shard_number(done));
        shard_destroy(done);
    }
    return 0;
}

static int loop(run *self, limn_progress *progress, limn_error *error) {
    while (!limn_stop_requested()) {
        bool busy;
        uint64_t pairs;
        if (take_rows(self, &busy, error) || pass_on(self, error)) return -1;
        const uint64_t held = fetcher_active(self->fetcher) + workers_rows(self->workers, &pairs);
        const uint64_t done = self->rows - held;
        limn_progress_update(progress, self->rows_before + done, "%llu pairs, %llu failed", (unsigned long long)pairs,
                             (unsigned long long)(done > pairs ? done - pairs : 0));
        if (self->list_ended && self->open_count == 0) return 0;
        if (fetcher_wait(self->fetcher, busy ? 0 : 0.25, error)) return -1;
    }
    return 0;
}

/* ---------------------------------------------------------------- the whole */

static int check_options(const download_options *options, limn_error *error) {
    if (fetch_check(&options->fetch, error) || pair_check(&options->pair, error)) return -1;
    if (options->shard_size < 1 || options->shard_size > 1000000)
        return limn_fail_usage(error, "--shard-size: from 1 to 1000000 rows");
    return part_check(options->part, options->parts, error);
}

/* Each transfer is an open file; the system's soft limit is often 1024. */
static int allow_files(size_t concurrency, limn_error *error) {
    struct rlimit limit;
    const rlim_t needed = concurrency + SPARE_FILES;
    if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur >= needed) return 0;
    if (limit.rlim_max < needed)
        return limn_fail_usage(error,
                               "--concurrency %zu needs %llu open files, the system allows %llu; use fewer or raise ulimit -n",
                               concurrency, (unsigned long long)needed, (unsigned long long)limit.rlim_max);
    limit.rlim_cur = needed;
    if (setrlimit(RLIMIT_NOFILE, &limit)) return limn_fail(error, "cannot raise the limit of open files: %s", strerror(errno));
    return 0;
}

static int set_up(run *self, limn_error *error) {
    const download_options *options = self->options;
    const size_t threads = limn_get_threads();
    const size_t wanted = 8 * options->fetch.concurrency / options->shard_size + 1;
    self->backlog = 4 * threads < 32 ? 32 : 4 * threads;
    self->open_limit = wanted < MIN_OPEN_SHARDS ? MIN_OPEN_SHARDS : wanted > MAX_OPEN_SHARDS ? MAX_OPEN_SHARDS : wanted;
    if (allow_files(options->fetch.concurrency, error)) return -1;
    self->list = caption_list_open(&self->folder.inputs, &options->list, error);
    if (!self->list) return -1;
    self->fetcher = fetcher_create(&options->fetch, error);
    if (!self->fetcher) return -1;
    self->workers = workers_create(options, self->fetcher, threads, error);
    return self->workers ? 0 : -1;
}

/* The workers go first, since they hold rows, shards and the fetcher. */
static void tear_down(run *self) {
    workers_destroy(self->workers);
    fetcher_destroy(self->fetcher);
    for (size_t i = 0; i < self->open_count; i++) shard_destroy(self->open[i]);
    caption_list_close(self->list);
    output_close(&self->folder);
}

int download_run(const download_options *options, download_summary *summary, limn_error *error) {
    run self = {.options = options};
    const double began = limn_seconds();
    memset(summary, 0, sizeof *summary);
    if (check_options(options, error) || output_open(options, &self.folder, error)) return -1;
    int status = output_sum(options, self.folder.rows, summary, error);
    const uint64_t total = self.folder.rows, pairs_before = summary->pairs;
    uint64_t part_rows = 0; /* that fall to this part */
    for (uint64_t first = options->part * options->shard_size; first < total; first += options->parts * options->shard_size)
        part_rows += total - first < options->shard_size ? total - first : options->shard_size;
    self.rows_before = summary->rows;
    if (summary->shards)
        limn_log(LIMN_LOG_INFO, "%s: %llu shards are finished; going on with the others", options->output,
                 (unsigned long long)summary->shards);
    json_decref(summary->reasons);
    memset(summary, 0, sizeof *summary);
    if (!status) status = set_up(&self, error);
    if (!status) {
        limn_progress *progress = limn_progress_start("downloading", "rows", self.rows_before, part_rows);
        status = loop(&self, progress, error);
        limn_progress_finish(progress);
    }
    if (!status) status = output_sum(options, total, summary, error);
    summary->run_rows = self.rows;
    summary->run_pairs = summary->pairs - pairs_before;
    summary->run_bytes = self.bytes;
    summary->run_seconds = limn_seconds() - began;
    tear_down(&self);
    if (status) {
        json_decref(summary->reasons);
        summary->reasons = NULL;
    }
    return status;
}
