/* Packed rows of 16-bit activations: int16 [groups * GROUP_COLUMNS], zero after the columns, then the row's float
 * scale.
 *
 * Without a fused 8-bit dot product in the instruction set, 16-bit products cost no more than 8-bit products that do
 * not saturate, and with one scale per row their error is negligible.
 */
#ifndef SLM_INT16_PACKED_ROW_H
#define SLM_INT16_PACKED_ROW_H

#include "int8_panel.h"

static size_t int16_packed_row_size(int32_t columns) {
    return (size_t)int8_groups(columns) * GROUP_COLUMNS * sizeof(int16_t) + PACKED_ROW_ALIGNMENT;
}

static inline const int16_t *int16_values(const char *packed_rows, size_t packed_row_size, int32_t packed_row) {
    return (const int16_t *)(packed_rows + (size_t)packed_row * packed_row_size);
}

static inline float int16_scale(const char *packed_rows, size_t packed_row_size, int32_t packed_row) {
    float scale;
    memcpy(&scale, packed_rows + (size_t)(packed_row + 1) * packed_row_size - PACKED_ROW_ALIGNMENT, sizeof scale);
    return scale;
}

/* The largest number of two signed digits of eight bits, because NEON multiplies these. */
#define INT16_LARGEST (127 * 256 + 127)

/* Store the row's scale and clear the values after its columns; return the factor from a float to its integer. */
static inline float int16_finish_packed_row(float largest, int32_t columns, void *packed_row) {
    float scale = largest / (float)INT16_LARGEST;
    int16_t *values = packed_row;
    size_t padded = (size_t)int8_groups(columns) * GROUP_COLUMNS;
    memset(values + columns, 0, (padded - (size_t)columns) * sizeof(int16_t));
    memcpy(values + padded, &scale, sizeof scale);
    return largest > 0.0f ? (float)INT16_LARGEST / largest : 0.0f;
}

#endif
