/* The products of LoRA adapters, written in terms of the vectors of the including kernel set.
 *
 * Both products treat the columns of a panel in pairs. Two bfloat16 numbers of a pair form one 32-bit lane, which a
 * shift and a mask turn into two floats. Activations and sums are floats in any format.
 */
#ifndef SLM_LORA_PRODUCT_H
#define SLM_LORA_PRODUCT_H

#include "kernels.h"
#include "slm_native.h"

#define LORA_VECTORS (PANEL_ROWS / LANES)
#define LORA_ITEM_SIZE(format) ((format) == SLM_LORA_FP32 ? sizeof(float) : (format) == SLM_LORA_BF16 ? 2 : 1)
#define LORA_PAIR_SIZE(format) (2 * PANEL_ROWS * LORA_ITEM_SIZE(format))
#define LORA_HEAD_SIZE(format) ((format) == SLM_LORA_INT8 ? PANEL_ROWS * sizeof(float) : 0)

/* Sums of every SHRINK_SPLITS-th column are added at the end: enough independent sums to hide the latency of an
 * addition. The sums of a tile must fit in registers. */
#define SHRINK_SPLITS (VECTOR_FLOATS == 512 ? 4 : 2)
#define SHRINK_TILE_ROWS (VECTOR_FLOATS == 512 ? 4 : VECTOR_FLOATS == 128 ? 2 : 1)
#define EXPAND_TILE_ROWS (VECTOR_FLOATS == 512 ? 4 : VECTOR_FLOATS == 128 ? 2 : 1)
#define EXPAND_TILE_PANELS (VECTOR_FLOATS == 512 ? 2 : 1)

/* The vectors of one pair of columns, [2][LORA_VECTORS]. */
static inline __attribute__((always_inline)) void lora_load_pair(const int32_t format, const char *pair,
                                                                 vec weights[2][LORA_VECTORS]) {
    for (int32_t v = 0; v < LORA_VECTORS; v++)
        for (int32_t i = 0; i < 2; i++) {
            const int32_t item = i * PANEL_ROWS + v * LANES;
            if (format == SLM_LORA_FP32)
                weights[i][v] = vec_load((const float *)pair + item);
            else if (format == SLM_LORA_INT8)
                weights[i][v] = vec_load_int8((const int8_t *)pair + item);
            else
                weights[i][v] = i == 0 ? vec_load_first(pair + v * LANES * 4) : vec_load_second(pair + v * LANES * 4);
        }
}

/* The sums of a panel's rows, scaled if the format has scales. */
static inline __attribute__((always_inline)) vec lora_scale(const int32_t format, vec sum, const char *head,
                                                            int32_t v) {
    return format == SLM_LORA_INT8 ? vec_mul(sum, vec_load((const float *)head + v * LANES)) : sum;
}

/* out[num_rows][PANEL_ROWS] = x . panel. Inlined with a constant number of rows to keep `sums` in registers. */
static inline __attribute__((always_inline)) void shrink_tile(const int32_t num_rows, const int32_t format,
                                                              const float *x, const char *panel, int32_t columns,
                                                              float *out, size_t stride) {
    const char *head = panel;
    panel += LORA_HEAD_SIZE(format);
    vec sums[SHRINK_TILE_ROWS][SHRINK_SPLITS][LORA_VECTORS];
    for (int32_t r = 0; r < num_rows; r++)
        for (int32_t s = 0; s < SHRINK_SPLITS; s++)
            for (int32_t v = 0; v < LORA_VECTORS; v++) sums[r][s][v] = vec_set(0.0f);
    for (int32_t k = 0; k < columns; k += SHRINK_SPLITS)
        for (int32_t s = 0; s < SHRINK_SPLITS; s += 2, panel += LORA_PAIR_SIZE(format)) {
            vec weights[2][LORA_VECTORS];
            lora_load_pair(format, panel, weights);
            for (size_t line = 0; line < LORA_PAIR_SIZE(format); line += CACHE_LINE)
                __builtin_prefetch(panel + SHRINK_AHEAD + line);
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
            vec_store(out + (size_t)r * stride + v * LANES, lora_scale(format, sum, head, v));
        }
}

static inline __attribute__((always_inline)) void shrink(const int32_t format, const float *x, int32_t num_rows,
                                                         const char *panels, int32_t num_panels, int32_t columns,
                                                         float *out, size_t stride) {
    const size_t size = LORA_HEAD_SIZE(format) + (size_t)(columns / 2) * LORA_PAIR_SIZE(format);
    for (int32_t n; num_rows > 0; num_rows -= n, x += n * columns, out += (size_t)n * stride) {
        n = num_rows < SHRINK_TILE_ROWS ? num_rows : SHRINK_TILE_ROWS;
        for (int32_t p = 0; p < num_panels; p++) {
            const char *panel = panels + (size_t)p * size;
            switch (n) {
            case 1: shrink_tile(1, format, x, panel, columns, out + p * PANEL_ROWS, stride); break;
#if VECTOR_FLOATS > 64
            case 2: shrink_tile(2, format, x, panel, columns, out + p * PANEL_ROWS, stride); break;
#endif
#if VECTOR_FLOATS > 128
            case 3: shrink_tile(3, format, x, panel, columns, out + p * PANEL_ROWS, stride); break;
            case 4: shrink_tile(4, format, x, panel, columns, out + p * PANEL_ROWS, stride); break;
#endif
            }
        }
    }
}

