/* The products of LoRA adapters, written in terms of the vectors of the including kernel set.
 *
 * Both products treat the columns of a panel in pairs. Two bfloat16 numbers of a pair form one 32-bit lane, which a
 * shift and a mask turn into two floats. The sums are floats in any format.
 */
#ifndef SLM_LORA_PRODUCT_H
#define SLM_LORA_PRODUCT_H

#include "kernels.h"
#include "slm_native.h"

#define LORA_VECTORS (PANEL_ROWS / LANES)
#define LORA_PAIR_SIZE(is_short) (PANEL_ROWS * ((is_short) ? sizeof(uint32_t) : 2 * sizeof(float)))

/* Sums of every SHRINK_SPLITS-th column are added at the end: enough independent sums to hide the latency of an
 * addition. The sums of a tile must fit in registers: 4 * 4 of 32, 2 * 2 * 2 of 16, 2 * 4 of 16. */
#define SHRINK_SPLITS (LANES == 16 ? 4 : 2)
#define SHRINK_TILE_ROWS (LANES == 16 ? 4 : LANES == 8 ? 2 : 1)
#define EXPAND_TILE_ROWS (LANES == 16 ? 4 : LANES == 8 ? 2 : 1)

/* The vectors of one pair of columns, [2][LORA_VECTORS]. */
static inline __attribute__((always_inline)) void lora_load_pair(const int32_t is_short, const char *pair,
                                                                 vec weights[2][LORA_VECTORS]) {
    for (int32_t v = 0; v < LORA_VECTORS; v++) {
        const char *start = pair + (size_t)(v * LANES) * sizeof(float);
        weights[0][v] = is_short ? vec_load_first(start) : vec_load((const float *)start);
        weights[1][v] = is_short ? vec_load_second(start) : vec_load((const float *)start + PANEL_ROWS);
    }
}

/* out[num_rows][PANEL_ROWS] = x . panel. Inlined with a constant number of rows to keep `sums` in registers. */
static inline __attribute__((always_inline)) void shrink_tile(const int32_t num_rows, const int32_t is_short,
                                                              const float *x, const char *panel, int32_t columns,
                                                              float *out, size_t stride) {
    vec sums[SHRINK_TILE_ROWS][SHRINK_SPLITS][LORA_VECTORS];
    for (int32_t r = 0; r < num_rows; r++)
        for (int32_t s = 0; s < SHRINK_SPLITS; s++)
            for (int32_t v = 0; v < LORA_VECTORS; v++) sums[r][s][v] = vec_set(0.0f);
    for (int32_t k = 0; k < columns; k += SHRINK_SPLITS)
        for (int32_t s = 0; s < SHRINK_SPLITS; s += 2, panel += LORA_PAIR_SIZE(is_short)) {
            vec weights[2][LORA_VECTORS];
            lora_load_pair(is_short, panel, weights);
            for (int32_t r = 0; r < num_rows; r++)
                for (int32_t i = 0; i < 2; i++)
                    for (int32_t v = 0; v < LORA_VECTORS; v++)
                        sums[r][s + i][v] =
                            vec_fma(vec_set(x[r * columns + k + s + i]), weights[i][v], sums[r][s + i][v]);
        }
    for (int32_t r = 0; r < num_rows; r++)
        for (int32_t v = 0; v < LORA_VECTORS; v++) {
            vec sum = vec_add(sums[r][0][v], sums[r][1][v]);
            if (SHRINK_SPLITS == 4)
                sum = vec_add(sum, vec_add(sums[r][SHRINK_SPLITS - 2][v], sums[r][SHRINK_SPLITS - 1][v]));
            vec_store(out + (size_t)r * stride + v * LANES, sum);
        }
}

static inline __attribute__((always_inline)) void shrink(const int32_t is_short, const float *x, int32_t num_rows,
                                                         const char *panels, int32_t num_panels, int32_t columns,
                                                         float *out, size_t stride) {
    const size_t size = (size_t)(columns / 2) * LORA_PAIR_SIZE(is_short);
    for (int32_t n; num_rows > 0; num_rows -= n, x += n * columns, out += (size_t)n * stride) {
        n = num_rows < SHRINK_TILE_ROWS ? num_rows : SHRINK_TILE_ROWS;
        for (int32_t p = 0; p < num_panels; p++) {
            const char *panel = panels + (size_t)p * size;
            switch (n) {
            case 1: shrink_tile(1, is_short, x, panel, columns, out + p * PANEL_ROWS, stride); break;
#if LANES > 4
            case 2: shrink_tile(2, is_short, x, panel, columns, out + p * PANEL_ROWS, stride); break;
#endif
#if LANES > 8
            case 3: shrink_tile(3, is_short, x, panel, columns, out + p * PANEL_ROWS, stride); break;
            case 4: shrink_tile(4, is_short, x, panel, columns, out + p * PANEL_ROWS, stride); break;
#endif
            }
        }
    }
}

