#include "team.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define SPINS 2000 /* about ten microseconds */
#define CACHE_LINE 64

struct member {
    /* The number of tasks taken from this thread's share; the upper half holds the number of the phase, so that a late
     * thread takes no task of another phase. */
    _Alignas(CACHE_LINE) atomic_uint_least64_t taken;
    struct team *team;
    pthread_t thread;
    int32_t index;
    uint32_t phase;   /* its current phase; less than team->phase if it is late */
    int32_t num_done; /* finished tasks of this phase, not yet added to the pool's count */
};

struct team {
    int32_t size;
    atomic_int num_done; /* finished tasks of this phase; at the end of a run, threads that have left it */
    atomic_uint phase;   /* number of finished phases */
    atomic_int num_asleep;
    pthread_mutex_t mutex; /* guards the following fields, and falling asleep */
    pthread_cond_t phase_changed, run_started;
    uint32_t num_runs;
    int32_t is_closing;
    team_body body;
    void *context;
    struct member members[]; /* [size]; the first is the calling thread */
};

static inline void pause_briefly(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

int32_t member_index(const struct member *self) { return self->index; }

int32_t team_size(const struct team *team) { return team->size; }

int32_t member_team_size(const struct member *self) { return team_size(self->team); }

/* Return the first task of a thread's share; num_tasks for index `size`. */
static int32_t share_start(const struct team *team, int32_t index, int32_t num_tasks) {
    return (int32_t)((int64_t)index * num_tasks / team->size);
}

/* Take the next task of the owner's share in the given phase; -1 if there is none. */
static int32_t take_task(struct member *owner, uint32_t phase, int32_t num_tasks) {
    const int32_t start = share_start(owner->team, owner->index, num_tasks);
    const int32_t size = share_start(owner->team, owner->index + 1, num_tasks) - start;
    uint_least64_t taken = atomic_load_explicit(&owner->taken, memory_order_relaxed);
    do {
        if ((uint32_t)(taken >> 32) != phase || (int32_t)(uint32_t)taken >= size) return -1;
    } while (!atomic_compare_exchange_weak_explicit(&owner->taken, &taken, taken + 1, memory_order_relaxed,
                                                    memory_order_relaxed));
    return start + (int32_t)(uint32_t)taken;
}

/* Called by the thread that counts the last task of the phase, while the others wait. */
static void begin_next_phase(struct team *team) {
    const uint32_t phase = atomic_load_explicit(&team->phase, memory_order_relaxed) + 1;
    for (int32_t i = 0; i < team->size; i++)
        atomic_store_explicit(&team->members[i].taken, (uint_least64_t)phase << 32, memory_order_relaxed);
    atomic_store_explicit(&team->num_done, 0, memory_order_relaxed);
    atomic_store(&team->phase, phase);
    if (atomic_load(&team->num_asleep) == 0) return; /* a thread about to sleep will see the new phase */
    pthread_mutex_lock(&team->mutex);
    pthread_cond_broadcast(&team->phase_changed);
    pthread_mutex_unlock(&team->mutex);
}

static void sleep_until_after(struct team *team, uint32_t phase) {
    pthread_mutex_lock(&team->mutex);
    atomic_fetch_add(&team->num_asleep, 1);
    while (atomic_load(&team->phase) == phase) pthread_cond_wait(&team->phase_changed, &team->mutex);
    atomic_fetch_sub(&team->num_asleep, 1);
    pthread_mutex_unlock(&team->mutex);
}

static void wait_until_after(struct team *team, uint32_t phase) {
    for (int32_t i = 0; i < SPINS; i++) {
        if (atomic_load_explicit(&team->phase, memory_order_acquire) != phase) return;
        pause_briefly();
    }
    sleep_until_after(team, phase);
}

/* Add the thread's finished tasks to the count of a phase that ends at `total`, and enter the next phase. */
static void finish_phase(struct member *self, int32_t total) {
    struct team *team = self->team;
    const int32_t num_done = self->num_done;
    self->num_done = 0;
    if (num_done > 0 && atomic_fetch_add_explicit(&team->num_done, num_done, memory_order_acq_rel) + num_done == total)
        begin_next_phase(team);
    else
        wait_until_after(team, self->phase);
    self->phase++;
}

int32_t member_next_task(struct member *self, int32_t num_tasks) {
    struct team *team = self->team;
    for (int32_t i = 0; i < team->size; i++) {
        int32_t task = take_task(&team->members[(self->index + i) % team->size], self->phase, num_tasks);
        if (task < 0) continue;
        self->num_done++;
        return task;
    }
    if (num_tasks > 0) finish_phase(self, num_tasks);
    return -1;
}

/* Run the body and wait for all threads: none may still be skipping old phases when the next run is prepared. */
static void take_part(struct member *self, team_body body, void *context) {
    body(context, self);
    self->num_done = 1;
    finish_phase(self, self->team->size);
}

/* Returns 0 if the pool is closing. */
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
    for (uint32_t num_runs_done = 0; wait_for_run(team, num_runs_done); num_runs_done++)
        take_part(member, team->body, team->context);
    return NULL;
}

void team_run(struct team *team, team_body body, void *context) {
    pthread_mutex_lock(&team->mutex);
    team->body = body;
    team->context = context;
    team->num_runs++;
    pthread_cond_broadcast(&team->run_started);
    pthread_mutex_unlock(&team->mutex);
    take_part(&team->members[0], body, context);
}

/* Start the threads; return how many members the pool has then. */
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
    team->size = size;
    const int32_t num_started = start_members(team, size);
    if (num_started == size) return team;
    team->size = num_started;
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