/* y[num_rows][first ...] += u . num_panels panels, as far as there are outputs. With two panels each loaded u is used
 * twice. */
static inline __attribute__((always_inline)) void expand_tile(const int32_t num_rows, const int32_t num_panels,
                                                              const int32_t format, const float *u, size_t stride,
                                                              const char *panels, int32_t rank, int32_t first,
                                                              int32_t num_outputs, float *const *y) {
    const size_t size = LORA_HEAD_SIZE(format) + (size_t)(rank / 2) * LORA_PAIR_SIZE(format);
    const char *pair = panels + LORA_HEAD_SIZE(format);
    vec sums[EXPAND_TILE_ROWS][EXPAND_TILE_PANELS][2][LORA_VECTORS];
    for (int32_t r = 0; r < num_rows; r++)
        for (int32_t p = 0; p < num_panels; p++)
            for (int32_t v = 0; v < LORA_VECTORS; v++) sums[r][p][0][v] = sums[r][p][1][v] = vec_set(0.0f);
    for (int32_t j = 0; j < rank; j += 2, pair += LORA_PAIR_SIZE(format)) {
        vec weights[EXPAND_TILE_PANELS][2][LORA_VECTORS];
        for (int32_t p = 0; p < num_panels; p++) lora_load_pair(format, pair + (size_t)p * size, weights[p]);
        for (int32_t r = 0; r < num_rows; r++)
            for (int32_t i = 0; i < 2; i++) {
                const vec factor = vec_set((u + (size_t)r * stride)[j + i]);
                for (int32_t p = 0; p < num_panels; p++)
                    for (int32_t v = 0; v < LORA_VECTORS; v++)
                        sums[r][p][i][v] = vec_fma(factor, weights[p][i][v], sums[r][p][i][v]);
            }
    }
    for (int32_t r = 0; r < num_rows; r++)
        for (int32_t p = 0; p < num_panels; p++) {
            const int32_t left = num_outputs - first - p * PANEL_ROWS;
            float *target = y[r] + first + p * PANEL_ROWS, delta[PANEL_ROWS];
            for (int32_t v = 0; v < LORA_VECTORS; v++) {
                vec sum = vec_add(sums[r][p][0][v], sums[r][p][1][v]);
                sum = lora_scale(format, sum, panels + (size_t)p * size, v);
                if (left >= PANEL_ROWS)
                    vec_store(target + v * LANES, vec_add(vec_load(target + v * LANES), sum));
                else
                    vec_store(delta + v * LANES, sum);
            }
            for (int32_t i = 0; left < PANEL_ROWS && i < left; i++) target[i] += delta[i];
        }
}

static inline __attribute__((always_inline)) void expand_tile_of(int32_t num_rows, const int32_t num_panels,
                                                                 const int32_t format, const float *u, size_t stride,
                                                                 const char *panels, int32_t rank, int32_t first,
                                                                 int32_t num_outputs, float *const *y) {
    switch (num_rows) {
    case 1: expand_tile(1, num_panels, format, u, stride, panels, rank, first, num_outputs, y); break;
#if VECTOR_FLOATS > 64
    case 2: expand_tile(2, num_panels, format, u, stride, panels, rank, first, num_outputs, y); break;
#endif
#if VECTOR_FLOATS > 128
    case 3: expand_tile(3, num_panels, format, u, stride, panels, rank, first, num_outputs, y); break;
    case 4: expand_tile(4, num_panels, format, u, stride, panels, rank, first, num_outputs, y); break;
#endif
    }
}

static inline __attribute__((always_inline)) void expand(const int32_t format, const float *u, size_t stride,
                                                         int32_t num_rows, const char *panels, int32_t rank,
                                                         int32_t num_outputs, float *const *y) {
    const size_t size = LORA_HEAD_SIZE(format) + (size_t)(rank / 2) * LORA_PAIR_SIZE(format);
    for (int32_t n; num_rows > 0; num_rows -= n, u += (size_t)n * stride, y += n) {
        n = num_rows < EXPAND_TILE_ROWS ? num_rows : EXPAND_TILE_ROWS;
        const char *panel = panels;
        int32_t first = 0;
        for (; EXPAND_TILE_PANELS > 1 && num_outputs - first > PANEL_ROWS;
             first += EXPAND_TILE_PANELS * PANEL_ROWS, panel += EXPAND_TILE_PANELS * size)
            expand_tile_of(n, EXPAND_TILE_PANELS, format, u, stride, panel, rank, first, num_outputs, y);
        for (; first < num_outputs; first += PANEL_ROWS, panel += size)
            expand_tile_of(n, 1, format, u, stride, panel, rank, first, num_outputs, y);
    }
}

#define LORA_PRODUCTS(format, name)                                                                                    \
    static void name##_shrink(const struct lora_input *input, const char *panels, int32_t num_panels, float *out,      \
                              size_t stride) {                                                                         \
        shrink(format, input->x, input->num_rows, panels, num_panels, input->columns, out, stride);                    \
    }                                                                                                                  \
    static void name##_expand(const float *u, size_t stride, int32_t num_rows, const char *panels, int32_t rank,       \
                              int32_t num_outputs, float *const *y) {                                                  \
        expand(format, u, stride, num_rows, panels, rank, num_outputs, y);                                             \
    }

LORA_PRODUCTS(SLM_LORA_FP32, fp32)
LORA_PRODUCTS(SLM_LORA_BF16, bf16)
LORA_PRODUCTS(SLM_LORA_INT8, int8)

#endif
