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
    shard *open[MAX_OPEN_SHARDS];    /* from creation until finished, by number */
    bool submitted[MAX_OPEN_SHARDS]; /* given to the workers to finish */
    size_t open_count, open_limit;
    uint64_t rows_before; /* that this run has not to do: of the shards that were finished already, or that others finished */
    uint64_t rows, failed, bytes, bad_rows; /* of this run: taken from the list, failed before a worker saw them, received */
    uint64_t pairs;                         /* made in this run, of the shards it finished */

    hash_index *looks; /* of the pairs of all shards before the first open one; NULL without --dedup */

    /* Of a run with others. */
    bool *settled;    /* (shards): finished, as far as this process needs to know */
    uint64_t *others; /* shards that were other processes' when this one came to them */
    size_t others_count, others_capacity;
    uint64_t claimed; /* the shard of `claim` */
    int claim;        /* taken over before the list is read again; -1: none */
} run;

/* ---------------------------------------------------------------- from list to fetcher */

static bool is_ours(const char *name) {
    static const char *const keys[] = {
        "key", "url", "caption", "status", "width", "height", "sha256", "original_width", "original_height", "exif", "phash"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (!strcmp(name, keys[i])) return true;
    return false;
}

static download_row *copy_row(const run *self, const caption_row *from, limn_error *error) {
    download_row *row = limn_allocate(1, sizeof *row, error);
    if (!row) return NULL;
    row->shard = self->current;
    row->number = from->number;
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
        if (from->caption.size) memcpy(row->caption, from->caption.data, from->caption.size);
        row->caption_size = from->caption.size;
    }
    if (made && from->hash.data) made = (row->hash = strndup(from->hash.data, from->hash.size)) != NULL;
    if (made && from->boxes.data) made = (row->boxes = strndup(from->boxes.data, from->boxes.size)) != NULL;
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
    if (pair_check_row(row)) return give_up_row(self, row, error);
    const size_t size = from->url.size;
    if (url_has_scheme(row->url, size, "http") || url_has_scheme(row->url, size, "https")) {
        fetcher_add(self->fetcher, row);
        return 0;
    }
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

/* What is to be done for a shard that this process may make. */
typedef enum { NOTHING_TO_DO, MAKE_IT, MAKE_IT_AGAIN } shard_work;

/* *stats is the finished shard's when it is to be made again. */
static shard_work work_of(const run *self, uint64_t number, int claim, json_t **stats) {
    if (!output_shard_finished(self->options, number, stats)) return MAKE_IT;
    if (self->options->retry_failed && summary_retryable(json_object_get(*stats, "reasons")) &&
        !(claim >= 0 && claim_noted_since(claim, &self->folder.began)))
        return MAKE_IT_AGAIN;
    json_decref(*stats);
    return NOTHING_TO_DO;
}

/* 1: claimed and settled; 0: another process has it. */
static int take_claim(run *self, uint64_t number, int *claim, limn_error *error) {
    if (self->claim >= 0 && self->claimed == number) {
        *claim = self->claim;
        self->claim = -1;
        return 1;
    }
    const int got = claim_take(self->options->coordinate, number, claim, error);
    if (got != 1 || !commit_settle(self->options, number, error)) return got;
    claim_release(*claim);
    return -1;
}

static int remember_other(run *self, uint64_t number, limn_error *error) {
    if (self->others_count == self->others_capacity) {
        const size_t capacity = self->others_capacity ? 2 * self->others_capacity : 64;
        uint64_t *grown = realloc(self->others, capacity * sizeof *grown);
        if (!grown) return limn_fail(error, "out of memory for a list of shards");
        self->others = grown;
        self->others_capacity = capacity;
    }
    self->others[self->others_count++] = number;
    return 0;
}

/* Nothing is left to do for a claimed shard. */
static void leave_shard(run *self, uint64_t number, int claim) {
    claim_release(claim);
    if (!self->settled) return;
    self->settled[number] = true;
    self->rows_before += output_shard_rows(self->options, self->folder.rows, number);
}

static int load_looks(run *self, uint64_t number, limn_error *error) {
    char path[4096];
    return shard_path(self->options->output, number, "phash", path, error) || dedup_load(self->looks, path, error) ? -1 : 0;
}

/* A finished shard's looks come after those of the open ones before it. */
static bool must_wait(const run *self, uint64_t number) {
    return self->looks && self->open_count && number % self->options->parts == self->options->part &&
           output_shard_finished(self->options, number, NULL);
}

/* Makes the shard of the list's next row the current one, or none when it is another's or finished. */
static int begin_shard(run *self, uint64_t number, limn_error *error) {
    json_t *stats = NULL;
    int claim = -1;
    self->current = NULL;
    if (number % self->options->parts != self->options->part || (self->settled && self->settled[number])) return 0;
    if (self->options->coordinate) {
        const int got = take_claim(self, number, &claim, error);
        if (got != 1) return got ? -1 : remember_other(self, number, error);
    }
    switch (work_of(self, number, claim, &stats)) {
    case NOTHING_TO_DO:
        leave_shard(self, number, claim);
        return self->looks ? load_looks(self, number, error) : 0;
    case MAKE_IT:
        self->current = shard_create(self->options, number, claim, error);
        break;
    case MAKE_IT_AGAIN:
        if (self->settled)
            self->rows_before += output_shard_rows(self->options, self->folder.rows, number) -
                                 summary_retryable(json_object_get(stats, "reasons"));
        self->current = shard_create_again(self->options, number, claim, stats, error);
        break;
    }
    if (!self->current) return -1;
    if (self->looks) shard_compare(self->current, self->looks);
    if (self->settled) self->settled[number] = true; /* when this run ends well */
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
            if (must_wait(self, self->next_row / shard_size)) return 0;
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
        if (!fetcher_room(self->fetcher)) return 0;
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
        const bool wanted = self->current && shard_wants(self->current, index);
        if (wanted && send_row(self, &row, error)) return -1;
        if (wanted ? ++taken == ROWS_PER_TURN : ++skipped >= SKIPS_PER_TURN) {
            *busy = true;
            return 0;
        }
    }
    return 0;
}

