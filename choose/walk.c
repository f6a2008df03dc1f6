/* Jobs on threads, their results taken together in order. */
#include "choose/internal.h"

#include <stdlib.h>

typedef struct {
    choose_walk *walk;
    pthread_mutex_t mutex;
    pthread_cond_t turned;
    size_t next, turn, running; /* the next job to begin, the next result to take, threads that run */
    size_t damaged;
    bool failed;
    limn_error error; /* the first that ended all */
    char first_damage[512];
} team;

static const double LOOK_SECONDS = 0.1;

/* Waits until it is the job's turn; false when another has failed. With the mutex. */
static bool await_turn(team *self, size_t job) {
    while (!self->failed && self->turn != job) limn_condition_wait(&self->turned, &self->mutex, LOOK_SECONDS);
    return !self->failed;
}

static void fail_all(team *self, const limn_error *error) {
    if (!self->failed) self->error = *error;
    self->failed = true;
    pthread_cond_broadcast(&self->turned);
}

static void note_damage(team *self, const limn_error *error) {
    if (self->damaged++ == 0) snprintf(self->first_damage, sizeof self->first_damage, "%.500s", error->message);
    limn_log(LIMN_LOG_WARNING, "%s", error->message);
}

static void do_job(team *self, size_t job) {
    choose_walk *walk = self->walk;
    limn_error error = {0};
    void *part = NULL;
    const int status = walk->work(walk->context, job, &part, &error);
    pthread_mutex_lock(&self->mutex);
    if (status < 0) {
        fail_all(self, &error);
    } else if (await_turn(self, job)) {
        if (status == 1) note_damage(self, &error);
        /* No other merges meanwhile: it is not their turn. */
        pthread_mutex_unlock(&self->mutex);
        const int merged = walk->merge ? walk->merge(walk->context, job, part, &error) : 0;
        pthread_mutex_lock(&self->mutex);
        if (merged) fail_all(self, &error);
        self->turn++;
        pthread_cond_broadcast(&self->turned);
    }
    pthread_mutex_unlock(&self->mutex);
    if (part && walk->free_part) walk->free_part(part);
}

static void *do_jobs(void *context) {
    team *self = context;
    pthread_mutex_lock(&self->mutex);
    while (!self->failed && self->next < self->walk->jobs) {
        const size_t job = self->next++;
        pthread_mutex_unlock(&self->mutex);
        do_job(self, job);
        pthread_mutex_lock(&self->mutex);
    }
    self->running--;
    pthread_cond_broadcast(&self->turned);
    pthread_mutex_unlock(&self->mutex);
    return NULL;
}

static void show_progress(choose_walk *walk, limn_progress *progress) {
    if (walk->total_samples)
        limn_progress_update(progress, walk->seen.samples, NULL);
    else
        limn_progress_update(progress, walk->seen.bytes / 1000000, "%llu samples", (unsigned long long)walk->seen.samples);
}

int choose_walk_run(choose_walk *self, size_t *out_damaged, limn_error *error) {
    team all = {.walk = self};
    limn_threads threads = {0};
    const size_t wanted = limn_get_threads(), count = wanted < self->jobs ? wanted : self->jobs;
    if (out_damaged) *out_damaged = 0;
    if (count == 0) return 0;
    self->seen.bytes = self->seen.samples = 0;
    limn_progress *progress = self->total_samples ? limn_progress_start(self->what, "samples", 0, self->total_samples)
                                                  : limn_progress_start(self->what, "MB", 0, self->total_bytes / 1000000);
    pthread_mutex_init(&all.mutex, NULL);
    limn_condition_init(&all.turned);
    all.running = count;
    const int started = limn_threads_start(&threads, count, do_jobs, &all, error);
    pthread_mutex_lock(&all.mutex);
    all.running -= count - threads.count;
    if (started) fail_all(&all, error ? error : &(limn_error){0});
    while (all.running) {
        limn_condition_wait(&all.turned, &all.mutex, LOOK_SECONDS);
        show_progress(self, progress);
    }
    pthread_mutex_unlock(&all.mutex);
    limn_threads_join(&threads);
    show_progress(self, progress);
    limn_progress_finish(progress);
    pthread_cond_destroy(&all.turned);
    pthread_mutex_destroy(&all.mutex);
    if (all.failed) {
        if (error) *error = all.error;
        return -1;
    }
    if (out_damaged)
        *out_damaged = all.damaged;
    else if (all.damaged)
        return limn_fail(error, "%zu of %zu files could not be read: %s", all.damaged, self->jobs, all.first_damage);
    return 0;
}
