/* Tile products of int8 weights and 16-bit activations in plain C, in loops that compilers vectorise. */
#ifndef SLM_INT8_PRODUCT_H
#define SLM_INT8_PRODUCT_H

#include "int16_packed_row.h"

#define INT8_INTERLEAVE 1
#define INT8_WEIGHT_FLIP 0
#define INT8_TILE_ROWS 4
#define INT8_HEAD_TILE_ROWS INT8_TILE_ROWS
#define INT8_PANEL_ROWS 16

#define int8_packed_row_size int16_packed_row_size
#define int8_head_packed_row_size int16_packed_row_size
#define int8_head_encode int8_encode
#define int8_head_multiply int8_multiply

static void int8_encode(const float *x, int32_t columns, void *packed_row) {
    float largest = 0.0f;
    for (int32_t i = 0; i < columns; i++) largest = fmaxf(largest, fabsf(x[i]));
    float factor = int16_finish_packed_row(largest, columns, packed_row);
    int16_t *values = packed_row;
    for (int32_t i = 0; i < columns; i++) values[i] = (int16_t)lrintf(x[i] * factor);
}

/* sums[INT8_PANEL_ROWS] = one group of a packed row . the group's weights; no overflow: 64 * 32639 * 127 < 2^31 */
static inline void int8_group_sums(const int16_t *values, const int8_t *weights, int32_t *sums) {
    for (int32_t n = 0; n < INT8_PANEL_ROWS; n++) sums[n] = 0;
    for (int32_t k = 0; k < GROUP_COLUMNS; k++)
        for (int32_t n = 0; n < INT8_PANEL_ROWS; n++) sums[n] += values[k] * (int16_t)weights[k * INT8_PANEL_ROWS + n];
}

static void int8_multiply_one(const int16_t *values, float scale, const char *panel, int32_t columns, float *out) {
    const uint16_t *scales = (const uint16_t *)panel;
    const int8_t *weights = (const int8_t *)panel + int8_scales_size(INT8_PANEL_ROWS, columns);
    float totals[INT8_PANEL_ROWS] = {0};
    for (int32_t g = 0; g < int8_groups(columns); g++) {
        int32_t sums[INT8_PANEL_ROWS];
        int8_group_sums(values + g * GROUP_COLUMNS, weights + g * GROUP_COLUMNS * INT8_PANEL_ROWS, sums);
        for (int32_t n = 0; n < INT8_PANEL_ROWS; n++)
            totals[n] += (float)sums[n] * upper_half_to_float(scales[g * INT8_PANEL_ROWS + n]);
    }
    for (int32_t n = 0; n < INT8_PANEL_ROWS; n++) out[n] = totals[n] * scale;
}

static void int8_multiply(const char *packed_rows, size_t packed_row_size, int32_t num_packed_rows, const char *panel,
                          int32_t columns, const struct prefetch *ahead, float *out, size_t stride) {
    (void)ahead;
    for (int32_t r = 0; r < num_packed_rows; r++)
        int8_multiply_one(int16_values(packed_rows, packed_row_size, r), int16_scale(packed_rows, packed_row_size, r),
                          panel, columns, out + (size_t)r * stride);
}

#endif
