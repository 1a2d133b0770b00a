/* Tile products of int8 weights and 8-bit activations with vpdpbusd.
 *
 * Activations have a scale for each part of PART_COLUMNS, because a single scale per row would raise perplexity by some
 * percent. vpdpbusd takes one unsigned factor: the panels store the weights as value + 128, and the sums start at -128
 * * (sum of the part's activations).
 *
 * A packed row is int8 [parts * PART_COLUMNS], zero after the columns, then float scales [parts] and int32 starts
 * [parts]. A packed row of the head consists of two of these: the activations, and their rounding errors.
 */
#ifndef SLM_INT8_PRODUCT_H
#define SLM_INT8_PRODUCT_H

#include "int8_panel.h"

#define INT8_INTERLEAVE 4
#define INT8_WEIGHT_FLIP 0x80
#define INT8_PANEL_ROWS 32
#define INT8_PANEL_VECTORS 2 /* of 16 sums: with two vectors each loaded activation is used twice */
/* 6 * 2 sums, 6 * 2 totals, two weights of a part and an activation must fit in 32 registers */
#define INT8_TILE_ROWS 6
#define INT8_HEAD_TILE_ROWS (INT8_TILE_ROWS / 2)
#define PART_COLUMNS 32
#define PARTS_PER_GROUP (GROUP_COLUMNS / PART_COLUMNS)

static inline int32_t int8_parts(int32_t columns) { return int8_groups(columns) * PARTS_PER_GROUP; }

static size_t int8_packed_row_size(int32_t columns) {
    size_t size = (size_t)int8_parts(columns) * (PART_COLUMNS + sizeof(float) + sizeof(int32_t));
    /* one more cache line, so that packed rows of 2^n values do not map to the same cache sets */
    return (size / PACKED_ROW_ALIGNMENT + 2) * PACKED_ROW_ALIGNMENT;
}

static inline const float *int8_part_scales(const char *packed_row, int32_t columns) {
    return (const float *)(packed_row + int8_parts(columns) * PART_COLUMNS);
}

static inline const int32_t *int8_part_starts(const char *packed_row, int32_t columns) {
    return (const int32_t *)(int8_part_scales(packed_row, columns) + int8_parts(columns));
}

/* Write one part of a packed row, and replace x by its rounding errors. */
static inline void int8_encode_part(float *x, char *packed_row, int32_t columns, int32_t part) {
    __m512 low = _mm512_loadu_ps(x), high = _mm512_loadu_ps(x + 16);
    float largest = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(low), _mm512_abs_ps(high)));
    __m512 factor = _mm512_set1_ps(largest > 0.0f ? 127.0f / largest : 0.0f);
    __m512 scale = _mm512_set1_ps(largest / 127.0f);
    __m512i low_values = _mm512_cvtps_epi32(_mm512_mul_ps(low, factor));
    __m512i high_values = _mm512_cvtps_epi32(_mm512_mul_ps(high, factor));
    __m128i *values = (__m128i *)(packed_row + part * PART_COLUMNS);
    _mm_storeu_si128(values, _mm512_cvtsepi32_epi8(low_values));
    _mm_storeu_si128(values + 1, _mm512_cvtsepi32_epi8(high_values));
    ((float *)int8_part_scales(packed_row, columns))[part] = largest / 127.0f;
    ((int32_t *)int8_part_starts(packed_row, columns))[part] =
        -128 * _mm512_reduce_add_epi32(_mm512_add_epi32(low_values, high_values));
    _mm512_storeu_ps(x, _mm512_fnmadd_ps(_mm512_cvtepi32_ps(low_values), scale, low));
    _mm512_storeu_ps(x + 16, _mm512_fnmadd_ps(_mm512_cvtepi32_ps(high_values), scale, high));
}

/* out[PART_COLUMNS] = the part's activations, zero after the columns */
static inline void int8_load_part(const float *x, int32_t columns, int32_t part, float *out) {
    int32_t left = columns - part * PART_COLUMNS;
    int32_t length = left < 0 ? 0 : left < PART_COLUMNS ? left : PART_COLUMNS;
    memset(out, 0, PART_COLUMNS * sizeof(float));
    memcpy(out, x + part * PART_COLUMNS, (size_t)length * sizeof(float));
}

