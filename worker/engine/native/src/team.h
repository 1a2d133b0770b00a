/* A team of threads that run one function together, phase after phase.
 *
 * A phase is a number of tasks. It is over when all its tasks are done, not when all members have been there: a member
 * whose core somebody else uses for a moment is missed only for the task that it holds, and passes by the phases that the
 * others have done meanwhile. Who waits for the last task of a phase stays awake for some microseconds, because a sleep
 * would cost more than most phases, then sleeps, which leaves the core to the one that is waited for. Between two runs
 * all members sleep.
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

int32_t team_size(const struct team *team);

int32_t member_index(const struct member *self);
int32_t member_team_size(const struct member *self);

/* A task of this phase, 0 to num_tasks - 1, that no member has taken yet. When there is none left, waits until all of
 * them are done and returns -1, which ends the phase. All members name the same numbers, phase by phase.
 *
 * Each begins with a share of its own, so that it reads one stretch of memory in order and meets in the next phase what it
 * left in its caches; then it helps the others. */
int32_t member_next_task(struct member *self, int32_t num_tasks);

#endif
