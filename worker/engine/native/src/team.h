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

typedef void (*team_body)(void *context, int32_t member);

/* `size` members, the caller of team_run() among them. NULL: no memory or no threads. */
struct team *team_create(int32_t size);
void team_destroy(struct team *team);

int32_t team_size(const struct team *team);

/* Run body(context, member) on all members, member 0 on the calling thread, and wait for all of them. */
void team_run(struct team *team, team_body body, void *context);

/* The next task of this phase that no member has taken yet: 0, 1, 2, ... The caller stops at its own number of tasks. */
int32_t team_next_task(struct team *team);

/* Wait until all members are here. Ends a phase: the tasks are counted from 0 again. */
void team_barrier(struct team *team);

#endif
