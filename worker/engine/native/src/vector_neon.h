/* Vectors of four floats: NEON. Apart from half floats, the results are those of the portable vectors to the bit. */
#ifndef SLM_VECTOR_H
#define SLM_VECTOR_H

#include <arm_neon.h>

#include "vector_four.h"

#define VECTOR_FLOATS 128

#define VECTOR_HAS_HALF
static inline vec vec_load_half(const uint16_t *p) { return (vec)vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))); }
static inline void vec_store_half(uint16_t *p, vec v) {
    vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32((float32x4_t)v)));
}
static inline vec vec_min(vec a, vec b) {
    vec_int less = a < b;
    return (vec)(((vec_int)a & less) | ((vec_int)b & ~less));
}

static inline vec vec_load_int8(const int8_t *p) {
    int32_t four;
    memcpy(&four, p, sizeof four);
    int16x8_t values = vmovl_s8(vreinterpret_s8_s32(vdup_n_s32(four)));
    return (vec)vcvtq_f32_s32(vmovl_s16(vget_low_s16(values)));
}

#endif
