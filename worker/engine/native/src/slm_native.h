/* The native CPU runner: computes steps of a decoder-only language model over a paged KV cache.
 *
 * The caller owns all arrays that it passes by pointer; they must outlive the runner. Matrices are row-major. No
 * function prints or aborts; functions that can fail return NULL or 0.
 *
 * The result for a token is bitwise the same for any batch and any chunks of its prefill: the order of all sums depends
 * only on the token's own position and adapter.
 */
#ifndef SLM_NATIVE_H
#define SLM_NATIVE_H

#include <stddef.h>
#include <stdint.h>

#define SLM_BLOCK_TOKENS 64 /* tokens of one cache block */

enum slm_precision { SLM_FP32 = 0, SLM_INT8 = 1 };
/* How keys and values are cached. SLM_CACHE_AUTO: fp32 models have floats; int8 models have half floats if the kernel set
 * converts them in one instruction, else floats. SLM_CACHE_INT8: bytes, with a scale per token and head. */
enum slm_cache_format { SLM_CACHE_AUTO = 0, SLM_CACHE_INT8 = 1 };
enum slm_norm_kind { SLM_RMS_NORM = 0, SLM_LAYER_NORM = 1 };
enum slm_mlp_kind { SLM_SWIGLU = 0, SLM_GELU_TANH = 1 };
enum slm_embedding_kind {
    SLM_EMBEDDING_FP32 = 0,   /* float [vocab_size][hidden_size] */
    SLM_EMBEDDING_BF16 = 1,   /* upper halves of floats [vocab_size][hidden_size] */
    SLM_EMBEDDING_PANELS = 2, /* the packed fp32 head, for tied embeddings */
};

/* y[rows] = weights[rows][columns] . x[columns] + bias[rows]. */
struct slm_linear {
    const void *panels; /* slm_packed_size() bytes, aligned to 64, filled by slm_pack_rows() */
    const float *bias;  /* [rows] or NULL */
    int32_t rows;
    int32_t columns;
};

struct slm_norm {
    const float *weight; /* NULL: the model does not have this norm */
    const float *bias;   /* NULL for an RMS norm */
};

struct slm_layer {
    struct slm_norm attention_norm, mlp_norm; /* [hidden_size] */
    struct slm_norm query_norm, key_norm;     /* [head_size], RMS, or NULL */
    struct slm_linear query_key_value;        /* rows: all queries, then all keys, then all values */
    struct slm_linear attention_output;
    struct slm_linear mlp_input; /* rows: gate then up (SwiGLU), or the hidden units (GELU) */
    struct slm_linear mlp_output;
};

struct slm_model {
    int32_t num_layers;
    int32_t hidden_size;       /* multiple of 16 */
    int32_t intermediate_size; /* multiple of 16 */
    int32_t num_heads;
    int32_t num_kv_heads; /* divides num_heads */
    int32_t head_size;    /* multiple of 16, at most 256 */
    int32_t vocab_size;
    int32_t context_length; /* maximum tokens of a sequence; length of the position tables */
    int32_t precision;      /* enum slm_precision */
    int32_t norm_kind;      /* enum slm_norm_kind */
    int32_t mlp_kind;       /* enum slm_mlp_kind */
    int32_t embedding_kind; /* enum slm_embedding_kind */
    float norm_epsilon;
    const void *embedding;
    const float *position_embedding; /* [context_length][hidden_size], or NULL: rotary positions */
    const float *rotary_cos;         /* [context_length][head_size / 2], or NULL: learned positions */
    const float *rotary_sin;
    struct slm_norm final_norm;
    struct slm_linear head;         /* rows: vocab_size */
    const struct slm_layer *layers; /* [num_layers] */
};

/* LoRA adapters (Hu et al. 2021) add b . a . x to the result of a matrix. `a` and `b` are packed into panels of
 * SLM_LORA_PANEL_ROWS of their rows, zero after the last one. A panel has pairs of columns. */
#define SLM_LORA_PANEL_ROWS 16
#define SLM_MAX_LORA_PARTS 3

enum slm_lora_format {
    SLM_LORA_FP32 = 0, /* a pair is float [2][SLM_LORA_PANEL_ROWS] */
    SLM_LORA_BF16 = 1, /* a pair is upper halves of floats [SLM_LORA_PANEL_ROWS][2] */
    SLM_LORA_INT8 =
        2, /* a pair is int8 [2][SLM_LORA_PANEL_ROWS]; a panel begins with float scales [SLM_LORA_PANEL_ROWS] */
    SLM_LORA_DOT = 3, /* like that, but two pairs are uint8 [SLM_LORA_PANEL_ROWS][4] of value + 128; avx512vnni only */
};

