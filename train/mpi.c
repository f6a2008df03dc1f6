/* The transport by MPI: one thread that alone calls MPI, orders that wait for it in a ring for each lane, and a few of them at
 * work at once. It looks for what has arrived and sleeps in between: MPI's own waits spin, and would take the computation's
 * cores. */
#include <errno.h>
#include <mpi.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "train/transport.h"

enum { RING = 1024, ACTIVE = 4 };
static const double PAUSE_LEAST = 20e-6, PAUSE_MOST = 400e-6;

/* An order has up to four messages with each other rank: to and from, in two phases. */
typedef enum { RECEIVE_FIRST, SEND_FIRST, RECEIVE_SECOND, SEND_SECOND, MESSAGE_SETS } message_set;

typedef struct {
    bool busy;
    transport_order order;
    uint64_t number;       /* in its lane, from 0 */
    MPI_Request *requests; /* (MESSAGE_SETS, ranks); collective operations use the first */
    int *completed;        /* as many: indices that MPI_Testsome returns */
    int outstanding;
    bool *arrived;     /* (ranks) */
    size_t added;      /* ranks whose part is in the sum, in order */
    bool second;       /* the second phase has begun */
    uint16_t *rounded; /* (bucket) what is sent in bfloat16; TRAINING only */
    float *received;   /* (ranks, slice) */
} work;

typedef struct {
    uint64_t posted, begun, done; /* done: all before it are */
    transport_order ring[RING];
    bool finished[RING];
    work active[ACTIVE];
    MPI_Comm communicator;
} lane;

typedef struct {
    size_t rank, size, neighbours;
    lane lanes[WORLD_LANES];
    limn_threads thread;
    pthread_mutex_t lock;
    pthread_cond_t posted, changed;
    bool ready, ending, failed;
    int exit_code; /* not 0: the job is to be ended */
    limn_error error;
    uint64_t bytes_sent;
} mpi;

/* MPI can be started once in a process. Set while this one has not left the job. */
static mpi *joined;

static int check(mpi *self, int code, const char *what) {
    if (code == MPI_SUCCESS || self->failed) return code == MPI_SUCCESS ? 0 : -1;
    char text[MPI_MAX_ERROR_STRING];
    int length = 0;
    if (MPI_Error_string(code, text, &length) != MPI_SUCCESS) snprintf(text, sizeof text, "error %d", code);
    pthread_mutex_lock(&self->lock);
    limn_fail(&self->error, "MPI cannot %s: %s", what, text);
    self->failed = true;
    pthread_mutex_unlock(&self->lock);
    return -1;
}

/* ---------------------------------------------------------------- messages */

static MPI_Request *request_of(const mpi *self, work *w, message_set set, size_t rank) {
    return &w->requests[(size_t)set * self->size + rank];
}

static int tag_of(const work *w, message_set set) {
    return (int)(w->number % 8192) * 2 + (set >= RECEIVE_SECOND);
}

static void receive(mpi *self, lane *l, work *w, message_set set, void *room, size_t count, MPI_Datatype type, size_t from) {
    if (!count || self->failed) return;
    w->outstanding++;
    check(self, MPI_Irecv(room, (int)count, type, (int)from, tag_of(w, set), l->communicator, request_of(self, w, set, from)),
          "receive");
}

static void send(mpi *self, lane *l, work *w, message_set set, const void *data, size_t count, MPI_Datatype type, size_t to) {
    if (!count || self->failed) return;
    int bytes = 0;
    MPI_Type_size(type, &bytes);
    self->bytes_sent += count * (size_t)bytes;
    w->outstanding++;
    check(self, MPI_Isend(data, (int)count, type, (int)to, tag_of(w, set), l->communicator, request_of(self, w, set, to)),
          "send");
}

/* The i-th other rank to send to, and to receive from: everybody begins with another one. */
static size_t after(const mpi *self, size_t i) {
    return (self->rank + i) % self->size;
}

static size_t before(const mpi *self, size_t i) {
    return (self->rank + self->size - i) % self->size;
}

typedef struct {
    size_t start, count;
} range;

static range slice_of(const mpi *self, const work *w, size_t rank) {
    size_t start = transport_slice(w->order.count, self->size, rank);
    return (range){start, transport_slice(w->order.count, self->size, rank + 1) - start};
}

