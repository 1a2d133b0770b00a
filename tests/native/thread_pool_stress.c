/* Runs random phases. Each task adds up the results of the phase before it, so a task that is done twice, never or too
 * early changes the sums. Arguments: threads, runs. Prints the first error and returns 1. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "thread_pool.h"

#define PHASES 200
#define MAX_TASKS 20

static int num_tasks[PHASES];

static long expected_sum(const long sums[PHASES][MAX_TASKS], int phase, int task, long start) {
    long sum = start;
    for (int i = 0; phase > 0 && i < num_tasks[phase - 1]; i++) sum += sums[phase - 1][i];
    return sum % 1000003 + task + 1;
}

struct run {
    long start;
    long sums[PHASES][MAX_TASKS];
};

static void do_phases(void *context, struct member *self) {
    struct run *run = context;
    for (int phase = 0; phase < PHASES; phase++)
        for (int32_t task; (task = member_next_task(self, num_tasks[phase])) >= 0;) {
            run->sums[phase][task] += expected_sum(run->sums, phase, task, run->start);
            for (volatile int i = 0; i < (task * 37) % 200; i++) continue; /* tasks of different lengths */
        }
}

int main(int argc, char **argv) {
    static struct run run, expected;
    const int threads = atoi(argv[argc - 2]), runs = atoi(argv[argc - 1]);
    struct pool *pool = thread_pool_create(threads);
    srand(5);
    for (int number = 0; number < runs; number++) {
        for (int phase = 0; phase < PHASES; phase++) num_tasks[phase] = rand() % 5 == 0 ? 0 : rand() % MAX_TASKS;
        memset(&run, 0, sizeof run);
        memset(&expected, 0, sizeof expected);
        run.start = expected.start = number;
        for (int phase = 0; phase < PHASES; phase++)
            for (int task = 0; task < num_tasks[phase]; task++)
                expected.sums[phase][task] = expected_sum(expected.sums, phase, task, number);
        thread_pool_run(pool, do_phases, &run);
        if (memcmp(&run, &expected, sizeof run) != 0) {
            printf("run %d of %d threads has other sums\n", number, threads);
            return 1;
        }
    }
    thread_pool_destroy(pool);
    return 0;
}
