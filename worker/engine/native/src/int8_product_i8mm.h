/* Products of int8 weights and two-digit activations with smmla, which multiplies two matrices [2][8]: here both digits
 * of eight activations, and eight columns of two rows of weights. So a single packed row uses it fully. */
#ifndef SLM_INT8_PRODUCT_H
#define SLM_INT8_PRODUCT_H

#include <arm_neon.h>

#define INT8_INTERLEAVE 8
#define INT8_ROW_SUMS 8 /* each of two rows of the panel: two sums of the high digits, then two of the low ones */

/* Add the products of eight columns: digits[num_packed_rows], weights of eight columns. */
static inline __attribute__((always_inline)) void int8_add_products(const int32_t num_packed_rows,
                                                                    const int8x16_t *digits, const int8_t *weights,
                                                                    int32x4_t sums[][INT8_ROW_SUMS]) {
    for (int32_t v = 0; v < INT8_ROW_SUMS; v++) {
        int8x16_t two_rows = vld1q_s8(weights + v * 16);
        for (int32_t r = 0; r < num_packed_rows; r++) sums[r][v] = vmmlaq_s32(sums[r][v], digits[r], two_rows);
    }
}

/* The sums of the high digits (digit 0) or the low ones (digit 1) for rows 4 * v to 4 * v + 3 of the panel. */
static inline int32x4_t int8_digit_sums(const int32x4_t sums[INT8_ROW_SUMS], int32_t v, int32_t digit) {
    int64x2_t first = vreinterpretq_s64_s32(sums[2 * v]), second = vreinterpretq_s64_s32(sums[2 * v + 1]);
    return vreinterpretq_s32_s64(digit == 0 ? vzip1q_s64(first, second) : vzip2q_s64(first, second));
}

#include "int8_product_neon.h"

#endif
