/* Tile products in fp32, written once over the vectors of the including kernel set. */
#ifndef SLM_FP32_PRODUCT_H
#define SLM_FP32_PRODUCT_H

#include "kernels.h"

#define PANEL_VECTORS (PANEL_ROWS / LANES)

/* The sums of a tile must fit the registers beside a panel's vectors: 6 * 2 of 16, 8 * 1 of 32, 2 * 4 of 16. */
#define FP32_TILE_ROWS (LANES == 8 ? 6 : LANES == 16 ? 8 : 2)

/* Between two records, so that records of 2^n floats do not fall on the same cache sets. */
static size_t fp32_record_size(int32_t columns) {
    size_t size = (size_t)columns * sizeof(float) + RECORD_ALIGNMENT;
    return (size + RECORD_ALIGNMENT - 1) / RECORD_ALIGNMENT * RECORD_ALIGNMENT;
}

static void fp32_encode(const float *x, int32_t columns, void *record) {
    memcpy(record, x, (size_t)columns * sizeof(float));
}

/* Inlined with a constant number of records, so that `sums` lives in registers. */
static inline __attribute__((always_inline)) void fp32_tile(const int32_t num_records, const char *records,
                                                            size_t record_size, const float *panel, int32_t columns,
                                                            float *out, size_t stride) {
    vec sums[MAX_TILE_ROWS][PANEL_VECTORS];
    for (int32_t r = 0; r < num_records; r++)
        for (int32_t v = 0; v < PANEL_VECTORS; v++) sums[r][v] = vec_set(0.0f);
    for (int32_t k = 0; k < columns; k++, panel += PANEL_ROWS) {
        vec weights[PANEL_VECTORS];
        for (int32_t v = 0; v < PANEL_VECTORS; v++) weights[v] = vec_load(panel + v * LANES);
        for (int32_t r = 0; r < num_records; r++) {
            vec x = vec_set(((const float *)(records + (size_t)r * record_size))[k]);
            for (int32_t v = 0; v < PANEL_VECTORS; v++) sums[r][v] = vec_fma(x, weights[v], sums[r][v]);
        }
    }
    for (int32_t r = 0; r < num_records; r++)
        for (int32_t v = 0; v < PANEL_VECTORS; v++) vec_store(out + (size_t)r * stride + v * LANES, sums[r][v]);
}

static void fp32_multiply(const char *records, size_t record_size, int32_t num_records, const char *panel,
                          int32_t columns, float *out, size_t stride) {
    const float *weights = (const float *)panel;
    switch (num_records) {
    case 1: fp32_tile(1, records, record_size, weights, columns, out, stride); break;
    case 2: fp32_tile(2, records, record_size, weights, columns, out, stride); break;
#if LANES > 4
    case 3: fp32_tile(3, records, record_size, weights, columns, out, stride); break;
    case 4: fp32_tile(4, records, record_size, weights, columns, out, stride); break;
    case 5: fp32_tile(5, records, record_size, weights, columns, out, stride); break;
    case 6: fp32_tile(6, records, record_size, weights, columns, out, stride); break;
#endif
#if LANES > 8
    case 7: fp32_tile(7, records, record_size, weights, columns, out, stride); break;
    case 8: fp32_tile(8, records, record_size, weights, columns, out, stride); break;
#endif
    }
}

#endif
