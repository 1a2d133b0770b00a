/* Tile products of int8 weights and 16-bit activations with NEON's 8-bit products. Included by the headers that define
 * INT8_INTERLEAVE and the products of eight columns.
 *
 * An activation is 256 * high + low, two signed digits of eight bits. A packed row is one of int16_packed_row.h in
 * another order: of every eight values first the high digits, then the low ones. The sums of integers are exact, and
 * the floats are multiplied and added as in int8_product_portable.h, so all these products give the same bits.
 */
#ifndef SLM_INT8_PRODUCT_NEON_H
#define SLM_INT8_PRODUCT_NEON_H

#include "int16_packed_row.h"

#define INT8_WEIGHT_FLIP 0
/* 3 * 8 sums, 3 vectors of digits and the weights must fit in 32 registers; `totals` may be spilled */
#define INT8_TILE_ROWS 3
#define INT8_HEAD_TILE_ROWS INT8_TILE_ROWS
#define INT8_PANEL_ROWS 16
#define INT8_PANEL_VECTORS 4
#define DIGIT_COLUMNS 8

#define int8_packed_row_size int16_packed_row_size
#define int8_head_packed_row_size int16_packed_row_size
#define int8_head_encode int8_encode
#define int8_head_multiply int8_multiply

static inline int16x4_t int8_round(const float *x, float factor) {
    return vqmovn_s32(vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x), factor)));
}

/* The digits of DIGIT_COLUMNS activations. */
static inline int8x16_t int8_digits(const float *x, float factor) {
    int16x8_t values = vcombine_s16(int8_round(x, factor), int8_round(x + 4, factor));
    return vcombine_s8(vrshrn_n_s16(values, 8), vmovn_s16(values));
}

/* `columns` must be a multiple of 16. A NaN becomes the row's scale. */
static void int8_encode(const float *x, int32_t columns, void *packed_row) {
    float32x4_t largest = vdupq_n_f32(0.0f);
    for (int32_t i = 0; i < columns; i += 4) largest = vmaxq_f32(largest, vabsq_f32(vld1q_f32(x + i)));
    float factor = int16_finish_packed_row(vmaxvq_f32(largest), columns, packed_row);
    int8_t *digits = packed_row;
    for (int32_t i = 0; i < columns; i += DIGIT_COLUMNS) vst1q_s8(digits + 2 * i, int8_digits(x + i, factor));
}

static inline float32x4_t int8_load_scales(const uint16_t *scales) {
    return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(scales), 16));
}

/* The sums of both digits as floats. */
static inline float32x4_t int8_sums(const int32x4_t sums[INT8_ROW_SUMS], int32_t v) {
    return vcvtq_f32_s32(vaddq_s32(int8_digit_sums(sums, v, 1), vshlq_n_s32(int8_digit_sums(sums, v, 0), 8)));
}

/* Inlined with a constant number of packed rows to keep `sums` in registers. */
static inline __attribute__((always_inline)) void int8_tile(const int32_t num_packed_rows, const char *packed_rows,
                                                            size_t packed_row_size, const char *panel, int32_t columns,
                                                            float *out, size_t stride) {
    const uint16_t *scales = (const uint16_t *)panel;
    const int8_t *weights = (const int8_t *)panel + int8_scales_size(INT8_PANEL_ROWS, columns);
    float32x4_t totals[INT8_TILE_ROWS][INT8_PANEL_VECTORS];
    for (int32_t r = 0; r < num_packed_rows; r++)
        for (int32_t v = 0; v < INT8_PANEL_VECTORS; v++) totals[r][v] = vdupq_n_f32(0.0f);
    for (int32_t g = 0; g < int8_groups(columns); g++, scales += INT8_PANEL_ROWS) {
        int32x4_t sums[INT8_TILE_ROWS][INT8_ROW_SUMS];
        for (int32_t r = 0; r < num_packed_rows; r++)
            for (int32_t v = 0; v < INT8_ROW_SUMS; v++) sums[r][v] = vdupq_n_s32(0);
        const int8_t *group = (const int8_t *)packed_rows + (size_t)g * GROUP_COLUMNS * sizeof(int16_t);
        for (int32_t k = 0; k < GROUP_COLUMNS; k += DIGIT_COLUMNS, weights += DIGIT_COLUMNS * INT8_PANEL_ROWS) {
            int8x16_t digits[INT8_TILE_ROWS];
            for (int32_t r = 0; r < num_packed_rows; r++)
                digits[r] = vld1q_s8(group + (size_t)r * packed_row_size + 2 * k);
            int8_add_products(num_packed_rows, digits, weights, sums);
        }
        for (int32_t v = 0; v < INT8_PANEL_VECTORS; v++) {
            float32x4_t weight_scales = int8_load_scales(scales + 4 * v);
            for (int32_t r = 0; r < num_packed_rows; r++)
                totals[r][v] = vaddq_f32(totals[r][v], vmulq_f32(int8_sums(sums[r], v), weight_scales));
        }
    }
    for (int32_t r = 0; r < num_packed_rows; r++) {
        float scale = int16_scale(packed_rows, packed_row_size, r);
        for (int32_t v = 0; v < INT8_PANEL_VECTORS; v++)
            vst1q_f32(out + (size_t)r * stride + 4 * v, vmulq_n_f32(totals[r][v], scale));
    }
}

static void int8_multiply(const char *packed_rows, size_t packed_row_size, int32_t num_packed_rows, const char *panel,
                          int32_t columns, const struct prefetch *ahead, float *out, size_t stride) {
    (void)ahead; /* the panels follow each other, so the processor prefetches them by itself */
    switch (num_packed_rows) {
    case 1: int8_tile(1, packed_rows, packed_row_size, panel, columns, out, stride); break;
    case 2: int8_tile(2, packed_rows, packed_row_size, panel, columns, out, stride); break;
    case 3: int8_tile(3, packed_rows, packed_row_size, panel, columns, out, stride); break;
    }
}

#endif