/* ---------------------------------------------------------------- reduce */

static void begin_reduce(mpi *self, lane *l, work *w) {
    bool halves = w->order.wire == PRECISION_BF16;
    MPI_Datatype type = halves ? MPI_UINT16_T : MPI_FLOAT;
    range own = slice_of(self, w, self->rank);
    memset(w->arrived, 0, self->size * sizeof *w->arrived);
    for (size_t i = 1; i < self->size; i++) {
        size_t from = before(self, i);
        void *room = halves ? (void *)((uint16_t *)w->received + from * own.count) : (void *)(w->received + from * own.count);
        receive(self, l, w, RECEIVE_FIRST, room, own.count, type, from);
    }
    for (size_t i = 1; i < self->size; i++) {
        size_t to = after(self, i);
        range piece = slice_of(self, w, to);
        if (halves) round_to_bf16(w->rounded + piece.start, w->order.values + piece.start, piece.count);
        const void *data = halves ? (void *)(w->rounded + piece.start) : (void *)(w->order.values + piece.start);
        send(self, l, w, SEND_FIRST, data, piece.count, type, to);
    }
}

/* Adds what has arrived, in the ranks' order, to the own slice, which is there from the beginning. */
static void add_arrived(const mpi *self, work *w) {
    range own = slice_of(self, w, self->rank);
    float *sum = w->order.values + own.start;
    for (; w->added < self->size; w->added++) {
        if (w->added == self->rank || !own.count) continue;
        if (!w->arrived[w->added]) return;
        size_t at = w->added * own.count;
        if (w->order.wire == PRECISION_BF16) {
            add_bf16(sum, (const uint16_t *)w->received + at, own.count);
        } else {
            for (size_t i = 0; i < own.count; i++) sum[i] += w->received[at + i];
        }
    }
}

/* Once every slice is summed and nothing is sent from these values any more: the slices go to the owner. */
static void send_sums(mpi *self, lane *l, work *w) {
    w->second = true;
    range own = slice_of(self, w, self->rank);
    if (self->rank != w->order.owner) {
        send(self, l, w, SEND_SECOND, w->order.values + own.start, own.count, MPI_FLOAT, w->order.owner);
        return;
    }
    for (size_t i = 1; i < self->size; i++) {
        range piece = slice_of(self, w, before(self, i));
        receive(self, l, w, RECEIVE_SECOND, w->order.values + piece.start, piece.count, MPI_FLOAT, before(self, i));
    }
}

/* ---------------------------------------------------------------- share */

static void send_own_slice(mpi *self, lane *l, work *w) {
    w->second = true;
    range own = slice_of(self, w, self->rank);
    for (size_t i = 1; i < self->size; i++)
        if (after(self, i) != w->order.owner)
            send(self, l, w, SEND_SECOND, w->order.values + own.start, own.count, MPI_FLOAT, after(self, i));
}

/* Where one rank owns all, it gives each rank a slice first, and each passes its slice on to the others: no rank sends more
 * than about twice the values. */
static void begin_share(mpi *self, lane *l, work *w) {
    size_t owner = w->order.owner;
    range own = slice_of(self, w, self->rank);
    memset(w->arrived, 0, self->size * sizeof *w->arrived);
    if (self->rank != owner) {
        for (size_t i = 1; i < self->size; i++) {
            range piece = slice_of(self, w, before(self, i));
            receive(self, l, w, RECEIVE_SECOND, w->order.values + piece.start, piece.count, MPI_FLOAT, before(self, i));
        }
        if (owner != WORLD_SLICES) receive(self, l, w, RECEIVE_FIRST, w->order.values + own.start, own.count, MPI_FLOAT, owner);
    } else {
        for (size_t i = 1; i < self->size; i++) {
            range piece = slice_of(self, w, after(self, i));
            send(self, l, w, SEND_FIRST, w->order.values + piece.start, piece.count, MPI_FLOAT, after(self, i));
        }
    }
    if (owner == WORLD_SLICES || owner == self->rank || !own.count) send_own_slice(self, l, w);
}

/* ---------------------------------------------------------------- orders */

