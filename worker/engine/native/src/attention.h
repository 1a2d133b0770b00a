/* Attention over the KV cache.
 *
 * A block holds SLM_BLOCK_TOKENS tokens. For each layer and each key-value head it has the keys, as panels of 16 keys
 * [4][head_size][16], then the values, as panels of 16 dimensions [head_size / 16][64][16], floats, half floats or
 * bytes. So scores and weighted sums are tile products, without sums across a vector. Behind the keys, and behind the
 * values, a format of bytes has a float scale for each token [64].
 *
 * The keys of a query are split into spans of SPAN_TOKENS, starting at the first key. Each span gives a partial result
 * (an online softmax over its blocks), and the partial results are merged in order. The spans of a single token may be
 * computed by different threads, those of a chunk are computed in sequence; the arithmetic is the same.
 */
#ifndef SLM_ATTENTION_H
#define SLM_ATTENTION_H

#include "kernels.h"
#include "slm_native.h"

#define SPAN_TOKENS (4 * SLM_BLOCK_TOKENS)
#define MAX_HEAD_SIZE 256
#define TILE_QUERIES 48 /* queries of a head group computed together, if a chunk has that many */

struct attention {
    const struct kernels *kernels;
    const struct cache_format *format;
    char *cache;
    size_t block_size;
    int32_t num_heads, num_kv_heads, head_size;
    float query_scale; /* the caller multiplies queries by this */
};

/* The attention of consecutive tokens of one row over consecutive spans of its keys. */
struct attention_item {
    const int32_t *block_table;
    int32_t first_token; /* in the step */
    int32_t num_tokens;
    int32_t position; /* of the first token */
    int32_t first_span, num_spans;
    int32_t first_partial; /* of the first token; those of the next tokens follow */
    int32_t has_logits;    /* whether any of the tokens needs logits */
};

/* The results of one token over some of its keys, not yet divided by the softmax sum. */
struct partial {
    struct softmax_state *states; /* [num_heads] */
    float *sums;                  /* [num_heads][head_size] */
};

struct attention attention_over(const struct slm_model *model, const struct kernels *kernels, int32_t cache_format,
                                void *cache);

/* Size of a thread's scratch memory in bytes. */
size_t attention_scratch_size(const struct attention *attention);

/* Maximum tokens of a chunk in one item. */
int32_t attention_tile_tokens(const struct attention *attention);

/* Store the keys and values [num_kv_heads][head_size] of the token at `position`. */
void attention_store(const struct attention *attention, int32_t layer, const int32_t *block_table, int32_t position,
                     const float *keys, const float *values);

/* Compute an item for the query heads of one key-value head. queries: scaled, of all tokens of the step, each
 * [num_heads][head_size], `stride` floats apart. partials: of the step. */
void attention_compute(const struct attention *attention, int32_t layer, const struct attention_item *item,
                       int32_t kv_head, const float *queries, size_t stride, const struct partial *partials,
                       void *scratch);

/* out[num_heads][head_size] = the attention of one token, merged from its partial results. Overwrites the first one. */
void attention_finish(const struct attention *attention, const struct partial *partials, int32_t num_partials,
                      float *out);

#endif
