/* What differs between instruction sets: the tile products and the arithmetic on single rows.
 *
 * Weights are packed into panels of some output rows, so that one vector load gives the same input of many outputs.
 * Activations are encoded row by row into opaque records (plain floats, or integers with their scales). A tile multiplies
 * a few records with one panel; everything around it (threads, edges, bias, residual) is common to all sets.
 */
#ifndef SLM_KERNELS_H
#define SLM_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#define PANEL_ROWS 16 /* output rows of an fp32 panel */
#define MAX_PANEL_ROWS 32
#define GROUP_COLUMNS 64 /* input columns that share one int8 weight scale per output row */
#define MAX_TILE_ROWS 8
#define RECORD_ALIGNMENT 64

/* Some bytes of memory. */
struct stretch {
    const char *start;
    size_t size;
};

/* An fp32 panel is float [columns][PANEL_ROWS].
 *
 * An int8 panel is uint16 scales [groups][panel_rows] (upper halves of floats), padded to RECORD_ALIGNMENT bytes, then
 * int8 weights [groups * GROUP_COLUMNS / interleave][panel_rows][interleave]. Columns beyond the matrix are zero. */
struct product {
    int32_t panel_rows;  /* output rows of a panel, <= MAX_PANEL_ROWS */
    int32_t interleave;  /* int8: consecutive columns of one row that lie together */
    int32_t weight_flip; /* int8: 0, or 0x80 where the kernel takes unsigned weights (value + 128) */
    int32_t tile_rows;   /* most records of one tile, <= MAX_TILE_ROWS */

    /* Bytes of the record of a row of `columns` activations; a multiple of RECORD_ALIGNMENT. */
    size_t (*record_size)(int32_t columns);

    /* record = x[columns] */
    void (*encode)(const float *x, int32_t columns, void *record);

    /* out[num_records][panel_rows] = records . panel, with `stride` floats from one record's outputs to the next's. Each
     * output is summed in the same order whatever num_records is. ahead: what will be read from memory soon, to be asked
     * for meanwhile. */
    void (*multiply)(const char *records, size_t record_size, int32_t num_records, const char *panel, int32_t columns,
                     struct stretch ahead, float *out, size_t stride);
};

/* Running softmax of one query over the keys seen so far. */
struct softmax_state {
    float max, sum;
};

/* Some panels of cached keys or values, one after the other. */
struct panels {
    const char *start;
    size_t size; /* of one, in bytes */
    int32_t num;
    int32_t columns;
    size_t ahead;          /* bytes from each place to the one that is read next */
    int32_t columns_ahead; /* that will be read there: they are asked for from memory */
};

/* How keys and values are cached: as panels of PANEL_ROWS numbers. */
struct cache_format {
    size_t item_size;
    /* out[n] = x in this format */
    void (*convert)(const float *x, int32_t n, void *out);
    /* out[num_records][panels->num * PANEL_ROWS] = fp32 records . panels, as struct product's. */
    void (*multiply)(const char *records, size_t record_size, int32_t num_records, const struct panels *panels,
                     float *out, size_t stride);
};

struct kernels {
    const char *name;
    struct product fp32, int8;
    struct cache_format exact_cache;
    struct cache_format short_cache; /* of int8 models: half floats where the set converts them in one instruction */
    struct product int8_head; /* int8 with the finest activations of the set: the head's errors go into the logits */

    /* out[n] = x / rms(x) * weight */
    void (*rms_norm)(const float *x, const float *weight, float epsilon, int32_t n, float *out);
    /* out[n] = (x - mean(x)) / std(x) * weight + bias */
    void (*layer_norm)(const float *x, const float *weight, const float *bias, float epsilon, int32_t n, float *out);
    /* Rotate head[2 * half] by the angles whose cosines and sines [half] are given. */
    void (*rotate)(float *head, const float *cos, const float *sin, int32_t half);
    /* out[n] = silu(gate) * up */
    void (*swiglu)(const float *gate, const float *up, int32_t n, float *out);
    /* out[n] = gelu(x), the tanh approximation */
    void (*gelu_tanh)(const float *x, int32_t n, float *out);
    /* Turn the scores of a block's first `valid` keys into weights (the others' become 0), carry the state on, and return
     * the factor by which what was summed under the old maximum must be multiplied. scores: [SLM_BLOCK_TOKENS] */
    float (*softmax)(float *scores, int32_t valid, struct softmax_state *state);
    /* y[n] = y * y_factor + x * x_factor */
    void (*combine)(float *y, float y_factor, const float *x, float x_factor, int32_t n);
    /* out[n] = x * factor */
    void (*scale)(const float *x, float factor, int32_t n, float *out);
};

/* The named set if this CPU can run it, else NULL. */
const struct kernels *find_kernels(const char *name);

#endif
