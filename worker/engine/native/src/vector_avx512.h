/* Vectors of sixteen floats: AVX-512. */
#ifndef SLM_VECTOR_H
#define SLM_VECTOR_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define LANES 16
#define VECTOR_FLOATS 512

typedef __m512 vec;
#define X86(name) _mm512_##name

#include "vector_x86.h"

#define VECTOR_HAS_HALF
static inline vec vec_load_half(const uint16_t *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p)); }
static inline void vec_store_half(uint16_t *p, vec v) {
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
/* The first, or the second, bfloat16 of each pair as a float. */
static inline vec vec_load_first(const void *pairs) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_loadu_si512(pairs), 16));
}
static inline vec vec_load_second(const void *pairs) {
    return _mm512_castsi512_ps(_mm512_and_si512(_mm512_loadu_si512(pairs), _mm512_set1_epi32((int32_t)0xffff0000)));
}
static inline vec vec_load_int8(const int8_t *p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
}
static inline vec vec_abs(vec a) { return _mm512_abs_ps(a); }

/* value where x >= low, else 0. */
static inline vec vec_zero_below(vec x, vec low, vec value) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, low, _CMP_GE_OQ), value);
}

static inline vec vec_round(vec x) { return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }

/* 2^n for integral n in -126..127 */
static inline vec vec_exp2_integral(vec n) {
    __m512i exponent = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
    return _mm512_castsi512_ps(_mm512_slli_epi32(exponent, 23));
}

static inline float vec_sum(vec v) { return _mm512_reduce_add_ps(v); }
static inline float vec_largest(vec v) { return _mm512_reduce_max_ps(v); }

#endif
