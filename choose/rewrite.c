/* Samples judged and written anew.
 *
 * Where files stay as they are cut and no duplicates are sought, one walk over the inputs judges and writes. Else a first walk
 * judges every sample (a byte each is remembered) and, in the files' order, finds duplicates; then what goes into each file of
 * the output is known, and a second walk writes them, each by itself. Either way a file's bytes depend on the inputs and the
 * plan alone, so a stopped run goes on with the files that are not there. */
#include "choose/internal.h"

#include <stdlib.h>

enum { NAME_BYTES = 512 };

typedef struct {
    unsigned char *marks; /* (count): side, or CHOOSE_LEFT_OUT + rule, of each sample */
    size_t count, capacity;
    uint64_t *identities; /* (count), while duplicates are sought */
    bool *identified;
    size_t sides[2]; /* samples of each */
} file_marks;

typedef struct {
    const choose_plan *plan;
    choose_form form;
    choose_walk *walk;
    char folders[2][4096];
    file_marks *files; /* (inputs) of the first walk; NULL: there was none */
    choose_seen *seen;
    size_t packed[2]; /* files of the output on each side, when packed */
    uint64_t left_out[CHOOSE_RULES_MAX];
    choose_summary *summary;
} rewriter;

/* ---------------------------------------------------------------- the first walk */

static void free_marks(void *part) {
    file_marks *marks = part;
    free(marks->marks);
    free(marks->identities);
    free(marks->identified);
    free(marks);
}

static int reserve(const rewriter *self, file_marks *marks, limn_error *error) {
    if (marks->count < marks->capacity) return 0;
    const size_t capacity = marks->capacity ? marks->capacity * 2 : 1 << 10;
    unsigned char *grown = realloc(marks->marks, capacity);
    if (grown) marks->marks = grown;
    bool ok = grown != NULL;
    if (ok && self->plan->dedup) {
        uint64_t *identities = realloc(marks->identities, capacity * sizeof *identities);
        if (identities) marks->identities = identities;
        bool *identified = realloc(marks->identified, capacity * sizeof *identified);
        if (identified) marks->identified = identified;
        ok = identities && identified;
    }
    if (!ok) return limn_fail(error, "out of memory for the choice of samples");
    marks->capacity = capacity;
    return 0;
}

static int mark_sample(const rewriter *self, void *room, const choose_sample *sample, file_marks *marks, limn_error *error) {
    const choose_plan *plan = self->plan;
    if (reserve(self, marks, error)) return -1;
    const int verdict = plan->judge ? plan->judge(plan->context, room, sample, error) : 0;
    if (verdict < 0) return -1;
    if (plan->dedup) {
        marks->identities[marks->count] = 0;
        marks->identified[marks->count] =
            verdict < CHOOSE_LEFT_OUT && choose_identity(sample, plan->by, &marks->identities[marks->count]);
    }
    marks->marks[marks->count++] = (unsigned char)verdict;
    return 0;
}

static int open_room(const choose_plan *plan, void **room, limn_error *error) {
    *room = NULL;
    return !plan->make_room || (*room = plan->make_room(plan->context, error)) ? 0 : -1;
}

static void close_room(const choose_plan *plan, void *room) {
    if (room) plan->free_room(room);
}

/* A file that cannot be read is damage (1), unless the run was stopped (-1). */
static int reading_failed(const limn_error *error) {
    return error->exit_code == LIMN_EXIT_INTERRUPTED ? -1 : 1;
}

static int mark_file(void *context, size_t job, void **part, limn_error *error) {
    rewriter *self = context;
    void *room;
    choose_sample sample;
    file_marks *marks = limn_allocate(1, sizeof *marks, error);
    *part = marks;
    if (!marks || open_room(self->plan, &room, error)) return -1;
    choose_reader *reader = choose_reader_open(self->plan->write->inputs.items[job], &self->walk->seen, error);
    int got = reader ? 1 : -1, status = 0;
    while (status == 0 && got == 1)
        if ((got = choose_reader_next(reader, &sample, error)) == 1) status = mark_sample(self, room, &sample, marks, error);
    choose_reader_close(reader);
    close_room(self->plan, room);
    return status == 0 && got < 0 ? reading_failed(error) : status;
}

