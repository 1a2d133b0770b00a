#include "thread_pool.h"

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
    struct pool *pool;
    pthread_t thread;
    int32_t index;
    uint32_t phase;   /* its current phase; less than pool->phase if it is late */
    int32_t num_done; /* finished tasks of this phase, not yet added to the pool's count */
};

struct pool {
    int32_t size;
    atomic_int num_done; /* finished tasks of this phase; at the end of a run, threads that have left it */
    atomic_uint phase;   /* number of finished phases */
    atomic_int num_asleep;
    pthread_mutex_t mutex; /* guards the following fields, and falling asleep */
    pthread_cond_t phase_changed, run_started;
    uint32_t num_runs;
    int32_t is_closing;
    thread_pool_body body;
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

int32_t thread_pool_size(const struct pool *pool) { return pool->size; }

int32_t member_pool_size(const struct member *self) { return thread_pool_size(self->pool); }

/* Return the first task of a thread's share; num_tasks for index `size`. */
static int32_t share_start(const struct pool *pool, int32_t index, int32_t num_tasks) {
    return (int32_t)((int64_t)index * num_tasks / pool->size);
}

struct task_range member_share(const struct member *self, int32_t num_tasks) {
    return (struct task_range){.start = share_start(self->pool, self->index, num_tasks),
                               .end = share_start(self->pool, self->index + 1, num_tasks)};
}

/* Take the next task of the owner's share in the given phase; -1 if there is none. */
static int32_t take_task(struct member *owner, uint32_t phase, int32_t num_tasks) {
    const struct task_range share = member_share(owner, num_tasks);
    uint_least64_t taken = atomic_load_explicit(&owner->taken, memory_order_relaxed);
    do {
        if ((uint32_t)(taken >> 32) != phase || (int32_t)(uint32_t)taken >= share.end - share.start) return -1;
    } while (!atomic_compare_exchange_weak_explicit(&owner->taken, &taken, taken + 1, memory_order_relaxed,
                                                    memory_order_relaxed));
    return share.start + (int32_t)(uint32_t)taken;
}

/* Called by the thread that counts the last task of the phase, while the others wait. */
static void begin_next_phase(struct pool *pool) {
    const uint32_t phase = atomic_load_explicit(&pool->phase, memory_order_relaxed) + 1;
    for (int32_t i = 0; i < pool->size; i++)
        atomic_store_explicit(&pool->members[i].taken, (uint_least64_t)phase << 32, memory_order_relaxed);
    atomic_store_explicit(&pool->num_done, 0, memory_order_relaxed);
    atomic_store(&pool->phase, phase);
    if (atomic_load(&pool->num_asleep) == 0) return; /* a thread about to sleep will see the new phase */
    pthread_mutex_lock(&pool->mutex);
    pthread_cond_broadcast(&pool->phase_changed);
    pthread_mutex_unlock(&pool->mutex);
}

static void sleep_until_after(struct pool *pool, uint32_t phase) {
    pthread_mutex_lock(&pool->mutex);
    atomic_fetch_add(&pool->num_asleep, 1);
    while (atomic_load(&pool->phase) == phase) pthread_cond_wait(&pool->phase_changed, &pool->mutex);
    atomic_fetch_sub(&pool->num_asleep, 1);
    pthread_mutex_unlock(&pool->mutex);
}

static void wait_until_after(struct pool *pool, uint32_t phase) {
    for (int32_t i = 0; i < SPINS; i++) {
        if (atomic_load_explicit(&pool->phase, memory_order_acquire) != phase) return;
        pause_briefly();
    }
    sleep_until_after(pool, phase);
}

/* Add the thread's finished tasks to the count of a phase that ends at `total`, and enter the next phase. */
static void finish_phase(struct member *self, int32_t total) {
    struct pool *pool = self->pool;
    const int32_t num_done = self->num_done;
    self->num_done = 0;
    if (num_done > 0 && atomic_fetch_add_explicit(&pool->num_done, num_done, memory_order_acq_rel) + num_done == total)
        begin_next_phase(pool);
    else
        wait_until_after(pool, self->phase);
    self->phase++;
}

int32_t member_next_task(struct member *self, int32_t num_tasks) {
    struct pool *pool = self->pool;
    for (int32_t i = 0; i < pool->size; i++) {
        int32_t task = take_task(&pool->members[(self->index + i) % pool->size], self->phase, num_tasks);
        if (task < 0) continue;
        self->num_done++;
        return task;
    }
    if (num_tasks > 0) finish_phase(self, num_tasks);
    return -1;
}

/* Run the body and wait for all threads: none may still be skipping old phases when the next run is prepared. */
static void run_body(struct member *self, thread_pool_body body, void *context) {
    body(context, self);
    self->num_done = 1;
    finish_phase(self, self->pool->size);
}

/* Returns 0 if the pool is closing. */
static int32_t wait_for_run(struct pool *pool, uint32_t num_runs_done) {
    pthread_mutex_lock(&pool->mutex);
    while (pool->num_runs == num_runs_done && !pool->is_closing) pthread_cond_wait(&pool->run_started, &pool->mutex);
    int32_t is_closing = pool->is_closing;
    pthread_mutex_unlock(&pool->mutex);
    return !is_closing;
}

static void *thread_main(void *argument) {
    struct member *member = argument;
    struct pool *pool = member->pool;
    for (uint32_t num_runs_done = 0; wait_for_run(pool, num_runs_done); num_runs_done++)
        run_body(member, pool->body, pool->context);
    return NULL;
}

void thread_pool_run(struct pool *pool, thread_pool_body body, void *context) {
    pthread_mutex_lock(&pool->mutex);
    pool->body = body;
    pool->context = context;
    pool->num_runs++;
    pthread_cond_broadcast(&pool->run_started);
    pthread_mutex_unlock(&pool->mutex);
    run_body(&pool->members[0], body, context);
}

/* Start the threads; return how many members the pool has then. */
static int32_t start_members(struct pool *pool, int32_t size) {
    for (int32_t i = 0; i < size; i++) {
        struct member *member = &pool->members[i];
        member->pool = pool;
        member->index = i;
        if (i > 0 && pthread_create(&member->thread, NULL, thread_main, member) != 0) return i;
    }
    return size;
}

struct pool *thread_pool_create(int32_t size) {
    const size_t bytes = sizeof(struct pool) + (size_t)size * sizeof(struct member); /* a multiple of the alignment */
    struct pool *pool = aligned_alloc(CACHE_LINE, bytes);
    if (pool == NULL) return NULL;
    memset(pool, 0, bytes);
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->phase_changed, NULL);
    pthread_cond_init(&pool->run_started, NULL);
    pool->size = size;
    const int32_t num_started = start_members(pool, size);
    if (num_started == size) return pool;
    pool->size = num_started;
    thread_pool_destroy(pool);
    return NULL;
}

void thread_pool_destroy(struct pool *pool) {
    pthread_mutex_lock(&pool->mutex);
    pool->is_closing = 1;
    pthread_cond_broadcast(&pool->run_started);
    pthread_mutex_unlock(&pool->mutex);
    for (int32_t i = 1; i < pool->size; i++) pthread_join(pool->members[i].thread, NULL);
    pthread_mutex_destroy(&pool->mutex);
    pthread_cond_destroy(&pool->phase_changed);
    pthread_cond_destroy(&pool->run_started);
    free(pool);
}
