/* A team of threads that run one function together, phase after phase.
 *
 * Between two runs the members sleep. Within a run, which takes milliseconds and has some hundred phases, they wait for
 * each other at barriers: first awake for some microseconds, because a sleep would cost more than most phases, then
 * asleep, so that a core that somebody else uses is not waited for at full load.
 */
#ifndef SLM_TEAM_H
#define SLM_TEAM_H

#include <stdint.h>

struct team;
struct member;

typedef void (*team_body)(void *context, struct member *self);

/* `size` members, the caller of team_run() among them. NULL: no memory or no threads. */
struct team *team_create(int32_t size);
void team_destroy(struct team *team);

/* Run body(context, self) on all members, one of them on the calling thread, and wait for all of them. */
void team_run(struct team *team, team_body body, void *context);

int32_t member_index(const struct member *self);
int32_t member_team_size(const struct member *self);

/* A task of this phase, 0 to num_tasks - 1, that no member has taken yet, or -1. All members name the same number. Each
 * begins with a share of its own, so that it reads one stretch of memory in order and meets in the next phase what it
 * left in its caches; then it helps the others, of whom one may have to share its core. */
int32_t member_next_task(struct member *self, int32_t num_tasks);

/* Wait until all members are here. Ends a phase: no task is taken any more. */
void member_barrier(struct member *self);

#endif
