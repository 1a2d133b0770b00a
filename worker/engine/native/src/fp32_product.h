/* Tile products in fp32, written in terms of the vectors of the including kernel set.
 *
 * Panels of keys and values may hold half floats or bytes, which are widened on load: fewer bytes have to be read.
 *
 * The sums of a tile must fit in registers together with a panel's vectors, so its size follows from VECTOR_FLOATS,
 * the number of floats that all vector registers hold: 64 (portable), 128 (AVX2, NEON) or 512 (AVX-512).
 */
#ifndef SLM_FP32_PRODUCT_H
#define SLM_FP32_PRODUCT_H

#include <float.h>

#include "kernels.h"

#define PANEL_VECTORS (PANEL_ROWS / LANES)

/* Before loops of a few turns, so that the arrays that they index can stay in registers. Clang unrolls them by itself,
 * but not with this pragma; the portable kernels become slower with it. */
#if defined(__GNUC__) && !defined(__clang__) && VECTOR_FLOATS > 64
#define UNROLL _Pragma("GCC unroll 16")
#else
#define UNROLL
#endif

#define FP32_TILE_ROWS (VECTOR_FLOATS == 512 ? 8 : VECTOR_FLOATS == 128 ? 6 : 2)
#define TILE_PANELS (VECTOR_FLOATS == 512 ? 2 : 1)
/* With few packed rows a tile has more panels: enough independent sums to hide the latency of an addition. */
#define FLAT_TILE_ROWS (VECTOR_FLOATS == 512 ? 4 : VECTOR_FLOATS == 128 ? 3 : 2)
#define FLAT_TILE_PANELS (VECTOR_FLOATS == 512 ? 4 : VECTOR_FLOATS == 128 ? 2 : 1)
#define MAX_TILE_VECTORS (FLAT_TILE_PANELS * PANEL_VECTORS)

/* With padding between packed rows, so that rows of 2^n floats do not map to the same cache sets. */
static size_t fp32_packed_row_size(int32_t columns) {
    size_t size = (size_t)columns * sizeof(float) + PACKED_ROW_ALIGNMENT;
    return (size + PACKED_ROW_ALIGNMENT - 1) / PACKED_ROW_ALIGNMENT * PACKED_ROW_ALIGNMENT;
}

static void fp32_encode(const float *x, int32_t columns, void *packed_row) {
    memcpy(packed_row, x, (size_t)columns * sizeof(float));
}

enum panel_item { FLOAT_ITEM, HALF_ITEM, INT8_ITEM };

static inline size_t panel_item_size(const enum panel_item item) {
    return item == FLOAT_ITEM ? sizeof(float) : item == HALF_ITEM ? sizeof(uint16_t) : sizeof(int8_t);
}

static inline vec panel_load(const char *panel, const enum panel_item item) {
    if (item == INT8_ITEM) return vec_load_int8((const int8_t *)panel);
#ifdef VECTOR_HAS_HALF
    if (item == HALF_ITEM) return vec_load_half((const uint16_t *)panel);
#endif
    return vec_load((const float *)panel);
}

/* out[num_packed_rows][num_vectors * LANES] = packed rows . the first panels. Inlined with constant sizes to keep `sums` in
 * registers. */
