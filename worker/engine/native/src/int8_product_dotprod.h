/* Products of int8 weights and two-digit activations with sdot: a vector of weights has four columns of four rows. */
#ifndef SLM_INT8_PRODUCT_H
#define SLM_INT8_PRODUCT_H

#include <arm_neon.h>

#define INT8_INTERLEAVE 4
#define INT8_ROW_SUMS 8 /* four vectors of the products of the high digits, then four of the low ones */

/* Add the products of eight columns: digits[num_packed_rows], weights of 2 * 4 columns. */
static inline __attribute__((always_inline)) void int8_add_products(const int32_t num_packed_rows,
                                                                    const int8x16_t *digits, const int8_t *weights,
                                                                    int32x4_t sums[][INT8_ROW_SUMS]) {
    for (int32_t v = 0; v < 4; v++) {
        int8x16_t first = vld1q_s8(weights + v * 16), second = vld1q_s8(weights + v * 16 + 64);
        for (int32_t r = 0; r < num_packed_rows; r++) {
            sums[r][v] = vdotq_laneq_s32(sums[r][v], first, digits[r], 0);
            sums[r][4 + v] = vdotq_laneq_s32(sums[r][4 + v], first, digits[r], 2);
            sums[r][v] = vdotq_laneq_s32(sums[r][v], second, digits[r], 1);
            sums[r][4 + v] = vdotq_laneq_s32(sums[r][4 + v], second, digits[r], 3);
        }
    }
}

/* The sums of the high digits (digit 0) or the low ones (digit 1) for rows 4 * v to 4 * v + 3 of the panel. */
static inline int32x4_t int8_digit_sums(const int32x4_t sums[INT8_ROW_SUMS], int32_t v, int32_t digit) {
    return sums[4 * digit + v];
}

#include "int8_product_neon.h"

#endif