static void begin(mpi *self, lane *l, work *w) {
    const transport_order *order = &w->order;
    w->busy = true;
    w->outstanding = 0;
    w->added = 0;
    w->second = false;
    for (size_t i = 0; i < MESSAGE_SETS * self->size; i++) w->requests[i] = MPI_REQUEST_NULL;
    switch (order->kind) {
    case ORDER_REDUCE:
        begin_reduce(self, l, w);
        break;
    case ORDER_SHARE:
        begin_share(self, l, w);
        break;
    case ORDER_MOVE:
        if (order->from == order->to) break;
        if (order->from == self->rank) send(self, l, w, SEND_FIRST, order->bytes, order->size, MPI_BYTE, order->to);
        if (order->to == self->rank) receive(self, l, w, RECEIVE_FIRST, order->bytes, order->size, MPI_BYTE, order->from);
        break;
    case ORDER_GATHER:
        w->outstanding = 1;
        check(self,
              MPI_Iallgather(order->mine, (int)order->size, MPI_BYTE, order->bytes, (int)order->size, MPI_BYTE, l->communicator,
                             w->requests),
              "gather");
        break;
    case ORDER_BROADCAST:
        w->outstanding = 1;
        check(self, MPI_Ibcast(order->bytes, (int)order->size, MPI_BYTE, (int)order->from, l->communicator, w->requests),
              "broadcast");
        break;
    }
}

/* Goes on with an order as far as its messages allow. True when something moved; then it may be no longer busy. */
static bool advance(mpi *self, lane *l, work *w) {
    int count = 0;
    if (w->outstanding) {
        if (check(self, MPI_Testsome((int)(MESSAGE_SETS * self->size), w->requests, &count, w->completed, MPI_STATUSES_IGNORE),
                  "wait"))
            return false;
        if (count == 0 || count == MPI_UNDEFINED) return false;
        w->outstanding -= count;
        for (int i = 0; i < count; i++)
            if ((size_t)w->completed[i] < self->size) w->arrived[w->completed[i]] = true; /* RECEIVE_FIRST is the first set */
    }
    bool whole = w->order.owner == WORLD_SLICES || w->second;
    if (w->order.kind == ORDER_REDUCE) {
        add_arrived(self, w);
        if (!whole && w->added == self->size && !w->outstanding) send_sums(self, l, w);
    } else if (w->order.kind == ORDER_SHARE && !whole && w->arrived[w->order.owner]) {
        send_own_slice(self, l, w);
    }
    bool two_phases = (w->order.kind == ORDER_REDUCE || w->order.kind == ORDER_SHARE) && w->order.owner != WORLD_SLICES;
    w->busy = w->outstanding || (two_phases && !w->second);
    return true;
}

/* With the lock held: hands waiting orders to works that are free. */
static bool take_orders(mpi *self) {
    bool busy = false;
    for (size_t i = 0; i < WORLD_LANES; i++) {
        lane *l = &self->lanes[i];
        for (size_t a = 0; a < ACTIVE; a++) {
            work *w = &l->active[a];
            if (!w->busy && l->begun < l->posted) {
                w->number = l->begun++;
                w->order = l->ring[w->number % RING];
                pthread_mutex_unlock(&self->lock);
                begin(self, l, w);
                pthread_mutex_lock(&self->lock);
            }
            busy = busy || w->busy;
        }
    }
    return busy;
}

static void mark_finished(mpi *self, lane *l, const work *w) {
    pthread_mutex_lock(&self->lock);
    l->finished[w->number % RING] = true;
    for (; l->done < l->begun && l->finished[l->done % RING]; l->done++) l->finished[l->done % RING] = false;
    pthread_cond_broadcast(&self->changed);
    pthread_mutex_unlock(&self->lock);
}

static bool advance_all(mpi *self) {
    bool moved = false;
    for (size_t i = 0; i < WORLD_LANES; i++)
        for (size_t a = 0; a < ACTIVE; a++) {
            lane *l = &self->lanes[i];
            work *w = &l->active[a];
            if (!w->busy) continue;
            if (advance(self, l, w)) moved = true;
            if (!w->busy) mark_finished(self, l, w);
        }
    return moved;
}

/* ---------------------------------------------------------------- the thread */

