/* Attention over the cache of keys and values.
 *
 * A block holds SLM_BLOCK_TOKENS tokens. For each layer and each key-value head it has the keys, as panels of 16 keys
 * [4][head_size][16], then the values, as panels of 16 dimensions [head_size / 16][64][16], floats or half floats: scores
 * and weighted sums are tile products then, and no sum runs across a vector.
 *
 * The keys of a query are taken in spans of SPAN_TOKENS from the first one. Each span gives a partial result (an online
 * softmax over its blocks), and the partial results are merged in order. A single token's spans may be computed by
 * different threads; a chunk's are computed one after the other: the arithmetic is the same.
 */
#ifndef SLM_ATTENTION_H
#define SLM_ATTENTION_H

#include "kernels.h"
#include "slm_native.h"

#define SPAN_TOKENS (4 * SLM_BLOCK_TOKENS)
#define MAX_HEAD_SIZE 256
#define TILE_QUERIES 48 /* queries of one head group computed together, when a chunk has that many */

struct attention {
    const struct kernels *kernels;
    const struct cache_format *format;
    char *cache;
    size_t block_size;
    int32_t num_heads, num_kv_heads, head_size;
    float query_scale; /* that the caller multiplies queries by */
};

/* The attention of some consecutive tokens of one row over some spans of its keys. */
struct attention_item {
    const int32_t *block_table;
    int32_t first_token; /* in the step */
    int32_t num_tokens;
    int32_t position; /* of the first token */
    int32_t first_span, num_spans;
    int32_t first_partial; /* of the first token; the next token's follows */
    int32_t has_logits;    /* whether logits of some of the tokens are wanted */
};

/* Results of one token over some of its keys, not yet divided by the softmax's sum. */
struct partial {
    struct softmax_state *states; /* [num_heads] */
    float *sums;                  /* [num_heads][head_size] */
};

struct attention attention_over(const struct slm_model *model, const struct kernels *kernels, void *cache);

/* Bytes of a thread's scratch memory. */
size_t attention_scratch_size(const struct attention *attention);

/* Tokens of a chunk to put into one item. */
int32_t attention_tile_tokens(const struct attention *attention);

/* Store the keys and values [num_kv_heads][head_size] of the token at `position`. */
void attention_store(const struct attention *attention, int32_t layer, const int32_t *block_table, int32_t position,
                     const float *keys, const float *values);

/* Compute an item for the heads of one key-value head. queries: of the step's tokens, scaled, `stride` floats from one
 * token's [num_heads][head_size] to the next's. partials: of the step. */
void attention_compute(const struct attention *attention, int32_t layer, const struct attention_item *item,
                       int32_t kv_head, const float *queries, size_t stride, const struct partial *partials,
                       void *scratch);

/* out[num_heads][head_size] = the attention of one token, from its partial results in order. Overwrites the first one. */
void attention_finish(const struct attention *attention, const struct partial *partials, int32_t num_partials,
                      float *out);

#endif
