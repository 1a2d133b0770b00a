#include "pack.h"

#include <math.h>
#include <string.h>

#include "int8_panel.h"
#include "slm_native.h"

size_t panel_size(int32_t precision, int32_t columns) {
    return precision == SLM_INT8 ? int8_panel_size(columns) : (size_t)columns * PANEL_ROWS * sizeof(float);
}

size_t slm_packed_size(const char *kernels, int32_t precision, int32_t rows, int32_t columns) {
    if (find_kernels(kernels) == NULL) return 0;
    return (size_t)((rows + PANEL_ROWS - 1) / PANEL_ROWS) * panel_size(precision, columns);
}

static void pack_fp32_row(char *panel, int32_t lane, const float *weights, int32_t columns) {
    float *values = (float *)panel + lane;
    for (int32_t k = 0; k < columns; k++) values[k * PANEL_ROWS] = weights[k];
}

/* The upper half of the least float with an empty lower half that is not below `value`: rounding down would let the
 * largest weight exceed 127 steps. */
static uint16_t upper_half_above(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (uint16_t)((bits + 0xffff) >> 16);
}

static uint16_t group_scale(const float *weights, int32_t length) {
    float largest = 0.0f;
    for (int32_t k = 0; k < length; k++) largest = fmaxf(largest, fabsf(weights[k]));
    return upper_half_above(largest / 127.0f);
}

static void pack_int8_row(const struct product *product, char *panel, int32_t lane, const float *weights,
                          int32_t columns) {
    uint16_t *scales = (uint16_t *)panel + lane;
    uint8_t *values = (uint8_t *)panel + int8_scales_size(columns);
    const int32_t interleave = product->interleave;
    for (int32_t k = 0; k < int8_groups(columns) * GROUP_COLUMNS; k++) {
        int32_t group = k / GROUP_COLUMNS, length = columns - k < GROUP_COLUMNS ? columns - k : GROUP_COLUMNS;
        if (k % GROUP_COLUMNS == 0) scales[group * PANEL_ROWS] = group_scale(weights + k, length);
        float scale = upper_half_to_float(scales[group * PANEL_ROWS]);
        int32_t value = k < columns && scale > 0.0f ? (int32_t)lrintf(weights[k] / scale) : 0;
        values[(k / interleave * PANEL_ROWS + lane) * interleave + k % interleave] =
            (uint8_t)((uint32_t)value ^ (uint32_t)product->weight_flip);
    }
}

int32_t slm_pack_rows(const char *kernels, int32_t precision, void *packed, const float *weights, int32_t first_row,
                      int32_t num_rows, int32_t columns) {
    const struct kernels *set = find_kernels(kernels);
    if (set == NULL) return 0;
    for (int32_t i = 0; i < num_rows; i++) {
        int32_t row = first_row + i;
        char *panel = (char *)packed + (size_t)(row / PANEL_ROWS) * panel_size(precision, columns);
        const float *row_weights = weights + (size_t)i * (size_t)columns;
        if (precision == SLM_INT8)
            pack_int8_row(&set->int8, panel, row % PANEL_ROWS, row_weights, columns);
        else
            pack_fp32_row(panel, row % PANEL_ROWS, row_weights, columns);
    }
    return 1;
}