static int take_marks(void *context, size_t job, void *part, limn_error *error) {
    rewriter *self = context;
    file_marks *marks = part, *kept = &self->files[job];
    for (size_t i = 0; i < marks->count; i++) {
        if (self->plan->dedup && marks->identified[i]) {
            const int known = choose_seen_add(self->seen, marks->identities[i], error);
            if (known < 0) return -1;
            if (known) marks->marks[i] = (unsigned char)(CHOOSE_LEFT_OUT + self->plan->rules - 1);
        }
        if (marks->marks[i] < CHOOSE_LEFT_OUT)
            marks->sides[marks->marks[i]]++;
        else
            self->left_out[marks->marks[i] - CHOOSE_LEFT_OUT]++;
    }
    self->summary->samples += marks->count;
    *kept = *marks;
    kept->identities = NULL;
    kept->identified = NULL;
    marks->marks = NULL; /* now the rewriter's */
    unsigned char *fitting = realloc(kept->marks, kept->count ? kept->count : 1);
    if (fitting) kept->marks = fitting;
    return 0;
}

/* What a damaged file will hold once it is made again decides the files after it: nothing is written then. */
static int mark_all(rewriter *self, limn_error *error) {
    const choose_plan *plan = self->plan;
    choose_walk walk = {.what = "choosing",
                        .jobs = plan->write->inputs.count,
                        .total_bytes = choose_bytes_of(&plan->write->inputs),
                        .context = self,
                        .work = mark_file,
                        .merge = take_marks,
                        .free_part = free_marks};
    self->walk = &walk;
    self->files = limn_allocate(plan->write->inputs.count, sizeof *self->files, error);
    if (!self->files || (plan->dedup && !(self->seen = choose_seen_create(plan->distance, error)))) return -1;
    const int failed = choose_walk_run(&walk, NULL, error);
    choose_seen_free(self->seen);
    self->seen = NULL;
    return failed;
}

/* ---------------------------------------------------------------- files of the output */

/* What one job has written. */
typedef struct {
    uint64_t samples, written[2], files, files_kept, others;
    uint64_t left_out[CHOOSE_RULES_MAX];
} job_result;

/* Of an input: its name without the ending, or its number. */
static void name_of(const rewriter *self, size_t input, char out[NAME_BYTES]) {
    const char *base = limn_base_name(self->plan->write->inputs.items[input]);
    if (self->plan->renumber)
        snprintf(out, NAME_BYTES, "%05zu", input);
    else
        snprintf(out, NAME_BYTES, "%.*s", (int)(strrchr(base, '.') - base), base);
}

static json_t *stats_of(const rewriter *self, const job_result *result) {
    json_t *reasons = json_object();
    uint64_t left_out = 0;
    for (size_t i = 0; i < self->plan->rules; i++) {
        if (!result->left_out[i]) continue;
        json_object_set_new(reasons, self->plan->rule_names[i], json_integer((json_int_t)result->left_out[i]));
        left_out += result->left_out[i];
    }
    return json_pack("{s:I, s:I, s:o}", "rows", (json_int_t)result->samples, "failed", (json_int_t)left_out, "reasons",
                     reasons);
}

static uint64_t count_in(const json_t *stats, const char *key) {
    const json_int_t value = json_integer_value(json_object_get(stats, key));
    return value > 0 ? (uint64_t)value : 0;
}

/* True when all sides of a file are finished; its counts are then in the result. */
static bool take_finished(const rewriter *self, const char *name, job_result *result) {
    json_t *stats[2] = {NULL, NULL};
    bool all = true;
    for (size_t s = 0; s < self->plan->sides; s++)
        all = (stats[s] = choose_sink_finished(self->folders[s], name, self->form)) && all;
    for (size_t s = 0; all && s < self->plan->sides; s++) {
        result->samples = count_in(stats[s], "rows");
        result->written[s] = count_in(stats[s], "pairs");
        result->files += result->written[s] > 0;
        result->files_kept += result->written[s] > 0;
        const json_t *reasons = json_object_get(stats[s], "reasons");
        for (size_t r = 0; s == 0 && r < self->plan->rules; r++)
            result->left_out[r] = count_in(reasons, self->plan->rule_names[r]);
    }
    json_decref(stats[0]);
    json_decref(stats[1]);
    return all;
}

static void make_key(size_t number, size_t row, char out[64]) {
    snprintf(out, 64, "%05zu%04zu", number, row);
}

static int verdict_on(const rewriter *self, void *room, size_t input, const choose_sample *sample, limn_error *error) {
    if (!self->files) return self->plan->judge ? self->plan->judge(self->plan->context, room, sample, error) : 0;
    /* A file that has got longer since the first walk is not what was judged. */
    if (sample->row >= self->files[input].count)
        return limn_fail(error, "%s: has changed while it was read", self->plan->write->inputs.items[input]);
    return self->files[input].marks[sample->row];
}