/* ---------------------------------------------------------------- from fetcher to shards */

/* A finished shard. The others keep their order. */
static void close_shard(run *self, shard *done) {
    size_t at = 0, rows, pairs;
    while (self->open[at] != done) at++;
    self->open_count--;
    memmove(self->open + at, self->open + at + 1, (self->open_count - at) * sizeof *self->open);
    memmove(self->submitted + at, self->submitted + at + 1, (self->open_count - at) * sizeof *self->submitted);
    shard_count(done, &rows, &pairs);
    self->pairs += pairs;
    limn_log(LIMN_LOG_DEBUG, "shard %05llu is finished", (unsigned long long)shard_number(done));
    shard_destroy(done);
}

static int pass_on(run *self, limn_error *error) {
    uint64_t pairs;
    for (download_row *row; workers_rows(self->workers, &pairs) < self->backlog && (row = fetcher_take(self->fetcher));) {
        self->bytes += row->data_size;
        if (!row->reason[0])
            workers_add_row(self->workers, row);
        else if (give_up_row(self, row, error))
            return -1;
    }
    /* By number: where duplicates are left out, only the first may be finished. */
    for (size_t i = 0; i < (self->looks && self->open_count ? 1 : self->open_count); i++) {
        if (self->submitted[i] || !shard_is_full(self->open[i])) continue;
        if (workers_add_finish(self->workers, self->open[i], error)) return -1;
        self->submitted[i] = true;
    }
    if (workers_check(self->workers, error)) return -1;
    for (shard *done; (done = workers_take_finished(self->workers));) close_shard(self, done);
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

/* ---------------------------------------------------------------- with other processes */

/* Waits for the shards that others hold. 1: one is to be made by this process, whose owner died or gave it up; 0: all are
 * finished, or a stop is requested. */
static int wait_for_others(run *self, limn_progress *progress, limn_error *error) {
    const struct timespec moment = {.tv_nsec = 500 * 1000 * 1000};
    while (self->others_count && !limn_stop_requested()) {
        for (size_t i = 0; i < self->others_count;) {
            const uint64_t number = self->others[i];
            json_t *stats = NULL;
            int claim;
            const int got = take_claim(self, number, &claim, error);
            if (got < 0) return -1;
            if (got == 0) {
                i++;
                continue;
            }
            const shard_work work = work_of(self, number, claim, &stats);
            if (work != NOTHING_TO_DO) {
                if (work == MAKE_IT_AGAIN) json_decref(stats);
                self->claim = claim;
                self->claimed = number;
                return 1;
            }
            leave_shard(self, number, claim);
            self->others[i] = self->others[--self->others_count];
        }
        limn_progress_update(progress, self->rows_before + self->rows, "waiting for %zu shards of other processes",
                             self->others_count);
        if (self->others_count) nanosleep(&moment, NULL);
    }
    return 0;
}

static int open_list(run *self, limn_error *error) {
    caption_list_close(self->list);
    self->list = caption_list_open(&self->folder.inputs, &self->options->list, error);
    self->list_ended = false;
    self->next_row = 0;
    return self->list ? 0 : -1;
}

static int loop_all(run *self, limn_progress *progress, limn_error *error) {
    for (;;) {
        if (loop(self, progress, error)) return -1;
        if (!self->others_count || limn_stop_requested()) return 0;
        const int taken_over = wait_for_others(self, progress, error);
        if (taken_over <= 0) return taken_over;
        self->others_count = 0;
        if (open_list(self, error)) return -1;
    }
}

/* ---------------------------------------------------------------- the whole */

static int check_options(const download_options *options, limn_error *error) {
    if (fetch_check(&options->fetch, error) || pair_check(&options->pair, error)) return -1;
    if (options->shard_size < 1 || options->shard_size > 1000000)
        return limn_fail_usage(error, "--shard-size: from 1 to 1000000 rows");
    if (options->coordinate && options->parts > 1)
        return limn_fail_usage(error, "--coordinate and --part are two ways to share the work; give one of them");
    if (options->coordinate && options->restart)
        return limn_fail_usage(error, "--restart is for one process alone; run it without --coordinate first");
    if (options->encoder && options->pair.resize != RESIZE_CENTER_CROP && options->pair.resize != RESIZE_BORDER)
        return limn_fail_usage(error, "--encode takes pictures of the VQGAN's size: --resize center-crop or border");
    if (options->encoder && options->pair.only_if_bigger)
        return limn_fail_usage(error, "--encode takes pictures of the VQGAN's size: without --only-if-bigger");
    if (options->list.boxes_column && options->pair.image && !strcmp(options->pair.image, "original"))
        return limn_fail_usage(error, "--boxes-column blurs pictures, --output-image original keeps them; give one of them");
    if (options->retry_failed && options->restart)
        return limn_fail_usage(error, "--retry-failed goes on with what --restart removes; give one of them");
    if (options->pair.dedup && (options->coordinate || options->retry_failed))
        return limn_fail_usage(error,
                               "--dedup keeps the first of the list in its order: without --coordinate and --retry-failed");
    return part_check(options->part, options->parts, error);
}

/* Each transfer is an open file; the system's soft limit is often 1024. */
static int allow_files(const fetch_options *options, limn_error *error) {
    struct rlimit limit;
    const size_t concurrency = options->concurrency;
    const rlim_t needed = fetch_files(options) + SPARE_FILES;
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
    if (options->encoder && self->backlog < 3 * token_encoder_batch(options->encoder))
        self->backlog = 3 * token_encoder_batch(options->encoder);
    self->open_limit = wanted < MIN_OPEN_SHARDS ? MIN_OPEN_SHARDS : wanted > MAX_OPEN_SHARDS ? MAX_OPEN_SHARDS : wanted;
    if (allow_files(&options->fetch, error)) return -1;
    if (open_list(self, error)) return -1;
    if (options->coordinate) {
        self->rows_before = 0; /* counted as they are come across */
        self->settled = limn_allocate(self->folder.rows / options->shard_size + 1, sizeof *self->settled, error);
        if (!self->settled) return -1;
    }
    if (options->pair.dedup && !(self->looks = dedup_create(options->pair.dedup_distance, error))) return -1;
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
    claim_release(self->claim);
    hash_index_destroy(self->looks);
    free(self->settled);
    free(self->others);
    caption_list_close(self->list);
    output_close(&self->folder);
}

int download_run(const download_options *options, download_summary *summary, limn_error *error) {
    run self = {.options = options, .claim = -1};
    const double began = limn_seconds();
    memset(summary, 0, sizeof *summary);
    if (check_options(options, error) || output_open(options, &self.folder, error)) return -1;
    int status = summary_add_up(options, self.folder.rows, summary, error);
    uint64_t part_rows = 0; /* that fall to this part */
    for (uint64_t number = options->part, rows; (rows = output_shard_rows(options, self.folder.rows, number));
         number += options->parts)
        part_rows += rows;
    const uint64_t again = options->retry_failed ? summary_retryable(summary->reasons) : 0;
    self.rows_before = summary->rows - again;
    if (summary->shards && options->retry_failed)
        limn_log(LIMN_LOG_INFO, "%s: %llu shards are finished; trying again %llu of their %llu failed rows", options->output,
                 (unsigned long long)summary->shards, (unsigned long long)again, (unsigned long long)summary->failed);
    else if (summary->shards)
        limn_log(LIMN_LOG_INFO, "%s: %llu shards are finished; going on with the others", options->output,
                 (unsigned long long)summary->shards);
    download_summary_free(summary);
    if (!status) status = set_up(&self, error);
    if (!status) {
        limn_progress *progress = limn_progress_start("downloading", "rows", self.rows_before, part_rows);
        status = loop_all(&self, progress, error);
        limn_progress_finish(progress);
    }
    if (!status) status = summary_add_up(options, self.folder.rows, summary, error);
    summary->run_rows = self.rows;
    summary->run_pairs = self.pairs;
    summary->run_bytes = self.bytes;
    summary->run_seconds = limn_seconds() - began;
    tear_down(&self);
    if (status) download_summary_free(summary);
    return status;
}
