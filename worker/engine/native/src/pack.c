#include "pack.h"

#include <string.h>

#include "int8_panel.h"
#include "slm_native.h"

size_t panel_size(const struct product *product, int32_t precision, int32_t columns) {
    if (precision == SLM_INT8) return int8_panel_size(product->panel_rows, columns);
    return (size_t)(columns * product->panel_rows) * sizeof(float);
}

static const struct product *product_of(const struct kernels *set, int32_t precision) {
    return precision == SLM_INT8 ? &set->int8 : &set->fp32;
}

size_t slm_packed_size(const char *kernels, int32_t precision, int32_t rows, int32_t columns) {
    const struct kernels *set = find_kernels(kernels);
    if (set == NULL) return 0;
    const struct product *product = product_of(set, precision);
    return (size_t)((rows + product->panel_rows - 1) / product->panel_rows) * panel_size(product, precision, columns);
}

/* The largest magnitude of n floats, as float bits, which sort like integers. Not finite if one of the floats is
 * not. */
static uint32_t largest_magnitude(const float *x, int32_t n) {
    uint32_t largest = 0;
    for (int32_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        bits &= 0x7fffffff;
        largest = bits > largest ? bits : largest;
    }
    return largest;
}

static void pack_fp32_row(char *panel, int32_t lane, const float *weights, int32_t columns) {
    float *values = (float *)panel + lane;
    for (int32_t k = 0; k < columns; k++) values[k * PANEL_ROWS] = weights[k];
}

/* magnitude / 127 as the upper half of a float, rounded up, so that the largest weight does not exceed 127 steps. */
static uint16_t group_scale(uint32_t magnitude) {
    float value;
    uint32_t bits;
    memcpy(&value, &magnitude, sizeof value);
    value /= 127.0f;
    memcpy(&bits, &value, sizeof bits);
    return (uint16_t)((bits + 0xffff) >> 16);
}

/* values[n] = weights / scale, rounded: the low bits of 1.5 * 2^23 + x are the integer nearest to x. */
static void quantise(const float *weights, int32_t n, float scale, uint8_t *values) {
    const float factor = scale > 0.0f ? 1.0f / scale : 0.0f;
    for (int32_t i = 0; i < n; i++) {
        float shifted = weights[i] * factor + 12582912.0f;
        uint32_t bits;
        memcpy(&bits, &shifted, sizeof bits);
        values[i] = (uint8_t)bits;
    }
}

static void pack_int8_row(const struct product *product, char *panel, int32_t lane, const float *weights,
                          int32_t columns) {
    const int32_t interleave = product->interleave, panel_rows = product->panel_rows;
    uint16_t *scales = (uint16_t *)panel + lane;
    uint8_t *packed = (uint8_t *)panel + int8_scales_size(panel_rows, columns);
    for (int32_t start = 0; start < columns; start += GROUP_COLUMNS, scales += panel_rows) {
        int32_t length = columns - start < GROUP_COLUMNS ? columns - start : GROUP_COLUMNS;
        uint8_t values[GROUP_COLUMNS];
        *scales = group_scale(largest_magnitude(weights + start, length));
        quantise(weights + start, length, upper_half_to_float(*scales), values);
        for (int32_t i = 0; i < length; i++) {
            int32_t k = start + i;
            packed[(k / interleave * panel_rows + lane) * interleave + k % interleave] =
                values[i] ^ (uint8_t)product->weight_flip;
        }
    }
}

int32_t slm_pack_rows(const char *kernels, int32_t precision, void *packed, const float *weights, int32_t first_row,
                      int32_t num_rows, int32_t columns) {
    const struct kernels *set = find_kernels(kernels);
    if (set == NULL) return 0;
    const struct product *product = product_of(set, precision);
    const size_t size = panel_size(product, precision, columns);
    for (int32_t i = 0; i < num_rows; i++) {
        int32_t row = first_row + i, lane = row % product->panel_rows;
        char *panel = (char *)packed + (size_t)(row / product->panel_rows) * size;
        const float *row_weights = weights + (size_t)i * (size_t)columns;
        if (largest_magnitude(row_weights, columns) >= 0x7f800000) return 0;
        if (precision == SLM_INT8)
            pack_int8_row(product, panel, lane, row_weights, columns);
        else
            pack_fp32_row(panel, lane, row_weights, columns);
    }
    return 1;
}
