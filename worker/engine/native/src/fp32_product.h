/* Tile products in fp32, written once over the vectors of the including kernel set.
 *
 * The panel may be of half floats, which are widened as they are loaded: half the bytes to read for keys and values.
 */
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

static inline vec panel_load(const char *panel, const int32_t is_half) {
#ifdef VECTOR_HAS_HALF
    if (is_half) return vec_load_half((const uint16_t *)panel);
#endif
    (void)is_half;
    return vec_load((const float *)panel);
}

/* Inlined with a constant number of records, so that `sums` lives in registers. */
static inline __attribute__((always_inline)) void fp32_tile(const int32_t num_records, const int32_t is_half,
                                                            const char *records, size_t record_size, const char *panel,
                                                            int32_t columns, float *out, size_t stride) {
    const size_t item_size = is_half ? sizeof(uint16_t) : sizeof(float);
    vec sums[MAX_TILE_ROWS][PANEL_VECTORS];
    for (int32_t r = 0; r < num_records; r++)
        for (int32_t v = 0; v < PANEL_VECTORS; v++) sums[r][v] = vec_set(0.0f);
    for (int32_t k = 0; k < columns; k++, panel += PANEL_ROWS * item_size) {
        vec weights[PANEL_VECTORS];
        for (int32_t v = 0; v < PANEL_VECTORS; v++) weights[v] = panel_load(panel + v * LANES * item_size, is_half);
        for (int32_t r = 0; r < num_records; r++) {
            vec x = vec_set(((const float *)(records + (size_t)r * record_size))[k]);
            for (int32_t v = 0; v < PANEL_VECTORS; v++) sums[r][v] = vec_fma(x, weights[v], sums[r][v]);
        }
    }
    for (int32_t r = 0; r < num_records; r++)
        for (int32_t v = 0; v < PANEL_VECTORS; v++) vec_store(out + (size_t)r * stride + v * LANES, sums[r][v]);
}

static inline __attribute__((always_inline)) void fp32_multiply_of(const int32_t is_half, const char *records,
                                                                   size_t record_size, int32_t num_records,
                                                                   const char *panel, int32_t columns, float *out,
                                                                   size_t stride) {
    switch (num_records) {
    case 1: fp32_tile(1, is_half, records, record_size, panel, columns, out, stride); break;
    case 2: fp32_tile(2, is_half, records, record_size, panel, columns, out, stride); break;
#if LANES > 4
    case 3: fp32_tile(3, is_half, records, record_size, panel, columns, out, stride); break;
    case 4: fp32_tile(4, is_half, records, record_size, panel, columns, out, stride); break;
    case 5: fp32_tile(5, is_half, records, record_size, panel, columns, out, stride); break;
    case 6: fp32_tile(6, is_half, records, record_size, panel, columns, out, stride); break;
#endif
#if LANES > 8
    case 7: fp32_tile(7, is_half, records, record_size, panel, columns, out, stride); break;
    case 8: fp32_tile(8, is_half, records, record_size, panel, columns, out, stride); break;
#endif
    }
}

static void fp32_multiply(const char *records, size_t record_size, int32_t num_records, const char *panel,
                          int32_t columns, int32_t is_cold, float *out, size_t stride) {
    (void)is_cold;
    fp32_multiply_of(0, records, record_size, num_records, panel, columns, out, stride);
}

static void fp32_convert(const float *x, int32_t n, void *out) { memcpy(out, x, (size_t)n * sizeof *x); }

#ifdef VECTOR_HAS_HALF

static void half_multiply(const char *records, size_t record_size, int32_t num_records, const char *panel,
                          int32_t columns, int32_t is_cold, float *out, size_t stride) {
    (void)is_cold;
    fp32_multiply_of(1, records, record_size, num_records, panel, columns, out, stride);
}

/* What a half float cannot hold becomes its largest value; NaN stays, because both comparisons give their second operand. */
static void half_convert(const float *x, int32_t n, void *out) {
    const vec largest = vec_set(65504.0f), smallest = vec_set(-65504.0f);
    for (int32_t i = 0; i < n; i += LANES)
        vec_store_half((uint16_t *)out + i, vec_max(smallest, vec_min(largest, vec_load(x + i))));
}

#endif

#endif