/* Reads an input to its end and writes each sample to its side. 1: the input is damaged. */
static int fill_sinks(rewriter *self, size_t input, choose_sink *const sinks[2], job_result *result, limn_error *error) {
    void *room;
    choose_sample sample;
    if (open_room(self->plan, &room, error)) return -1;
    choose_reader *reader = choose_reader_open(self->plan->write->inputs.items[input], &self->walk->seen, error);
    int got = reader ? 1 : -1, status = 0;
    while (status == 0 && got == 1) {
        char key[64];
        if ((got = choose_reader_next(reader, &sample, error)) != 1) break;
        const int verdict = verdict_on(self, room, input, &sample, error);
        result->samples++;
        result->others += sample.entry ? sample.entry->others : 0;
        if (verdict < 0) {
            status = -1;
        } else if (verdict >= CHOOSE_LEFT_OUT) {
            result->left_out[verdict - CHOOSE_LEFT_OUT]++;
        } else {
            make_key(input, sample.row, key);
            status = choose_sink_add(sinks[verdict], &sample, self->plan->renumber ? key : NULL, error);
            result->written[verdict]++;
        }
    }
    choose_reader_close(reader);
    close_room(self->plan, room);
    return status ? -1 : got < 0 ? reading_failed(error) : 0;
}

static int rewrite_file(void *context, size_t job, void **part, limn_error *error) {
    rewriter *self = context;
    char name[NAME_BYTES];
    job_result *result = limn_allocate(1, sizeof *result, error);
    choose_sink *sinks[2] = {NULL, NULL};
    *part = result;
    if (!result) return -1;
    name_of(self, job, name);
    if (take_finished(self, name, result)) return 0;
    *result = (job_result){0};
    int status = 0;
    for (size_t s = 0; status == 0 && s < self->plan->sides; s++)
        status = (sinks[s] = choose_sink_open(self->folders[s], name, self->form, error)) ? 0 : -1;
    if (status == 0) status = fill_sinks(self, job, sinks, result, error);
    for (size_t s = 0; s < self->plan->sides; s++) {
        if (status) {
            choose_sink_discard(sinks[s]);
            continue;
        }
        json_t *stats = stats_of(self, result);
        status = choose_sink_commit(sinks[s], stats, error);
        json_decref(stats);
        result->files += result->written[s] > 0;
    }
    if (status == 1) *result = (job_result){0};
    return status;
}

/* ---------------------------------------------------------------- packed files */

/* Writes samples [from, from + most) of a side, numbered over all inputs. */
static int fill_packed(rewriter *self, size_t side, size_t number, choose_sink *sink, job_result *result, limn_error *error) {
    const size_t most = self->plan->write->pack;
    size_t input = 0, before = 0, from = number * most; /* `before`: samples of the side in the inputs before */
    choose_sample sample;
    while (input < self->plan->write->inputs.count && before + self->files[input].sides[side] <= from)
        before += self->files[input++].sides[side];
    for (size_t at = before; result->written[side] < most && input < self->plan->write->inputs.count; input++) {
        const file_marks *marks = &self->files[input];
        if (marks->sides[side] == 0) continue;
        choose_reader *reader = choose_reader_open(self->plan->write->inputs.items[input], NULL, error);
        int got = reader ? 1 : -1, status = 0;
        while (status == 0 && got == 1 && result->written[side] < most) {
            char key[64];
            if ((got = choose_reader_next(reader, &sample, error)) != 1) break;
            const int verdict = verdict_on(self, NULL, input, &sample, error);
            if (verdict < 0) status = -1;
            if (status || verdict != (int)side || at++ < from) continue;
            make_key(number, (size_t)result->written[side], key);
            status = choose_sink_add(sink, &sample, self->plan->renumber ? key : NULL, error);
            result->written[side]++;
            result->others += sample.entry ? sample.entry->others : 0;
            self->walk->seen.samples++;
        }
        choose_reader_close(reader);
        if (status || got < 0) return -1; /* the first walk has read it whole */
    }
    return 0;
}

static int write_packed(void *context, size_t job, void **part, limn_error *error) {
    rewriter *self = context;
    char name[NAME_BYTES];
    const size_t side = job < self->packed[0] ? 0 : 1, number = side ? job - self->packed[0] : job;
    job_result *result = limn_allocate(1, sizeof *result, error);
    *part = result;
    if (!result) return -1;
    snprintf(name, sizeof name, "%05zu", number);
    json_t *stats = choose_sink_finished(self->folders[side], name, self->form);
    result->files = 1;
    if (stats) {
        result->written[side] = count_in(stats, "pairs");
        result->files_kept = 1;
        self->walk->seen.samples += result->written[side];
        json_decref(stats);
        return 0;
    }
    choose_sink *sink = choose_sink_open(self->folders[side], name, self->form, error);
    if (!sink || fill_packed(self, side, number, sink, result, error)) {
        choose_sink_discard(sink);
        return -1;
    }
    stats = json_pack("{s:I, s:i, s:{}}", "rows", (json_int_t)result->written[side], "failed", 0, "reasons");
    const int failed = choose_sink_commit(sink, stats, error);
    json_decref(stats);
    return failed;
}

