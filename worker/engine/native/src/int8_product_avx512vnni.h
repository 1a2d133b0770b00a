/* Tile products of int8 weights and 8-bit activations with vpdpbusd.
 *
 * A record is int8 [groups * GROUP_COLUMNS], zero beyond the columns, then a float scale and an int32 start of the sums for
 * each group: activations have a scale per group, because one scale per row costs some per cent of perplexity. vpdpbusd
 * takes one unsigned factor: the weights lie in their panel as value + 128, and the sums start at -128 * (sum of the
 * group's activations).
 */
#ifndef SLM_INT8_PRODUCT_H
#define SLM_INT8_PRODUCT_H

#include "int8_panel.h"

#define INT8_INTERLEAVE 4
#define INT8_WEIGHT_FLIP 0x80
#define INT8_TILE_ROWS 8

static size_t int8_record_size(int32_t columns) {
    size_t size = (size_t)int8_groups(columns) * (GROUP_COLUMNS + sizeof(float) + sizeof(int32_t));
    /* one more line, so that records of 2^n values do not fall on the same cache sets */
    return (size / RECORD_ALIGNMENT + 2) * RECORD_ALIGNMENT;
}

static inline const float *int8_record_scales(const char *record, int32_t columns) {
    return (const float *)(record + int8_groups(columns) * GROUP_COLUMNS);
}

static inline const int32_t *int8_record_starts(const char *record, int32_t columns) {
    return (const int32_t *)(int8_record_scales(record, columns) + int8_groups(columns));
}

/* Quantise `lanes` 16s of one group; returns the sum of its values. */
static inline int32_t int8_encode_group(const float *x, int32_t vectors, float *scale, int8_t *values) {
    __m512 largest = _mm512_setzero_ps();
    for (int32_t v = 0; v < vectors; v++)
        largest = _mm512_max_ps(largest, _mm512_abs_ps(_mm512_loadu_ps(x + v * 16)));
    float max = _mm512_reduce_max_ps(largest);
    *scale = max / 127.0f;
    __m512 factor = _mm512_set1_ps(max > 0.0f ? 127.0f / max : 0.0f);
    __m512i sum = _mm512_setzero_si512();
    for (int32_t v = 0; v < vectors; v++) {
        __m512i rounded = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + v * 16), factor));
        _mm_storeu_si128((__m128i *)(values + v * 16), _mm512_cvtsepi32_epi8(rounded));
        sum = _mm512_add_epi32(sum, rounded);
    }
    return _mm512_reduce_add_epi32(sum);
}

/* columns is a multiple of 16 */
static void int8_encode(const float *x, int32_t columns, void *record) {
    int8_t *values = record;
    float *scales = (float *)int8_record_scales(record, columns);
    int32_t *starts = (int32_t *)int8_record_starts(record, columns);
    memset(values + columns, 0, (size_t)(int8_groups(columns) * GROUP_COLUMNS - columns));
    for (int32_t g = 0, k = 0; k < columns; g++, k += GROUP_COLUMNS) {
        int32_t length = columns - k < GROUP_COLUMNS ? columns - k : GROUP_COLUMNS;
        starts[g] = -128 * int8_encode_group(x + k, length / 16, scales + g, values + k);
    }
}

static inline __m512 int8_load_scales(const uint16_t *scales) {
    __m512i halves = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)scales));
    return _mm512_castsi512_ps(_mm512_slli_epi32(halves, 16));
}

static inline __m512i int8_load_four(const char *values) {
    int32_t four;
    memcpy(&four, values, sizeof four);
    return _mm512_set1_epi32(four);
}

/* Inlined with a constant number of records, so that `sums` and `totals` live in registers. */
static inline __attribute__((always_inline)) void int8_tile(const int32_t num_records, const char *records,
                                                            size_t record_size, const char *panel, int32_t columns,
                                                            float *out, size_t stride) {
    const uint16_t *scales = (const uint16_t *)panel;
    const char *weights = panel + int8_scales_size(columns);
    __m512 totals[MAX_TILE_ROWS];
    for (int32_t r = 0; r < num_records; r++) totals[r] = _mm512_setzero_ps();
    for (int32_t g = 0; g < int8_groups(columns); g++, scales += PANEL_ROWS) {
        __m512i sums[MAX_TILE_ROWS];
        for (int32_t r = 0; r < num_records; r++)
            sums[r] = _mm512_set1_epi32(int8_record_starts(records + (size_t)r * record_size, columns)[g]);
        const char *group = records + g * GROUP_COLUMNS;
        for (int32_t k = 0; k < GROUP_COLUMNS; k += 4, weights += 4 * PANEL_ROWS) {
            __m512i unsigned_weights = _mm512_loadu_si512(weights);
            for (int32_t r = 0; r < num_records; r++)
                sums[r] = _mm512_dpbusd_epi32(sums[r], unsigned_weights,
                                              int8_load_four(group + (size_t)r * record_size + k));
        }
        __m512 weight_scales = int8_load_scales(scales);
        for (int32_t r = 0; r < num_records; r++) {
            __m512 scale = _mm512_set1_ps(int8_record_scales(records + (size_t)r * record_size, columns)[g]);
            totals[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[r]), _mm512_mul_ps(weight_scales, scale), totals[r]);
        }
    }
    for (int32_t r = 0; r < num_records; r++) _mm512_storeu_ps(out + (size_t)r * stride, totals[r]);
}

static void int8_multiply(const char *records, size_t record_size, int32_t num_records, const char *panel,
                          int32_t columns, float *out, size_t stride) {
    switch (num_records) {
    case 1: int8_tile(1, records, record_size, panel, columns, out, stride); break;
    case 2: int8_tile(2, records, record_size, panel, columns, out, stride); break;
    case 3: int8_tile(3, records, record_size, panel, columns, out, stride); break;
    case 4: int8_tile(4, records, record_size, panel, columns, out, stride); break;
    case 5: int8_tile(5, records, record_size, panel, columns, out, stride); break;
    case 6: int8_tile(6, records, record_size, panel, columns, out, stride); break;
    case 7: int8_tile(7, records, record_size, panel, columns, out, stride); break;
    case 8: int8_tile(8, records, record_size, panel, columns, out, stride); break;
    }
}

#endif
