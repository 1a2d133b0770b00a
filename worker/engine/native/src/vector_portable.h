/* Vectors of four floats in plain C, the size of SSE2 and NEON registers. */
#ifndef SLM_VECTOR_H
#define SLM_VECTOR_H

#include "vector_four.h"

#define VECTOR_FLOATS 64

static inline vec vec_load_int8(const int8_t *p) {
    return __builtin_convertvector((vec_int){p[0], p[1], p[2], p[3]}, vec);
}

#endif
