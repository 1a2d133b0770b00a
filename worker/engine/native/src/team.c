#include "team.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define SPINS 4000 /* some ten microseconds */
#define CACHE_LINE 64

struct member {
    _Alignas(CACHE_LINE) atomic_int num_taken; /* of the tasks of its share */
    struct team *team;
    pthread_t thread;
    int32_t index;
};

struct team {
    int32_t size;
    atomic_int num_arrived; /* at the barrier */
    atomic_uint phase;      /* number of barriers passed */
    pthread_mutex_t mutex;  /* guards what follows, and the changes of phase */
    pthread_cond_t phase_changed, run_started;
    uint32_t num_runs;
    int32_t is_closing;
    team_body body;
    void *context;
    struct member members[]; /* [size]; the first has no thread of its own */
};

static inline void pause_briefly(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

int32_t member_index(const struct member *self) { return self->index; }

int32_t member_team_size(const struct member *self) { return self->team->size; }

/* The first task of a member's share; that of the one behind the last member is num_tasks. */
static int32_t share_start(const struct team *team, int32_t index, int32_t num_tasks) {
    return (int32_t)((int64_t)index * num_tasks / team->size);
}

/* The next task of a member's share, or -1. */
static int32_t take_task(struct member *owner, int32_t num_tasks) {
    const int32_t start = share_start(owner->team, owner->index, num_tasks);
    const int32_t size = share_start(owner->team, owner->index + 1, num_tasks) - start;
    if (atomic_load_explicit(&owner->num_taken, memory_order_relaxed) >= size) return -1;
    int32_t number = atomic_fetch_add_explicit(&owner->num_taken, 1, memory_order_relaxed);
    return number < size ? start + number : -1;
}

int32_t member_next_task(struct member *self, int32_t num_tasks) {
    struct team *team = self->team;
    for (int32_t i = 0; i < team->size; i++) {
        int32_t task = take_task(&team->members[(self->index + i) % team->size], num_tasks);
        if (task >= 0) return task;
    }
    return -1;
}

static void open_barrier(struct team *team) {
    atomic_store_explicit(&team->num_arrived, 0, memory_order_relaxed);
    for (int32_t i = 0; i < team->size; i++)
        atomic_store_explicit(&team->members[i].num_taken, 0, memory_order_relaxed);
    pthread_mutex_lock(&team->mutex);
    atomic_fetch_add_explicit(&team->phase, 1, memory_order_release);
    pthread_cond_broadcast(&team->phase_changed);
    pthread_mutex_unlock(&team->mutex);
}

static void sleep_until_after(struct team *team, unsigned phase) {
    pthread_mutex_lock(&team->mutex);
    while (atomic_load_explicit(&team->phase, memory_order_acquire) == phase)
        pthread_cond_wait(&team->phase_changed, &team->mutex);
    pthread_mutex_unlock(&team->mutex);
}

void member_barrier(struct member *self) {
    struct team *team = self->team;
    unsigned phase = atomic_load_explicit(&team->phase, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&team->num_arrived, 1, memory_order_acq_rel) == team->size - 1) {
        open_barrier(team);
        return;
    }
    for (int32_t i = 0; i < SPINS; i++) {
        if (atomic_load_explicit(&team->phase, memory_order_acquire) != phase) return;
        pause_briefly();
    }
    sleep_until_after(team, phase);
}

/* Returns 0 when the team closes. */
static int32_t wait_for_run(struct team *team, uint32_t num_runs_done) {
    pthread_mutex_lock(&team->mutex);
    while (team->num_runs == num_runs_done && !team->is_closing) pthread_cond_wait(&team->run_started, &team->mutex);
    int32_t is_closing = team->is_closing;
    pthread_mutex_unlock(&team->mutex);
    return !is_closing;
}

static void *serve(void *argument) {
    struct member *member = argument;
    struct team *team = member->team;
    for (uint32_t num_runs_done = 0; wait_for_run(team, num_runs_done); num_runs_done++) {
        team->body(team->context, member);
        member_barrier(member);
    }
    return NULL;
}

void team_run(struct team *team, team_body body, void *context) {
    pthread_mutex_lock(&team->mutex);
    team->body = body;
    team->context = context;
    team->num_runs++;
    pthread_cond_broadcast(&team->run_started);
    pthread_mutex_unlock(&team->mutex);
    body(context, &team->members[0]);
    member_barrier(&team->members[0]);
}

/* Starts the members' threads; returns how many members there are then. */
static int32_t start_members(struct team *team, int32_t size) {
    for (int32_t i = 0; i < size; i++) {
        struct member *member = &team->members[i];
        member->team = team;
        member->index = i;
        if (i > 0 && pthread_create(&member->thread, NULL, serve, member) != 0) return i;
    }
    return size;
}

struct team *team_create(int32_t size) {
    const size_t bytes = sizeof(struct team) + (size_t)size * sizeof(struct member); /* a multiple of the alignment */
    struct team *team = aligned_alloc(CACHE_LINE, bytes);
    if (team == NULL) return NULL;
    memset(team, 0, bytes);
    pthread_mutex_init(&team->mutex, NULL);
    pthread_cond_init(&team->phase_changed, NULL);
    pthread_cond_init(&team->run_started, NULL);
    team->size = start_members(team, size);
    if (team->size == size) return team;
    team_destroy(team);
    return NULL;
}

void team_destroy(struct team *team) {
    pthread_mutex_lock(&team->mutex);
    team->is_closing = 1;
    pthread_cond_broadcast(&team->run_started);
    pthread_mutex_unlock(&team->mutex);
    for (int32_t i = 1; i < team->size; i++) pthread_join(team->members[i].thread, NULL);
    pthread_mutex_destroy(&team->mutex);
    pthread_cond_destroy(&team->phase_changed);
    pthread_cond_destroy(&team->run_started);
    free(team);
}
