/* A thread pool that runs one function on all threads, phase by phase.
 *
 * A phase is a number of tasks. It ends when all its tasks are done, not when all threads have reached it: a thread
 * that loses its core for a moment delays only the task that it holds, and skips the phases that the others have
 * finished meanwhile. A thread that waits for the last task of a phase first spins for some microseconds, because a
 * sleep would cost more than most phases, and then sleeps, which leaves its core to the thread that it waits for.
 * Between two runs all threads sleep.
 */
#ifndef SLM_THREAD_POOL_H
#define SLM_THREAD_POOL_H

#include <stdint.h>

struct pool;
struct member;

typedef void (*thread_pool_body)(void *context, struct member *self);

/* Create a pool of `size` threads, including the caller of thread_pool_run(). NULL: no memory or no threads. */
struct pool *thread_pool_create(int32_t size);
void thread_pool_destroy(struct pool *pool);

/* Run body(context, self) on all threads, including the calling one, and wait for all of them. */
void thread_pool_run(struct pool *pool, thread_pool_body body, void *context);

int32_t thread_pool_size(const struct pool *pool);

int32_t member_index(const struct member *self);
int32_t member_pool_size(const struct member *self);

/* Tasks `start` to `end` - 1. */
struct task_range {
    int32_t start, end;
};

/* The share of a phase's tasks with which a thread starts. */
struct task_range member_share(const struct member *self, int32_t num_tasks);

/* Take a task of this phase, 0 to num_tasks - 1, that no other thread has taken. If none is left, wait until all tasks
 * are done and return -1, which ends the phase. All threads must pass the same num_tasks in the same phase.
 *
 * Each thread starts with its own share of the tasks, so that it reads contiguous memory and finds its data of the last
 * phase in its caches; then it helps the others. */
int32_t member_next_task(struct member *self, int32_t num_tasks);

#endif
