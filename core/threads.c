/* How many threads to use, and threads of one's own. */
#include "core/core.h"

#include <omp.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static size_t chosen_threads; /* 0: not decided yet */
static bool threads_given;    /* by the user */

static size_t affinity_cpus(void) {
    /* The kernel refuses a mask smaller than the machine: grow it until it fits. */
    for (int cpus = 1024; cpus <= 1 << 20; cpus *= 2) {
        cpu_set_t *set = CPU_ALLOC((size_t)cpus);
        if (!set) break;
        size_t size = CPU_ALLOC_SIZE((size_t)cpus);
        int found = sched_getaffinity(0, size, set) == 0 ? CPU_COUNT_S(size, set) : 0;
        CPU_FREE(set);
        if (found > 0) return (size_t)found;
    }
    return 1;
}

static double quota_in(const char *folder, const char *quota_name, const char *period_name) {
    char path[4096 + 64];
    double quota = 0, period = 0;
    snprintf(path, sizeof path, "%s/%s", folder, quota_name);
    FILE *file = fopen(path, "r");
    if (!file) return 0;
    int read = period_name ? fscanf(file, "%lf", &quota) : fscanf(file, "%lf %lf", &quota, &period);
    fclose(file);
    if (period_name && read == 1) {
        snprintf(path, sizeof path, "%s/%s", folder, period_name);
        file = fopen(path, "r");
        if (!file) return 0;
        if (fscanf(file, "%lf", &period) != 1) period = 0;
        fclose(file);
    }
    return quota > 0 && period > 0 ? quota / period : 0;
}

/* The smallest quota, in CPUs, of this process's control group and the groups above it; 0 when there is none. */
static double cgroup_cpus(void) {
    double least = quota_in("/sys/fs/cgroup/cpu", "cpu.cfs_quota_us", "cpu.cfs_period_us");
    char group[3200] = "/", line[3200];
    FILE *file = fopen("/proc/self/cgroup", "r");
    while (file && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = '\0';
        if (strncmp(line, "0::/", 4) == 0) snprintf(group, sizeof group, "%s", line + 3);
    }
    if (file) fclose(file);
    for (;;) {
        char folder[4096];
        snprintf(folder, sizeof folder, "/sys/fs/cgroup%s", group);
        double quota = quota_in(folder, "cpu.max", NULL);
        if (quota > 0 && (least == 0 || quota < least)) least = quota;
        char *slash = strrchr(group, '/');
        if (!slash) return least;
        *slash = '\0';
    }
}

static size_t default_threads(void) {
    const char *given = getenv("LIMN_THREADS");
    if (given) {
        char *end;
        long threads = strtol(given, &end, 10);
        threads_given = *given && !*end && threads > 0 && threads <= 4096;
        if (threads_given) return (size_t)threads;
        limn_log(LIMN_LOG_WARNING, "LIMN_THREADS is '%s', not a number from 1 to 4096: it is ignored", given);
    }
    size_t cpus = affinity_cpus();
    double quota = cgroup_cpus();
    if (quota > 0 && quota < (double)cpus) {
        size_t whole = (size_t)quota;
        cpus = (double)whole < quota ? whole + 1 : whole;
    }
    return cpus;
}

void limn_set_threads(size_t threads) {
    threads_given = threads > 0;
    chosen_threads = threads ? threads : default_threads();
    omp_set_num_threads((int)chosen_threads);
}

size_t limn_get_threads(void) {
    if (!chosen_threads) limn_set_threads(0);
    return chosen_threads;
}

void limn_share_threads(size_t processes) {
    size_t share = limn_get_threads() / processes;
    if (threads_given) return;
    chosen_threads = share ? share : 1;
    omp_set_num_threads((int)chosen_threads);
}

/* ---------------------------------------------------------------- threads of one's own */

int limn_threads_start(limn_threads *self, size_t count, void *(*work)(void *), void *context, limn_error *error) {
    self->count = 0;
    self->list = limn_allocate(count, sizeof *self->list, error);
    if (!self->list) return -1;
    for (; self->count < count; self->count++) {
        int code = pthread_create(&self->list[self->count], NULL, work, context);
        if (code) return limn_fail(error, "cannot start thread %zu: %s; use fewer --threads", self->count + 1, strerror(code));
    }
    return 0;
}

void limn_threads_join(limn_threads *self) {
    for (size_t i = 0; i < self->count; i++) pthread_join(self->list[i], NULL);
    free(self->list);
    *self = (limn_threads){0};
}

void limn_condition_init(pthread_cond_t *condition) {
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(condition, &attributes);
    pthread_condattr_destroy(&attributes);
}

void limn_condition_wait(pthread_cond_t *condition, pthread_mutex_t *mutex, double seconds) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    double end = (double)until.tv_nsec * 1e-9 + seconds;
    time_t whole = (time_t)end;
    until.tv_sec += whole;
    until.tv_nsec = (long)((end - (double)whole) * 1e9);
    pthread_cond_timedwait(condition, mutex, &until);
}
