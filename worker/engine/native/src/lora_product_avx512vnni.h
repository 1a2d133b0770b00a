/* The products of LoRA adapters with vpdpbusd: activations and u in 8 bits, too (format SLM_LORA_DOT).
 *
 * The input has the same packed rows as the matrix (int8_product_avx512vnni.h). u has a scale for each part of
 * DOT_PART_RANKS ranks. As with the matrix, weights are stored as value + 128, and sums start at -128 * (sum of the
 * other factors).
 */
#ifndef SLM_LORA_PRODUCT_DOT_H
#define SLM_LORA_PRODUCT_DOT_H

#include "int8_product_avx512vnni.h"
#include "integers.h"

#define DOT_HEAD_SIZE (PANEL_ROWS * sizeof(float))
#define DOT_FOUR_SIZE (4 * PANEL_ROWS) /* bytes of four columns of a panel */
#define DOT_PART_RANKS 64

static size_t dot_panel_size(int32_t columns) { return DOT_HEAD_SIZE + (size_t)divide_up(columns, 4) * DOT_FOUR_SIZE; }

/* sums + weights[columns][PANEL_ROWS] . values[columns] */
static inline __attribute__((always_inline)) __m512i dot_columns(__m512i sums, const char *weights, const char *values,
                                                                 int32_t columns) {
    for (int32_t k = 0; k < columns; k += 4, weights += DOT_FOUR_SIZE)
        sums = _mm512_dpbusd_epi32(sums, _mm512_loadu_si512(weights), int8_load_four(values + k));
    return sums;
}

/* out[PANEL_ROWS] = packed row . panel */
static void dot_shrink_row(const char *packed_row, const char *panel, int32_t columns, float *out) {
    const float *scales = int8_part_scales(packed_row, columns);
    const int32_t *starts = int8_part_starts(packed_row, columns);
    const char *weights = panel + DOT_HEAD_SIZE;
    __m512 total = _mm512_setzero_ps();
    for (int32_t k = 0, part = 0; k < columns; k += PART_COLUMNS, part++, weights += PART_COLUMNS * PANEL_ROWS) {
        for (int32_t line = 0; line < PART_COLUMNS * PANEL_ROWS; line += CACHE_LINE)
            _mm_prefetch(weights + SHRINK_AHEAD + line, _MM_HINT_T0);
        __m512i sums = _mm512_set1_epi32(starts[part]);
        if (columns - k >= PART_COLUMNS)
            sums = dot_columns(sums, weights, packed_row + k, PART_COLUMNS);
        else
            sums = dot_columns(sums, weights, packed_row + k, columns - k);
        total = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums), _mm512_set1_ps(scales[part]), total);
    }
    _mm512_storeu_ps(out, _mm512_mul_ps(total, _mm512_loadu_ps((const float *)panel)));
}

static void dot_shrink(const struct lora_input *input, const char *panels, int32_t num_panels, float *out,
                       size_t stride) {
    for (int32_t p = 0; p < num_panels; p++, panels += dot_panel_size(input->columns))
        for (int32_t r = 0; r < input->num_rows; r++)
            dot_shrink_row(input->packed_rows[r], panels, input->columns, out + (size_t)r * stride + p * PANEL_ROWS);
}

/* A part of u in 8 bits, zero after its ranks. */
struct dot_part {
    char values[DOT_PART_RANKS];
    float scale;
    int32_t start;
};

static struct dot_part dot_encode(const float *u, int32_t ranks) {
    struct dot_part part = {.start = 0};
    float largest = 0.0f;
    for (int32_t j = 0; j < ranks; j++) largest = fabsf(u[j]) > largest ? fabsf(u[j]) : largest;
    const float factor = largest > 0.0f ? 127.0f / largest : 0.0f;
    part.scale = largest / 127.0f;
    for (int32_t j = 0; j < ranks; j++) {
        const int32_t value = _mm_cvtss_si32(_mm_set_ss(u[j] * factor));
        part.values[j] = (char)value;
        part.start -= 128 * value;
    }
    return part;
}

/* y[num_outputs] += part of u . the part's columns of the panels */
static inline __attribute__((always_inline)) void dot_expand_part(const struct dot_part *part, const char *panels,
                                                                  size_t panel_size, size_t offset, int32_t ranks,
                                                                  int32_t num_outputs, float *y) {
    for (int32_t i = 0; i < num_outputs; i += PANEL_ROWS, panels += panel_size) {
        const int32_t left = num_outputs - i;
        const __mmask16 outputs = left >= PANEL_ROWS ? 0xffff : (__mmask16)((1 << left) - 1);
        const __m512i sums =
            dot_columns(_mm512_set1_epi32(part->start), panels + DOT_HEAD_SIZE + offset, part->values, ranks);
        const __m512 scale = _mm512_mul_ps(_mm512_loadu_ps((const float *)panels), _mm512_set1_ps(part->scale));
        const __m512 y_old = _mm512_maskz_loadu_ps(outputs, y + i);
        _mm512_mask_storeu_ps(y + i, outputs, _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums), scale, y_old));
    }
}

static void dot_expand(const float *u, size_t stride, int32_t num_rows, const char *panels, int32_t rank,
                       int32_t num_outputs, float *const *y) {
    for (int32_t r = 0; r < num_rows; r++, u += stride)
        for (int32_t j = 0; j < rank; j += DOT_PART_RANKS) {
            const int32_t ranks = min_int(rank - j, DOT_PART_RANKS);
            const struct dot_part part = dot_encode(u + j, ranks);
            if (ranks == 16) /* usual, and unrolled */
                dot_expand_part(&part, panels, dot_panel_size(rank), 0, 16, num_outputs, y[r]);
            else
                dot_expand_part(&part, panels, dot_panel_size(rank), (size_t)j * PANEL_ROWS, ranks, num_outputs, y[r]);
        }
}

#endif