static inline __attribute__((always_inline)) void fp32_tile(const int32_t num_packed_rows, const int32_t num_vectors,
                                                            const enum panel_item item, const char *packed_rows,
                                                            size_t packed_row_size, const struct panels *from,
                                                            float *out, size_t stride) {
    const size_t item_size = panel_item_size(item);
    const char *panels = from->start;
    vec sums[FP32_TILE_ROWS][MAX_TILE_VECTORS];
    UNROLL
    for (int32_t r = 0; r < num_packed_rows; r++) {
        UNROLL
        for (int32_t v = 0; v < num_vectors; v++) sums[r][v] = vec_set(0.0f);
    }
    for (int32_t k = 0; k < from->columns; k++, panels += PANEL_ROWS * item_size) {
        vec weights[MAX_TILE_VECTORS];
        if (k < from->columns_ahead)
            for (int32_t v = 0; v < num_vectors; v += PANEL_VECTORS)
                __builtin_prefetch(panels + (size_t)(v / PANEL_VECTORS) * from->size + from->ahead);
        UNROLL
        for (int32_t v = 0; v < num_vectors; v++)
            weights[v] = panel_load(panels + (size_t)(v / PANEL_VECTORS) * from->size +
                                        (size_t)(v % PANEL_VECTORS * LANES) * item_size,
                                    item);
        UNROLL
        for (int32_t r = 0; r < num_packed_rows; r++) {
            vec x = vec_set(((const float *)(packed_rows + (size_t)r * packed_row_size))[k]);
            UNROLL
            for (int32_t v = 0; v < num_vectors; v++) sums[r][v] = vec_fma(x, weights[v], sums[r][v]);
        }
    }
    UNROLL
    for (int32_t r = 0; r < num_packed_rows; r++) {
        UNROLL
        for (int32_t v = 0; v < num_vectors; v++) {
            if (from->scales != NULL) sums[r][v] = vec_mul(sums[r][v], vec_load(from->scales + v * LANES));
            vec_store(out + (size_t)r * stride + v * LANES, sums[r][v]);
        }
    }
}

static inline __attribute__((always_inline)) void fp32_tile_of(int32_t num_packed_rows, const int32_t num_vectors,
                                                               const enum panel_item item, const char *packed_rows,
                                                               size_t packed_row_size, const struct panels *from,
                                                               float *out, size_t stride) {
    switch (num_packed_rows) {
    case 1: fp32_tile(1, num_vectors, item, packed_rows, packed_row_size, from, out, stride); break;
    case 2: fp32_tile(2, num_vectors, item, packed_rows, packed_row_size, from, out, stride); break;
#if VECTOR_FLOATS > 64
    case 3: fp32_tile(3, num_vectors, item, packed_rows, packed_row_size, from, out, stride); break;
    case 4: fp32_tile(4, num_vectors, item, packed_rows, packed_row_size, from, out, stride); break;
    case 5: fp32_tile(5, num_vectors, item, packed_rows, packed_row_size, from, out, stride); break;
    case 6: fp32_tile(6, num_vectors, item, packed_rows, packed_row_size, from, out, stride); break;
#endif
#if VECTOR_FLOATS > 128
    case 7: fp32_tile(7, num_vectors, item, packed_rows, packed_row_size, from, out, stride); break;
    case 8: fp32_tile(8, num_vectors, item, packed_rows, packed_row_size, from, out, stride); break;
#endif
    }
}

/* Multiply the first `num_panels` panels with all packed rows, `tile_rows` at a time. */
static inline __attribute__((always_inline)) void fp32_multiply_group(const int32_t num_panels, const int32_t tile_rows,
                                                                      const enum panel_item item,
                                                                      const char *packed_rows, size_t packed_row_size,
                                                                      int32_t num_packed_rows, struct panels from,
                                                                      float *out, size_t stride) {
    for (int32_t left = num_packed_rows; left > 0; left -= tile_rows) {
        fp32_tile_of(left < tile_rows ? left : tile_rows, num_panels * PANEL_VECTORS, item, packed_rows,
                     packed_row_size, &from, out, stride);
        from.columns_ahead = 0; /* prefetched already */
        packed_rows += (size_t)tile_rows * packed_row_size;
        out += (size_t)tile_rows * stride;
    }
}