/* One of the modules that form a matrix: y[first_row ...] += b . u[first_rank ...] with u = a . x. */
struct slm_lora_part {
    const void *b;      /* panels of [num_rows][rank] */
    int32_t first_row;  /* multiple of SLM_LORA_PANEL_ROWS */
    int32_t num_rows;   /* such a multiple, too, except at the end of the matrix */
    int32_t first_rank; /* even */
    int32_t rank;       /* even: an odd one is padded with zeros */
};

/* What an adapter adds to a matrix. */
struct slm_lora {
    const void *a;      /* num_panels panels of the ranks of all parts: [ranks][columns] */
    int32_t num_panels; /* 0: the adapter does not change this matrix */
    int32_t num_parts;
    struct slm_lora_part parts[SLM_MAX_LORA_PARTS];
    const void *next; /* what a step reads after this matrix, to be prefetched: b, and the a of the next matrix */
    size_t next_size; /* bytes */
};

/* What an adapter adds to an embedding: b . a[:, token]. */
struct slm_lora_embedding {
    const float *columns; /* of a: [tokens or positions][part.rank], or NULL: the adapter does not change it */
    struct slm_lora_part part;
};

struct slm_adapter {
    int32_t format;    /* enum slm_lora_format, of all panels */
    int32_t max_ranks; /* the largest num_panels * SLM_LORA_PANEL_ROWS */
    struct slm_lora_embedding embedding, position_embedding;
    /* Of each layer: query_key_value, attention_output, mlp_input, mlp_output; then of the head. */
    const struct slm_lora *matrices; /* [4 * num_layers + 1] */
};

/* The tokens of one sequence in a step. */
struct slm_row {
    int32_t num_tokens;
    int32_t start;              /* position of the first token; earlier positions are in the cache */
    int32_t num_logits;         /* how many of the last tokens get logits */
    int32_t reserved;           /* 0 */
    const int32_t *block_table; /* [(start + num_tokens) / SLM_BLOCK_TOKENS, rounded up]: blocks of the sequence */
    const struct slm_adapter *adapter; /* NULL: the bare base */
};

struct slm_runner;

/* The name of a kernel set that this CPU can run; 0 is the best. NULL: there are no more. */
const char *slm_available_kernels(int32_t index);

/* Size of a packed matrix in bytes; 0 if the kernel set is unknown. */
size_t slm_packed_size(const char *kernels, int32_t precision, int32_t rows, int32_t columns);

/* Pack (and for int8 quantise) `num_rows` rows of weights [num_rows][columns] as rows first_row.. of a packed matrix.
 * `packed` must be zeroed before its first rows are packed. Returns 0 if a weight is not finite or the kernel set is
 * unknown. */
int32_t slm_pack_rows(const char *kernels, int32_t precision, void *packed, const float *weights, int32_t first_row,
                      int32_t num_rows, int32_t columns);

/* Size of a cache block in bytes: keys and values of SLM_BLOCK_TOKENS tokens in all layers. `cache_format` is an
 * enum slm_cache_format. 0: unknown kernel set. */
size_t slm_block_size(const struct slm_model *model, const char *kernels, int32_t cache_format);

/* Create a runner. `cache` holds the blocks contiguously, aligned to 64 bytes; it need not be initialised. `max_tokens`
 * and `max_rows` limit the tokens and rows of a step. The runner starts `threads` - 1 threads, which sleep between
 * steps. Returns NULL if the kernel set is unknown or memory or threads are not available. */
struct slm_runner *slm_create(const struct slm_model *model, const char *kernels, int32_t cache_format, void *cache,
                              int32_t max_tokens, int32_t max_rows, int32_t threads);

/* Make room for steps with an adapter that has `max_ranks`. Not during a step. Returns 0 if there is no memory for it. */
int32_t slm_reserve_ranks(struct slm_runner *runner, int32_t max_ranks);

/* Compute one step. `token_ids` holds the tokens of all rows contiguously. `logits` is [sum of num_logits][vocab_size],
 * in the order of the tokens. */
void slm_forward(struct slm_runner *runner, const struct slm_row *rows, int32_t num_rows, const int32_t *token_ids,
                 float *logits);

/* y[num_rows][linear->rows] = the linear layer of x[num_rows][linear->columns], on the runner's threads like in a step,
 * for tests and benchmarks. num_rows <= max_tokens; `linear` has the number of columns of one of the model's
 * matrices. */
void slm_linear_forward(struct slm_runner *runner, const struct slm_linear *linear, const float *x, int32_t num_rows,
                        float *y);

/* Stop the threads and free the runner. */
void slm_destroy(struct slm_runner *runner);

#endif