/* ---------------------------------------------------------------- both */

static int take_result(void *context, size_t job, void *part, limn_error *error) {
    (void)job;
    (void)error;
    rewriter *self = context;
    const job_result *result = part;
    choose_summary *summary = self->summary;
    summary->files += result->files;
    summary->files_kept += result->files_kept;
    summary->others_left += result->others;
    for (size_t s = 0; s < 2; s++) summary->written[s] += result->written[s];
    if (self->files) return 0; /* the first walk has counted the rest */
    summary->samples += result->samples;
    for (size_t r = 0; r < self->plan->rules; r++) self->left_out[r] += result->left_out[r];
    return 0;
}

static int write_all(rewriter *self, size_t *damaged, limn_error *error) {
    const choose_write_options *write = self->plan->write;
    choose_walk walk = {.what = self->plan->what,
                        .jobs = write->inputs.count,
                        .total_bytes = choose_bytes_of(&write->inputs),
                        .context = self,
                        .work = write->pack ? write_packed : rewrite_file,
                        .merge = take_result,
                        .free_part = free};
    for (size_t s = 0; write->pack && s < self->plan->sides; s++) {
        size_t count = 0;
        for (size_t i = 0; i < write->inputs.count; i++) count += self->files[i].sides[s];
        self->packed[s] = count / write->pack + (count % write->pack != 0);
        walk.total_samples += count;
    }
    if (write->pack) walk.jobs = self->packed[0] + self->packed[1];
    self->walk = &walk;
    return choose_walk_run(&walk, damaged, error);
}

/* Two inputs of one name would write one file. */
static int check_names(const choose_plan *plan, limn_error *error) {
    const char *name;
    if (plan->renumber || plan->write->pack) return 0;
    const int same = limn_find_same_name(&plan->write->inputs, &name, error);
    return same > 0
               ? limn_fail_usage(error, "--input has two files named %s: give --pack, or limn-dataset merge them first", name)
               : same;
}

static int make_reasons(const rewriter *self, limn_error *error) {
    self->summary->reasons = json_object();
    for (size_t r = 0; r < self->plan->rules; r++)
        json_object_set_new(self->summary->reasons, self->plan->rule_names[r], json_integer((json_int_t)self->left_out[r]));
    return self->summary->reasons ? 0 : limn_fail(error, "out of memory for the summary");
}

static int set_folders(rewriter *self, limn_error *error) {
    const char *output = self->plan->write->output;
    if (self->plan->sides == 2)
        return limn_path_join(self->folders[0], sizeof self->folders[0], output, "train", error) ||
                       limn_path_join(self->folders[1], sizeof self->folders[1], output, "valid", error)
                   ? -1
                   : 0;
    if (strlen(output) >= sizeof self->folders[0]) return limn_fail_usage(error, "--output: the path is too long");
    snprintf(self->folders[0], sizeof self->folders[0], "%s", output);
    return 0;
}

int choose_rewrite(const choose_plan *plan, choose_summary *out, limn_error *error) {
    int lock;
    size_t damaged = 0;
    *out = (choose_summary){0};
    if (plan->write->inputs.count == 0) return limn_fail_usage(error, "--input: no files");
    if (check_names(plan, error) || choose_output_open(plan, &lock, error)) return -1;
    rewriter self = {.plan = plan, .form = choose_form_of(plan->write->inputs.items[0]), .summary = out};
    int status = set_folders(&self, error);
    if (status == 0 && (plan->dedup || plan->write->pack)) status = mark_all(&self, error);
    if (status == 0) status = write_all(&self, &damaged, error);
    if (status == 0) status = make_reasons(&self, error);
    if (status == 0 && damaged)
        status = limn_fail(error, "%zu of %zu files could not be read and made nothing; the others are done", damaged,
                           plan->write->inputs.count);
    for (size_t i = 0; self.files && i < plan->write->inputs.count; i++) free(self.files[i].marks);
    free(self.files);
    limn_unlock(lock);
    if (status == 0 && out->others_left)
        limn_log(LIMN_LOG_WARNING, "%llu entries beside picture, .txt and .json were left behind",
                 (unsigned long long)out->others_left);
    return status;
}
