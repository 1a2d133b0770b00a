/* The layout of an int8 panel. */
#ifndef SLM_INT8_PANEL_H
#define SLM_INT8_PANEL_H

#include <string.h>

#include "kernels.h"

static inline int32_t int8_groups(int32_t columns) { return (columns + GROUP_COLUMNS - 1) / GROUP_COLUMNS; }

/* Size of the scales at the start of a panel in bytes. */
static inline size_t int8_scales_size(int32_t panel_rows, int32_t columns) {
    size_t size = (size_t)(int8_groups(columns) * panel_rows) * sizeof(uint16_t);
    return (size + PACKED_ROW_ALIGNMENT - 1) / PACKED_ROW_ALIGNMENT * PACKED_ROW_ALIGNMENT;
}

static inline size_t int8_panel_size(int32_t panel_rows, int32_t columns) {
    return int8_scales_size(panel_rows, columns) + (size_t)(int8_groups(columns) * panel_rows) * GROUP_COLUMNS;
}

/* Convert the upper half of a float (bfloat16) to a float. */
static inline float upper_half_to_float(uint16_t half) {
    uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

#endif