static uint64_t hash_of_cpus(pid_t process, size_t *out_count) {
    cpu_set_t set[8]; /* 8,192 CPUs */
    memset(set, 0, sizeof set);
    if (sched_getaffinity(process, sizeof set, set)) {
        *out_count = 0;
        return 0;
    }
    *out_count = (size_t)CPU_COUNT_S(sizeof set, set);
    uint64_t hash = 14695981039346656037u;
    for (size_t i = 0; i < sizeof set; i++) hash = (hash ^ ((unsigned char *)set)[i]) * 1099511628211u;
    return hash;
}

/* How many ranks of this machine may use the same CPUs; says so where mpirun has bound its ranks to few of many, as is its
 * habit. */
static void meet_neighbours(mpi *self) {
    MPI_Comm machine;
    int count = 1, rank = 0;
    size_t cpus, parents_cpus;
    uint64_t mine = hash_of_cpus(0, &cpus);
    self->neighbours = 1;
    if (check(self, MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &machine),
              "find this machine's ranks"))
        return;
    MPI_Comm_size(machine, &count);
    MPI_Comm_rank(machine, &rank);
    uint64_t *all = calloc((size_t)count, sizeof *all);
    if (all && check(self, MPI_Allgather(&mine, 1, MPI_UINT64_T, all, 1, MPI_UINT64_T, machine), "gather") == 0)
        for (int i = 0; i < count; i++) self->neighbours += i != rank && all[i] == mine;
    free(all);
    MPI_Comm_free(&machine);
    (void)hash_of_cpus(getppid(), &parents_cpus);
    if (self->rank == 0 && self->neighbours == 1 && cpus * (size_t)count * 2 <= parents_cpus)
        limn_log(LIMN_LOG_WARNING,
                 "each rank is bound to %zu of %zu CPUs; mpirun --bind-to none, or --map-by slot:PE=%zu, gives it more", cpus,
                 parents_cpus, parents_cpus / (size_t)count);
}

static int join_job(mpi *self) {
    int provided = MPI_THREAD_SINGLE, rank = 0, size = 1;
    if (check(self, MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided), "start")) return -1;
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    self->rank = (size_t)rank;
    self->size = (size_t)size;
    if (provided < MPI_THREAD_FUNNELED) {
        self->failed = true;
        return limn_fail(&self->error, "this MPI was built without threads (MPI_THREAD_FUNNELED); use another");
    }
    size_t bucket = transport_bucket(self->size), line = 64 / sizeof(float);
    for (size_t i = 0; i < WORLD_LANES; i++) {
        lane *l = &self->lanes[i];
        if (check(self, MPI_Comm_dup(MPI_COMM_WORLD, &l->communicator), "start")) return -1;
        for (size_t a = 0; a < ACTIVE; a++) {
            work *w = &l->active[a];
            bool room = i == WORLD_TRAINING;
            w->requests = limn_allocate(MESSAGE_SETS * self->size, sizeof *w->requests, &self->error);
            w->completed = limn_allocate(MESSAGE_SETS * self->size, sizeof *w->completed, &self->error);
            w->arrived = limn_allocate(self->size, sizeof *w->arrived, &self->error);
            if (room) w->rounded = limn_allocate(bucket, sizeof *w->rounded, &self->error);
            if (room) w->received = limn_allocate(bucket + line * (self->size + 1), sizeof *w->received, &self->error);
            if (!w->requests || !w->completed || !w->arrived || (room && (!w->rounded || !w->received))) {
                self->failed = true;
                return -1;
            }
        }
    }
    meet_neighbours(self);
    return self->failed ? -1 : 0;
}

static void log_costs(const mpi *self) {
    struct timespec used;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    limn_log(LIMN_LOG_DEBUG, "rank %zu sent %.3f GB; its thread for that computed for %.2f s", self->rank,
             (double)self->bytes_sent * 1e-9, (double)used.tv_sec + 1e-9 * (double)used.tv_nsec);
}

