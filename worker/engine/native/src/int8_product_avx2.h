/* Tile products of int8 weights and 16-bit activations with vpmaddwd.
 *
 * The 8-bit alternative (vpmaddubsw) saturates unless the signs are first moved from one factor to the other, and then
 * needs as many instructions: sign, multiply, widen, add for 32 products; here: twice multiply, add for 2 * 16
 * products.
 */
#ifndef SLM_INT8_PRODUCT_H
#define SLM_INT8_PRODUCT_H

#include "int16_packed_row.h"

#define INT8_INTERLEAVE 2
#define INT8_WEIGHT_FLIP 0
/* 3 * 2 sums, 2 weights, a pair and products: with four packed rows the compiler runs out of its 16 registers. */
#define INT8_TILE_ROWS 3
#define INT8_HEAD_TILE_ROWS INT8_TILE_ROWS
#define INT8_PANEL_ROWS 16

#define int8_packed_row_size int16_packed_row_size
#define int8_head_packed_row_size int16_packed_row_size
#define int8_head_encode int8_encode
#define int8_head_multiply int8_multiply

static inline __m256i int8_to_int16_pairs(const float *x, __m256 factor) {
    __m256i low = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x), factor));
    __m256i high = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + 8), factor));
    /* the pack works within 128-bit halves: restore the order of their quarters */
    return _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xd8);
}

/* `columns` must be a multiple of 16. */
static void int8_encode(const float *x, int32_t columns, void *packed_row) {
    vec largest = vec_set(0.0f);
    for (int32_t i = 0; i < columns; i += LANES) largest = vec_max(largest, vec_abs(vec_load(x + i)));
    __m256 factor = _mm256_set1_ps(int16_finish_packed_row(vec_largest(largest), columns, packed_row));
    int16_t *values = packed_row;
    for (int32_t i = 0; i < columns; i += 16)
        _mm256_storeu_si256((__m256i *)(values + i), int8_to_int16_pairs(x + i, factor));
}

static inline __m256 int8_load_scales(const uint16_t *scales) {
    __m256i halves = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)scales));
    return _mm256_castsi256_ps(_mm256_slli_epi32(halves, 16));
}

static inline __m256i int8_load_weights(const int8_t *weights) {
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)weights));
}

static inline __m256i int8_load_pair(const int16_t *values) {
    int32_t pair;
    memcpy(&pair, values, sizeof pair);
    return _mm256_set1_epi32(pair);
}

/* Inlined with a constant number of packed rows to keep `sums` in registers; `totals` may be spilled. */
static inline __attribute__((always_inline)) void int8_tile(const int32_t num_packed_rows, const char *packed_rows,
                                                            size_t packed_row_size, const char *panel, int32_t columns,
                                                            float *out, size_t stride) {
    const uint16_t *scales = (const uint16_t *)panel;
    const int8_t *weights = (const int8_t *)panel + int8_scales_size(INT8_PANEL_ROWS, columns);
    __m256 totals[MAX_TILE_ROWS][2];
    for (int32_t r = 0; r < num_packed_rows; r++) totals[r][0] = totals[r][1] = _mm256_setzero_ps();
    for (int32_t g = 0; g < int8_groups(columns); g++, scales += INT8_PANEL_ROWS) {
        __m256i sums[MAX_TILE_ROWS][2];
        for (int32_t r = 0; r < num_packed_rows; r++) sums[r][0] = sums[r][1] = _mm256_setzero_si256();
        const char *group = packed_rows + (size_t)g * GROUP_COLUMNS * sizeof(int16_t);
#pragma GCC unroll 4
        for (int32_t k = 0; k < GROUP_COLUMNS; k += 2, weights += 2 * INT8_PANEL_ROWS) {
            __m256i low = int8_load_weights(weights), high = int8_load_weights(weights + INT8_PANEL_ROWS);
            for (int32_t r = 0; r < num_packed_rows; r++) {
                __m256i pair = int8_load_pair(int16_values(group, packed_row_size, r) + k);
                sums[r][0] = _mm256_add_epi32(sums[r][0], _mm256_madd_epi16(pair, low));
                sums[r][1] = _mm256_add_epi32(sums[r][1], _mm256_madd_epi16(pair, high));
            }
        }
        __m256 low = int8_load_scales(scales), high = int8_load_scales(scales + 8);
        for (int32_t r = 0; r < num_packed_rows; r++) {
            totals[r][0] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums[r][0]), low, totals[r][0]);
            totals[r][1] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums[r][1]), high, totals[r][1]);
        }
    }
    for (int32_t r = 0; r < num_packed_rows; r++) {
        __m256 scale = _mm256_set1_ps(int16_scale(packed_rows, packed_row_size, r));
        _mm256_storeu_ps(out + (size_t)r * stride, _mm256_mul_ps(totals[r][0], scale));
        _mm256_storeu_ps(out + (size_t)r * stride + 8, _mm256_mul_ps(totals[r][1], scale));
    }
}

static void int8_multiply(const char *packed_rows, size_t packed_row_size, int32_t num_packed_rows, const char *panel,
                          int32_t columns, const struct prefetch *ahead, float *out, size_t stride) {
    (void)ahead; /* prefetching weights made this slower on Zen 3 */
    switch (num_packed_rows) {
    case 1: int8_tile(1, packed_rows, packed_row_size, panel, columns, out, stride); break;
    case 2: int8_tile(2, packed_rows, packed_row_size, panel, columns, out, stride); break;
    case 3: int8_tile(3, packed_rows, packed_row_size, panel, columns, out, stride); break;
    }
}

#endif
