/* The LoRA adapters of a step's rows.
 *
 * Rows with the same adapter are computed together, a few at a time, so that its weights are read once for them. The
 * phase that prepares the input x of a matrix also computes u = a . x, and the phase that reads the matrix's outputs
 * first adds b . u to them; so adapters need no phases of their own, and a group reads its weights in one piece: the b
 * of one matrix, then the a of the next.
 */
#ifndef SLM_LORA_H
#define SLM_LORA_H

#include "kernels.h"
#include "slm_native.h"
#include "thread_pool.h"

/* Rows of a step with the same adapter. */
struct row_group {
    const struct slm_adapter *adapter; /* NULL: the bare base; such a group has one row */
    int32_t first;                     /* index in `rows` of struct row_groups */
    int32_t num_rows;
};

/* All rows of a step, or those that need logits, in groups. */
struct row_groups {
    int32_t num_groups;
    int32_t has_adapters;     /* 0: all rows are of the bare base */
    int32_t *rows;            /* [number of rows] */
    struct row_group *groups; /* [num_groups] */
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

/* u of a group's rows = a . input */
void lora_shrink(const struct lora_call *call, const struct row_group *group, const struct lora_input *input);

/* What a thread will read of the adapters of its groups after a matrix, to be prefetched during that matrix. */
struct lora_stream {
    const struct lora_call *call;
    int32_t group, end;    /* the current group of the thread's share, and its end */
    size_t offset;         /* in the memory that is read of the group's adapter */
    size_t bytes_per_tile; /* multiple of CACHE_LINE */
};

/* Return the stream of the groups in a share of them, for `num_tiles` calls of lora_stream_next(). */
struct lora_stream lora_stream(const struct lora_call *call, struct task_range share, int32_t num_tiles);

/* Return what to prefetch during the next tile. */
struct prefetch_range lora_stream_next(struct lora_stream *stream);

/* y[rows of the group][stride] += b . u */
void lora_expand(const struct lora_call *call, const struct row_group *group, float *y, size_t stride);

/* hidden[hidden_size] += what the adapter adds to the embedding of `index` (a token or a position) */
void lora_embed(const struct kernels *kernels, int32_t format, const struct slm_lora_embedding *embedding,
                int32_t index, float *hidden);

#endif