static void *talk(void *context) {
    mpi *self = context;
    sigset_t signals;
    sigfillset(&signals); /* Ctrl-C is for the main thread, which may be waiting in a read */
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    (void)join_job(self);
    pthread_mutex_lock(&self->lock);
    self->ready = true;
    pthread_cond_broadcast(&self->changed);
    double pause = PAUSE_LEAST;
    while (!self->exit_code && !self->ending) {
        bool busy = !self->failed && take_orders(self), moved = false;
        if (busy) {
            pthread_mutex_unlock(&self->lock);
            moved = advance_all(self);
            pthread_mutex_lock(&self->lock);
        }
        if (self->failed) pthread_cond_broadcast(&self->changed);
        if (self->exit_code || self->ending || moved) {
            pause = PAUSE_LEAST;
        } else if (busy && !self->failed) {
            limn_condition_wait(&self->posted, &self->lock, pause);
            pause = pause * 2 < PAUSE_MOST ? pause * 2 : PAUSE_MOST;
        } else {
            pthread_cond_wait(&self->posted, &self->lock);
        }
    }
    int code = self->exit_code;
    pthread_mutex_unlock(&self->lock);
    if (code) MPI_Abort(MPI_COMM_WORLD, code);
    log_costs(self);
    for (size_t i = 0; i < WORLD_LANES; i++) MPI_Comm_free(&self->lanes[i].communicator);
    MPI_Finalize();
    return NULL;
}

/* ---------------------------------------------------------------- from the other threads */

static world_ticket post(void *context, world_lane which, const transport_order *order) {
    mpi *self = context;
    lane *l = &self->lanes[which];
    pthread_mutex_lock(&self->lock);
    while (l->posted - l->done == RING && !self->failed) pthread_cond_wait(&self->changed, &self->lock);
    if (!self->failed) {
        l->ring[l->posted % RING] = *order;
        l->posted++;
    }
    world_ticket ticket = l->posted;
    pthread_cond_signal(&self->posted);
    pthread_mutex_unlock(&self->lock);
    return ticket;
}

static int wait_for(void *context, world_lane which, world_ticket ticket, limn_error *error) {
    mpi *self = context;
    pthread_mutex_lock(&self->lock);
    while (self->lanes[which].done < ticket && !self->failed) pthread_cond_wait(&self->changed, &self->lock);
    int status = self->failed ? limn_fail(error, "%s", self->error.message) : 0;
    pthread_mutex_unlock(&self->lock);
    return status;
}

static void release(mpi *self) {
    for (size_t i = 0; i < WORLD_LANES; i++)
        for (size_t a = 0; a < ACTIVE; a++) {
            work *w = &self->lanes[i].active[a];
            void *blocks[] = {w->requests, w->completed, w->arrived, w->rounded, w->received};
            for (size_t b = 0; b < sizeof blocks / sizeof *blocks; b++) free(blocks[b]);
        }
    pthread_mutex_destroy(&self->lock);
    pthread_cond_destroy(&self->posted);
    pthread_cond_destroy(&self->changed);
    free(self);
}

static void leave(void *context) {
    mpi *self = context;
    pthread_mutex_lock(&self->lock);
    self->ending = true;
    pthread_cond_signal(&self->posted);
    pthread_mutex_unlock(&self->lock);
    limn_threads_join(&self->thread);
    joined = NULL;
    release(self);
}

/* At exit: a process that is still part of the job ends all of it. */
static void end_job(int code, void *nothing) {
    (void)nothing;
    mpi *self = joined;
    if (!self) return;
    pthread_mutex_lock(&self->lock);
    self->exit_code = code ? code : EXIT_FAILURE;
    pthread_cond_signal(&self->posted);
    pthread_mutex_unlock(&self->lock);
    limn_threads_join(&self->thread);
}

int mpi_transport_start(transport *out, limn_error *error) {
    mpi *self = limn_allocate(1, sizeof *self, error);
    if (!self) return -1;
    pthread_mutex_init(&self->lock, NULL);
    limn_condition_init(&self->posted);
    limn_condition_init(&self->changed);
    if (limn_threads_start(&self->thread, 1, talk, self, error)) {
        release(self);
        return -1;
    }
    joined = self;
    on_exit(end_job, NULL);
    pthread_mutex_lock(&self->lock);
    while (!self->ready) pthread_cond_wait(&self->changed, &self->lock);
    int status = self->failed ? limn_fail(error, "%s", self->error.message) : 0;
    pthread_mutex_unlock(&self->lock);
    *out = (transport){self, self->rank, self->size, self->neighbours, post, wait_for, leave};
    return status;
}
