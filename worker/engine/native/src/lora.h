/* The LoRA adapters of a step's rows.
 *
 * Rows with the same adapter are computed together, a few at a time, so that its weights are read once for them. The
 * phase that prepares the input x of a matrix also computes u = a . x, and the matrix's own tasks add b . u to their
 * outputs; so adapters need no phases of their own.
 */
#ifndef SLM_LORA_H
#define SLM_LORA_H

#include "kernels.h"
#include "slm_native.h"

/* Rows of a step with the same adapter. */
struct row_group {
    const struct slm_adapter *adapter; /* NULL: the bare base; such a group has one row */
    int32_t first;                     /* index in `rows` of struct row_groups */
    int32_t num_rows;
};

/* All rows of a step, or those that need logits, in groups. A group lies within one block of rows of a linear layer. */
struct row_groups {
    int32_t num_groups;
    int32_t has_adapters;     /* 0: all rows are of the bare base */
    int32_t *rows;            /* [number of rows] */
    struct row_group *groups; /* [num_groups] */
    int32_t *block_starts;    /* [number of blocks + 1]: the first group of each block */
};

/* What the adapters add to one matrix. */
struct lora_call {
    const struct kernels *kernels;
    const struct row_groups *groups;
    int32_t matrix; /* index in the adapters' `matrices` */
    float *shrunk;  /* u of the rows, in the order of groups->rows */
    size_t stride;  /* between the rows of `shrunk` */
};

/* Group `num_rows` rows. adapters[tokens[row]] is the adapter of a row. is_grouped: [num_rows], used by this function
 * only. Groups have at most `max_group_rows` rows. */
void group_rows(struct row_groups *groups, const struct slm_adapter *const *adapters, const int32_t *tokens,
                int32_t num_rows, int32_t max_group_rows, char *is_grouped);

/* u of a group's rows = a . x[num_rows][columns] */
void lora_shrink(const struct lora_call *call, const struct row_group *group, const float *x, int32_t columns);

/* Some outputs of a matrix for the rows of a block. `first` is a multiple of PANEL_ROWS. */
struct block_outputs {
    int32_t block, first, end;
};

/* y[rows][stride] += b . u */
void lora_expand(const struct lora_call *call, struct block_outputs outputs, float *y, size_t stride);

/* List cache lines that lora_expand() will read: those of share `share` of `num_shares`, at most MAX_LINES_AHEAD. Returns
 * their number. */
int32_t lora_lines(const struct lora_call *call, struct block_outputs outputs, int32_t share, int32_t num_shares,
                   const char **lines);

/* hidden[hidden_size] += what the adapter adds to the embedding of `index` (a token or a position) */
void lora_embed(const struct kernels *kernels, int32_t format, const struct slm_lora_embedding *embedding,
                int32_t index, float *hidden);

#endif