static inline __attribute__((always_inline)) void fp32_multiply_all(const enum panel_item item, const char *packed_rows,
                                                                    size_t packed_row_size, int32_t num_packed_rows,
                                                                    struct panels from, float *out, size_t stride) {
    const int32_t is_flat = num_packed_rows <= FLAT_TILE_ROWS;
    while (from.num > 0) {
        int32_t num_panels = 1;
        if (is_flat && from.num >= FLAT_TILE_PANELS) {
            num_panels = FLAT_TILE_PANELS;
            fp32_multiply_group(FLAT_TILE_PANELS, FLAT_TILE_ROWS, item, packed_rows, packed_row_size, num_packed_rows,
                                from, out, stride);
        } else if (from.num >= TILE_PANELS) {
            num_panels = TILE_PANELS;
            fp32_multiply_group(TILE_PANELS, FP32_TILE_ROWS, item, packed_rows, packed_row_size, num_packed_rows, from,
                                out, stride);
        } else {
            fp32_multiply_group(1, FP32_TILE_ROWS, item, packed_rows, packed_row_size, num_packed_rows, from, out,
                                stride);
        }
        from.start += (size_t)num_panels * from.size;
        from.num -= num_panels;
        if (from.scales != NULL) from.scales += num_panels * PANEL_ROWS;
        out += num_panels * PANEL_ROWS;
    }
}

static void fp32_multiply(const char *packed_rows, size_t packed_row_size, int32_t num_packed_rows, const char *panel,
                          int32_t columns, const struct prefetch *ahead, float *out, size_t stride) {
    const struct panels one = {.start = panel, .num = 1, .columns = columns};
    (void)ahead;
    fp32_tile_of(num_packed_rows, PANEL_VECTORS, FLOAT_ITEM, packed_rows, packed_row_size, &one, out, stride);
}

static void exact_multiply(const char *packed_rows, size_t packed_row_size, int32_t num_packed_rows,
                           const struct panels *panels, float *out, size_t stride) {
    fp32_multiply_all(FLOAT_ITEM, packed_rows, packed_row_size, num_packed_rows, *panels, out, stride);
}

static float exact_convert(const float *x, int32_t n, void *out) {
    memcpy(out, x, (size_t)n * sizeof *x);
    return 1.0f;
}

#ifdef VECTOR_HAS_HALF

static void half_multiply(const char *packed_rows, size_t packed_row_size, int32_t num_packed_rows,
                          const struct panels *panels, float *out, size_t stride) {
    fp32_multiply_all(HALF_ITEM, packed_rows, packed_row_size, num_packed_rows, *panels, out, stride);
}

/* Values out of range become the largest half float. NaN stays NaN: both comparisons then return their second
 * operand. */
static float half_convert(const float *x, int32_t n, void *out) {
    const vec largest = vec_set(65504.0f), smallest = vec_set(-65504.0f);
    for (int32_t i = 0; i < n; i += LANES)
        vec_store_half((uint16_t *)out + i, vec_max(smallest, vec_min(largest, vec_load(x + i))));
    return 1.0f;
}

#endif

static void int8_cache_multiply(const char *packed_rows, size_t packed_row_size, int32_t num_packed_rows,
                                const struct panels *panels, float *out, size_t stride) {
    fp32_multiply_all(INT8_ITEM, packed_rows, packed_row_size, num_packed_rows, *panels, out, stride);
}

/* The scale is NaN if not all numbers are finite, so that the results of this token are NaN, too. Every set gives the
 * same bits. */
static float int8_convert(const float *x, int32_t n, void *out) {
    const vec zero = vec_set(0.0f);
    vec largest = zero, invalid = zero;
    for (int32_t i = 0; i < n; i += LANES) {
        largest = vec_max(largest, vec_abs(vec_load(x + i)));
        invalid = vec_fma(vec_load(x + i), zero, invalid);
    }
    const float scale = vec_largest(largest) / INT8_MAX + vec_sum(invalid);
    if (!(scale >= FLT_MIN)) {
        memset(out, 0, (size_t)n);
        return scale;
    }
    const vec factor = vec_set(1.0f / scale);
    for (int32_t i = 0; i < n; i += PANEL_ROWS) {
        float rounded[PANEL_ROWS];
        for (int32_t v = 0; v < PANEL_ROWS; v += LANES)
            vec_store(rounded + v, vec_round(vec_mul(vec_load(x + i + v), factor)));
        for (int32_t j = 0; j < PANEL_ROWS; j++) ((int8_t *)out)[i + j] = (int8_t)rounded[j];
    }
    return scale;
}

#endif