/* y[num_rows][PANEL_ROWS] += u . panel, beginning at output `first` of the rows, of which `num_outputs` exist. */
static inline __attribute__((always_inline)) void expand_tile(const int32_t num_rows, const int32_t is_short,
                                                              const float *u, size_t stride, const char *panel,
                                                              int32_t rank, int32_t first, int32_t num_outputs,
                                                              float *const *y) {
    vec sums[EXPAND_TILE_ROWS][2][LORA_VECTORS];
    for (int32_t r = 0; r < num_rows; r++)
        for (int32_t v = 0; v < LORA_VECTORS; v++) sums[r][0][v] = sums[r][1][v] = vec_set(0.0f);
    for (int32_t j = 0; j < rank; j += 2, panel += LORA_PAIR_SIZE(is_short)) {
        vec weights[2][LORA_VECTORS];
        lora_load_pair(is_short, panel, weights);
        for (int32_t r = 0; r < num_rows; r++)
            for (int32_t i = 0; i < 2; i++)
                for (int32_t v = 0; v < LORA_VECTORS; v++)
                    sums[r][i][v] = vec_fma(vec_set(u[(size_t)r * stride + j + i]), weights[i][v], sums[r][i][v]);
    }
    for (int32_t r = 0; r < num_rows; r++) {
        float *target = y[r] + first, delta[PANEL_ROWS];
        for (int32_t v = 0; v < LORA_VECTORS; v++) vec_store(delta + v * LANES, vec_add(sums[r][0][v], sums[r][1][v]));
        if (num_outputs - first >= PANEL_ROWS)
            for (int32_t i = 0; i < PANEL_ROWS; i++) target[i] += delta[i];
        else
            for (int32_t i = 0; i < num_outputs - first; i++) target[i] += delta[i];
    }
}

static inline __attribute__((always_inline)) void expand(const int32_t is_short, const float *u, size_t stride,
                                                         int32_t num_rows, const char *panels, int32_t rank,
                                                         int32_t num_outputs, float *const *y) {
    const size_t size = (size_t)(rank / 2) * LORA_PAIR_SIZE(is_short);
    for (int32_t n; num_rows > 0; num_rows -= n, u += (size_t)n * stride, y += n) {
        n = num_rows < EXPAND_TILE_ROWS ? num_rows : EXPAND_TILE_ROWS;
        const char *panel = panels;
        for (int32_t first = 0; first < num_outputs; first += PANEL_ROWS, panel += size) {
            switch (n) {
            case 1: expand_tile(1, is_short, u, stride, panel, rank, first, num_outputs, y); break;
#if LANES > 4
            case 2: expand_tile(2, is_short, u, stride, panel, rank, first, num_outputs, y); break;
#endif
#if LANES > 8
            case 3: expand_tile(3, is_short, u, stride, panel, rank, first, num_outputs, y); break;
            case 4: expand_tile(4, is_short, u, stride, panel, rank, first, num_outputs, y); break;
#endif
            }
        }
    }
}

static void exact_shrink(const float *x, int32_t num_rows, const char *panels, int32_t num_panels, int32_t columns,
                         float *out, size_t stride) {
    shrink(0, x, num_rows, panels, num_panels, columns, out, stride);
}

static void short_shrink(const float *x, int32_t num_rows, const char *panels, int32_t num_panels, int32_t columns,
                         float *out, size_t stride) {
    shrink(1, x, num_rows, panels, num_panels, columns, out, stride);
}

static void exact_expand(const float *u, size_t stride, int32_t num_rows, const char *panels, int32_t rank,
                         int32_t num_outputs, float *const *y) {
    expand(0, u, stride, num_rows, panels, rank, num_outputs, y);
}

static void short_expand(const float *u, size_t stride, int32_t num_rows, const char *panels, int32_t rank,
                         int32_t num_outputs, float *const *y) {
    expand(1, u, stride, num_rows, panels, rank, num_outputs, y);
}

#endif
