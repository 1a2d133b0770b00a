/* Arithmetic on sizes and indices. */
#ifndef SLM_INTEGERS_H
#define SLM_INTEGERS_H

#include <stdint.h>

static inline int32_t min_int(int32_t a, int32_t b) { return a < b ? a : b; }

static inline int32_t max_int(int32_t a, int32_t b) { return a > b ? a : b; }

static inline int32_t divide_up(int32_t a, int32_t b) { return (a + b - 1) / b; }

#endif