static void int8_encode(const float *x, int32_t columns, void *packed_row) {
    for (int32_t part = 0; part < int8_parts(columns); part++) {
        float values[PART_COLUMNS];
        int8_load_part(x, columns, part, values);
        int8_encode_part(values, packed_row, columns, part);
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

/* Inlined with a constant number of packed rows to keep the sums in registers. */
static inline __attribute__((always_inline)) void int8_tile(const int32_t num_packed_rows, const char *packed_rows,
                                                            size_t packed_row_size, const char *panel, int32_t columns,
                                                            const struct prefetch *ahead, float *out, size_t stride) {
    const size_t parts = (size_t)int8_parts(columns);
    const char *weights_ahead = ahead->weights.start, *adapters_ahead = ahead->adapters.start;
    const char *adapters_end = adapters_ahead + ahead->adapters.size;
    const size_t weights_per_part = ahead->weights.size / parts / CACHE_LINE * CACHE_LINE + CACHE_LINE;
    const int32_t lines_per_part = (int32_t)(ahead->adapters.size / parts / CACHE_LINE) + 1;
    const uint16_t *scales = (const uint16_t *)panel;
    const char *weights = panel + int8_scales_size(INT8_PANEL_ROWS, columns);
    __m512 totals[INT8_TILE_ROWS][INT8_PANEL_VECTORS];
    for (int32_t r = 0; r < num_packed_rows; r++)
        for (int32_t p = 0; p < INT8_PANEL_VECTORS; p++) totals[r][p] = _mm512_setzero_ps();
    for (int32_t group = 0; group < int8_groups(columns); group++, scales += INT8_PANEL_ROWS) {
        __m512 group_sums[INT8_TILE_ROWS][INT8_PANEL_VECTORS];
        for (int32_t part = group * PARTS_PER_GROUP; part < (group + 1) * PARTS_PER_GROUP; part++) {
            __m512i sums[INT8_TILE_ROWS][INT8_PANEL_VECTORS];
            for (int32_t r = 0; r < num_packed_rows; r++)
                for (int32_t p = 0; p < INT8_PANEL_VECTORS; p++)
                    sums[r][p] =
                        _mm512_set1_epi32(int8_part_starts(packed_rows + (size_t)r * packed_row_size, columns)[part]);
            const char *values = packed_rows + part * PART_COLUMNS;
            for (size_t i = 0; i < weights_per_part; i += CACHE_LINE) _mm_prefetch(weights_ahead + i, _MM_HINT_T1);
            weights_ahead += weights_per_part;
            for (int32_t i = 0; i < lines_per_part && adapters_ahead < adapters_end; i++, adapters_ahead += CACHE_LINE)
                _mm_prefetch(adapters_ahead, _MM_HINT_T1);
#pragma GCC unroll 8
            for (int32_t k = 0; k < PART_COLUMNS; k += 4, weights += 4 * INT8_PANEL_ROWS) {
                __m512i low = _mm512_loadu_si512(weights), high = _mm512_loadu_si512(weights + 64);
                for (int32_t r = 0; r < num_packed_rows; r++) {
                    __m512i four = int8_load_four(values + (size_t)r * packed_row_size + k);
                    sums[r][0] = _mm512_dpbusd_epi32(sums[r][0], low, four);
                    sums[r][1] = _mm512_dpbusd_epi32(sums[r][1], high, four);
                }
            }
            for (int32_t r = 0; r < num_packed_rows; r++) {
                __m512 scale =
                    _mm512_set1_ps(int8_part_scales(packed_rows + (size_t)r * packed_row_size, columns)[part]);
                for (int32_t p = 0; p < INT8_PANEL_VECTORS; p++) {
                    __m512 sum = _mm512_cvtepi32_ps(sums[r][p]);
                    group_sums[r][p] = part % PARTS_PER_GROUP == 0 ? _mm512_mul_ps(sum, scale)
                                                                   : _mm512_fmadd_ps(sum, scale, group_sums[r][p]);
                }
            }
        }
        for (int32_t p = 0; p < INT8_PANEL_VECTORS; p++) {
            __m512 weight_scales = int8_load_scales(scales + p * 16);
            for (int32_t r = 0; r < num_packed_rows; r++)
                totals[r][p] = _mm512_fmadd_ps(group_sums[r][p], weight_scales, totals[r][p]);
        }
    }
    for (int32_t r = 0; r < num_packed_rows; r++)
        for (int32_t p = 0; p < INT8_PANEL_VECTORS; p++)
            _mm512_storeu_ps(out + (size_t)r * stride + p * 16, totals[r][p]);
}

static void int8_multiply(const char *packed_rows, size_t packed_row_size, int32_t num_packed_rows, const char *panel,
                          int32_t columns, const struct prefetch *ahead, float *out, size_t stride) {
    switch (num_packed_rows) {
    case 1: int8_tile(1, packed_rows, packed_row_size, panel, columns, ahead, out, stride); break;
    case 2: int8_tile(2, packed_rows, packed_row_size, panel, columns, ahead, out, stride); break;
    case 3: int8_tile(3, packed_rows, packed_row_size, panel, columns, ahead, out, stride); break;
    case 4: int8_tile(4, packed_rows, packed_row_size, panel, columns, ahead, out, stride); break;
    case 5: int8_tile(5, packed_rows, packed_row_size, panel, columns, ahead, out, stride); break;
    case 6: int8_tile(6, packed_rows, packed_row_size, panel, columns, ahead, out, stride); break;
    }
}

static size_t int8_head_packed_row_size(int32_t columns) { return 2 * int8_packed_row_size(columns); }

static void int8_head_encode(const float *x, int32_t columns, void *packed_row) {
    char *rest = (char *)packed_row + int8_packed_row_size(columns);
    for (int32_t part = 0; part < int8_parts(columns); part++) {
        float values[PART_COLUMNS];
        int8_load_part(x, columns, part, values);
        int8_encode_part(values, packed_row, columns, part);
        int8_encode_part(values, rest, columns, part);
    }
}

/* The tile treats the two halves of a packed row as two packed rows. */
static void int8_head_multiply(const char *packed_rows, size_t packed_row_size, int32_t num_packed_rows,
                               const char *panel, int32_t columns, const struct prefetch *ahead, float *out,
                               size_t stride) {
    float halves[INT8_TILE_ROWS][INT8_PANEL_ROWS];
    int8_multiply(packed_rows, packed_row_size / 2, 2 * num_packed_rows, panel, columns, ahead, halves[0],
                  INT8_PANEL_ROWS);
    for (int32_t r = 0; r < num_packed_rows; r++)
        for (int32_t i = 0; i < INT8_PANEL_ROWS; i += 16)
            _mm512_storeu_ps(out + (size_t)r * stride + i,
                             _mm512_add_ps(_mm512_loadu_ps(halves[2 * r] + i), _mm512_loadu_ps(halves[2 * r + 1] + i)));
}

#endif
