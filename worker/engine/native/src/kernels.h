/* The operations that depend on the instruction set: tile products and arithmetic on single rows.
 *
 * Weights are packed into panels of several output rows, so that one vector load gives the weights of one input for
 * many outputs. Activations are encoded row by row into opaque packed rows (plain floats, or integers with their
 * scales). A tile multiplies a few packed rows with one panel; all kernel sets share the code around it (threads,
 * edges, bias, residual).
 */
#ifndef SLM_KERNELS_H
#define SLM_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#define PANEL_ROWS 16 /* output rows of an fp32 panel */
#define MAX_PANEL_ROWS 32
#define GROUP_COLUMNS 64 /* input columns that share one int8 weight scale per output row */
#define MAX_TILE_ROWS 8
#define PACKED_ROW_ALIGNMENT 64
#define MAX_GROUP_ROWS 4 /* rows that are multiplied together with an adapter */

#define CACHE_LINE 64     /* bytes */
#define SHRINK_AHEAD 2048 /* bytes; the processor's own prefetching stops at the end of each page */

struct prefetch_range {
    const char *start;
    size_t size;
};

/* Memory that is read next, to be prefetched by a tile. */
struct prefetch {
    struct prefetch_range weights;
    struct prefetch_range adapters; /* often empty */
};

/* An fp32 panel is float [columns][PANEL_ROWS].
 *
 * An int8 panel is uint16 scales [groups][panel_rows] (upper halves of floats), padded to PACKED_ROW_ALIGNMENT bytes, then
 * int8 weights [groups * GROUP_COLUMNS / interleave][panel_rows][interleave]. Columns beyond the matrix are zero. */
struct product {
    int32_t panel_rows;  /* output rows of a panel, <= MAX_PANEL_ROWS */
    int32_t interleave;  /* int8: consecutive columns of one row that are stored together */
    int32_t weight_flip; /* int8: 0, or 0x80 if the kernel takes unsigned weights (value + 128) */
    int32_t tile_rows;   /* maximum packed rows of a tile, <= MAX_TILE_ROWS */

    /* Size of a packed row of `columns` activations in bytes; a multiple of PACKED_ROW_ALIGNMENT. */
    size_t (*packed_row_size)(int32_t columns);

    /* packed row = x[columns] */
    void (*encode)(const float *x, int32_t columns, void *packed_row);

    /* out[num_packed_rows][panel_rows] = packed rows . panel, with `stride` floats between the outputs of consecutive packed
     * rows. The order of each sum does not depend on num_packed_rows. ahead: memory that is read next, to be prefetched. */
    void (*multiply)(const char *packed_rows, size_t packed_row_size, int32_t num_packed_rows, const char *panel,
                     int32_t columns, const struct prefetch *ahead, float *out, size_t stride);
};

/* Running softmax of one query over the keys seen so far. */
struct softmax_state {
    float max, sum;
};

/* Contiguous panels of cached keys or values. */
struct panels {
    const char *start;
    size_t size; /* of a panel, in bytes */
    int32_t num;
    int32_t columns;
    const float *scales;   /* [num * PANEL_ROWS]: factors of the outputs; NULL: they have none */
    size_t ahead;          /* distance in bytes to the data that is read next */
    int32_t columns_ahead; /* columns to prefetch there */
};

/* The cache format of keys and values: panels of PANEL_ROWS numbers. */
struct cache_format {
    size_t item_size;
    int32_t has_scales; /* whether each key, and each value, of a head has a scale */
    /* out[n] = x in this format; returns the scale, with x = out * scale. Without scales it is 1. */
    float (*convert)(const float *x, int32_t n, void *out);
    /* out[num_packed_rows][panels->num * PANEL_ROWS] = (fp32 packed rows . panels) * scales, as in struct product. */
    void (*multiply)(const char *packed_rows, size_t packed_row_size, int32_t num_packed_rows,
                     const struct panels *panels, float *out, size_t stride);
};

/* Inputs of a matrix: rows with the same adapter. */
struct lora_input {
    int32_t num_rows;                        /* <= MAX_GROUP_ROWS */
    int32_t columns;                         /* multiple of 16 */
    const float *x;                          /* [num_rows][columns] */
    const char *packed_rows[MAX_GROUP_ROWS]; /* the same, encoded for the matrix */
};

/* The products of LoRA adapters in one number format, with panels of PANEL_ROWS rows (slm_native.h). The order of each
 * sum depends on nothing but the number of columns. NULL: the set does not have this format. */
struct lora_format {
    /* out[input->num_rows][num_panels * PANEL_ROWS] = input . panels */
    void (*shrink)(const struct lora_input *input, const char *panels, int32_t num_panels, float *out, size_t stride);
    /* y[num_rows][num_outputs] += u[num_rows][rank] . panels; `rank` is even. num_rows <= MAX_GROUP_ROWS */
    void (*expand)(const float *u, size_t stride, int32_t num_rows, const char *panels, int32_t rank,
                   int32_t num_outputs, float *const *y);
};

struct kernels {
    const char *name;
    struct product fp32, int8;
    struct cache_format exact_cache;
    struct cache_format short_cache; /* for int8 models: half floats if the set converts them in one instruction */
    struct cache_format int8_cache;
    struct lora_format lora[4]; /* by enum slm_lora_format */
    struct product int8_head;   /* int8 with the set's most precise activations: errors of the head affect the logits */

    /* out[n] = x / rms(x) * weight */
    void (*rms_norm)(const float *x, const float *weight, float epsilon, int32_t n, float *out);
    /* out[n] = (x - mean(x)) / std(x) * weight + bias */
    void (*layer_norm)(const float *x, const float *weight, const float *bias, float epsilon, int32_t n, float *out);
    /* Rotate head[2 * half] by the angles given as cosines and sines [half]. */
    void (*rotate)(float *head, const float *cos, const float *sin, int32_t half);
    /* out[n] = silu(gate) * up */
    void (*swiglu)(const float *gate, const float *up, int32_t n, float *out);
    /* out[n] = gelu(x), the tanh approximation */
    void (*gelu_tanh)(const float *x, int32_t n, float *out);
    /* Turn the scores of a block's first `valid` keys into weights (the others become 0), update the state, and return
     * the factor for sums that used the old maximum. scores: [SLM_BLOCK_TOKENS]. scales: those of the first `valid`
     * values, with which the weights are multiplied; the weights of the others are then undefined. NULL: there are none. */
    float (*softmax)(float *scores, int32_t valid, const float *scales, struct softmax_state *state);
    /* y[n] = y * y_factor + x * x_factor */
    void (*combine)(float *y, float y_factor, const float *x, float x_factor, int32_t n);
    /* out[n] = x * factor */
    void (*scale)(const float *x, float factor, int32_t n, float *out);
};

/* Return the named kernel set if this CPU can run it, else NULL. */
const struct kernels *find_kernels(const char *name);

#endif
