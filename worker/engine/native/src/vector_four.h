/* The operations on vectors of four floats that compilers translate well without intrinsics, for any CPU. */
#ifndef SLM_VECTOR_FOUR_H
#define SLM_VECTOR_FOUR_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#define LANES 4

typedef float vec __attribute__((vector_size(4 * LANES)));
typedef int32_t vec_int __attribute__((vector_size(4 * LANES)));
typedef uint32_t vec_bits __attribute__((vector_size(4 * LANES)));

static inline vec vec_load(const float *p) {
    vec v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline void vec_store(float *p, vec v) { memcpy(p, &v, sizeof v); }

/* The first, or the second, bfloat16 of each pair as a float. */
static inline vec vec_load_first(const void *pairs) {
    vec_bits v;
    memcpy(&v, pairs, sizeof v);
    return (vec)(v << 16);
}

static inline vec vec_load_second(const void *pairs) {
    vec_bits v;
    memcpy(&v, pairs, sizeof v);
    return (vec)(v & 0xffff0000);
}

static inline vec vec_set(float x) { return (vec){x, x, x, x}; }

static inline vec vec_add(vec a, vec b) { return a + b; }
static inline vec vec_sub(vec a, vec b) { return a - b; }
static inline vec vec_mul(vec a, vec b) { return a * b; }
static inline vec vec_div(vec a, vec b) { return a / b; }

/* a * b + c, rounded once if the CPU has an instruction for it. */
static inline vec vec_fma(vec a, vec b, vec c) {
#ifdef FP_FAST_FMAF
    vec r;
    for (int i = 0; i < LANES; i++) r[i] = fmaf(a[i], b[i], c[i]);
    return r;
#else
    return a * b + c;
#endif
}

static inline vec vec_max(vec a, vec b) {
    vec_int greater = a > b;
    return (vec)(((vec_int)a & greater) | ((vec_int)b & ~greater));
}

static inline vec vec_abs(vec a) { return (vec)((vec_int)a & 0x7fffffff); }

/* value where x >= low, else 0. */
static inline vec vec_zero_below(vec x, vec low, vec value) { return (vec)((vec_int)value & (x >= low)); }

/* Nearest integer, ties to even: adding 1.5 * 2^23 leaves no bits for a fraction. |x| < 2^22 */
static inline vec vec_round(vec x) {
    const vec magic = vec_set(12582912.0f);
    return (x + magic) - magic;
}

/* 2^n for integral n in -126..127 */
static inline vec vec_exp2_integral(vec n) { return (vec)((__builtin_convertvector(n, vec_int) + 127) << 23); }

static inline float vec_sum(vec v) { return (v[0] + v[2]) + (v[1] + v[3]); }

static inline float vec_largest(vec v) { return fmaxf(fmaxf(v[0], v[2]), fmaxf(v[1], v[3])); }

#endif
