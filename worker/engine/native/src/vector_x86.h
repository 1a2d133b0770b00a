/* The operations that AVX2 and AVX-512 have under the same names. Include it after the definitions of `vec` and X86(name),
 * which gives an intrinsic's name the prefix of the set. */
#ifndef SLM_VECTOR_X86_H
#define SLM_VECTOR_X86_H

static inline vec vec_load(const float *p) { return X86(loadu_ps)(p); }
static inline void vec_store(float *p, vec v) { X86(storeu_ps)(p, v); }

static inline vec vec_set(float x) { return X86(set1_ps)(x); }
static inline vec vec_add(vec a, vec b) { return X86(add_ps)(a, b); }
static inline vec vec_sub(vec a, vec b) { return X86(sub_ps)(a, b); }
static inline vec vec_mul(vec a, vec b) { return X86(mul_ps)(a, b); }
static inline vec vec_div(vec a, vec b) { return X86(div_ps)(a, b); }
static inline vec vec_fma(vec a, vec b, vec c) { return X86(fmadd_ps)(a, b, c); }
static inline vec vec_max(vec a, vec b) { return X86(max_ps)(a, b); }
static inline vec vec_min(vec a, vec b) { return X86(min_ps)(a, b); }

#endif
