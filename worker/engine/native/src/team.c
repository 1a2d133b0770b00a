#include "team.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#define SPINS 4000 /* some ten microseconds */

struct member {
    struct team *team;
    pthread_t thread;
    int32_t index;
};

struct team {
    int32_t size;
    atomic_int next_task;
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

int32_t team_size(const struct team *team) { return team->size; }

int32_t team_next_task(struct team *team) {
    return atomic_fetch_add_explicit(&team->next_task, 1, memory_order_relaxed);
}

static void open_barrier(struct team *team) {
    atomic_store_explicit(&team->num_arrived, 0, memory_order_relaxed);
    atomic_store_explicit(&team->next_task, 0, memory_order_relaxed);
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

void team_barrier(struct team *team) {
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
        team->body(team->context, member->index);
        team_barrier(team);
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
    body(context, 0);
    team_barrier(team);
}

/* Starts the members' threads; returns how many members there are then. */
static int32_t start_members(struct team *team, int32_t size) {
    for (int32_t i = 1; i < size; i++) {
        struct member *member = &team->members[i];
        *member = (struct member){.team = team, .index = i};
        if (pthread_create(&member->thread, NULL, serve, member) != 0) return i;
    }
    return size;
}

struct team *team_create(int32_t size) {
    struct team *team = calloc(1, sizeof *team + (size_t)size * sizeof(struct member));
    if (team == NULL) return NULL;
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
