/* Vectors of eight floats: AVX2 with FMA and F16C. */
#ifndef SLM_VECTOR_H
#define SLM_VECTOR_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define LANES 8
#define VECTOR_FLOATS 128

typedef __m256 vec;
#define X86(name) _mm256_##name

#include "vector_x86.h"

#define VECTOR_HAS_HALF
static inline vec vec_load_half(const uint16_t *p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)); }
static inline void vec_store_half(uint16_t *p, vec v) {
    _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
/* The first, or the second, bfloat16 of each pair as a float. */
static inline vec vec_load_first(const void *pairs) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_loadu_si256(pairs), 16));
}
static inline vec vec_load_second(const void *pairs) {
    return _mm256_castsi256_ps(_mm256_and_si256(_mm256_loadu_si256(pairs), _mm256_set1_epi32((int32_t)0xffff0000)));
}
static inline vec vec_load_int8(const int8_t *p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p)));
}
static inline vec vec_abs(vec a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }

/* value where x >= low, else 0. */
static inline vec vec_zero_below(vec x, vec low, vec value) {
    return _mm256_and_ps(value, _mm256_cmp_ps(x, low, _CMP_GE_OQ));
}

static inline vec vec_round(vec x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }

/* 2^n for integral n in -126..127 */
static inline vec vec_exp2_integral(vec n) {
    __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    return _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23));
}

static inline float vec_sum(vec v) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

static inline float vec_largest(vec v) {
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}

#endif
