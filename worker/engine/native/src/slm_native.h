/* The native CPU runner: one step of a decoder-only language model over slots of cached keys and values.
 *
 * The caller owns every array whose pointer it passes in; they must outlive the runner. Matrices are row-major. Nothing
 * here prints or aborts; what can fail returns NULL or 0.
 *
 * Every token's result is bitwise the same whatever else the step computes and however its prefill was cut into chunks:
 * all sums run in an order that depends on the token's own position alone.
 */
#ifndef SLM_NATIVE_H
#define SLM_NATIVE_H

#include <stddef.h>
#include <stdint.h>

#define SLM_BLOCK_TOKENS 64 /* tokens of one cache block */

enum slm_precision { SLM_FP32 = 0, SLM_INT8 = 1 };
enum slm_norm_kind { SLM_RMS_NORM = 0, SLM_LAYER_NORM = 1 };
enum slm_mlp_kind { SLM_SWIGLU = 0, SLM_GELU_TANH = 1 };
enum slm_embedding_kind {
    SLM_EMBEDDING_FP32 = 0,   /* float [vocab_size][hidden_size] */
    SLM_EMBEDDING_BF16 = 1,   /* upper halves of floats [vocab_size][hidden_size] */
    SLM_EMBEDDING_PANELS = 2, /* the packed fp32 head, where the model ties them */
};

/* y[rows] = weights[rows][columns] . x[columns] + bias[rows]. */
struct slm_linear {
    const void *panels; /* slm_packed_size() bytes, aligned to 64, filled by slm_pack_rows() */
    const float *bias;  /* [rows] or NULL */
    int32_t rows;
    int32_t columns;
};

struct slm_norm {
    const float *weight; /* NULL: no such norm */
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
    int32_t context_length; /* most tokens of a slot; length of the position tables */
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

/* What one step computes of one sequence. */
struct slm_row {
    int32_t num_tokens;
    int32_t start;              /* position of the first token; earlier positions are in the cache */
    int32_t num_logits;         /* of the last tokens, those whose following logits are written */
    int32_t reserved;           /* 0 */
    const int32_t *block_table; /* [(start + num_tokens) / SLM_BLOCK_TOKENS, rounded up]: blocks of the slot */
};

struct slm_runner;

/* Comma-separated names of the kernel sets that this CPU can run, best first. */
const char *slm_available_kernels(void);

/* Bytes of a packed matrix; 0 when there is no such kernel set. */
size_t slm_packed_size(const char *kernels, int32_t precision, int32_t rows, int32_t columns);

/* Pack (and for int8 quantise) `num_rows` rows of weights [num_rows][columns] as rows first_row.. of a packed matrix.
 * `packed` must have been zero before its first rows were packed. Returns 0 when a weight is not finite (or there is no
 * such kernel set). */
int32_t slm_pack_rows(const char *kernels, int32_t precision, void *packed, const float *weights, int32_t first_row,
                      int32_t num_rows, int32_t columns);

/* Bytes of one cache block: keys and values of SLM_BLOCK_TOKENS tokens in all layers. 0: no such kernel set. */
size_t slm_block_size(const struct slm_model *model, const char *kernels);

/* Make a runner. `cache` holds the blocks one after the other, aligned to 64; they need no initial value. `max_tokens`
 * bounds the tokens and `max_rows` the rows of a step. The runner starts `threads` - 1 threads, which sleep between steps.
 * NULL: no such kernel set, no memory, or no threads. */
struct slm_runner *slm_create(const struct slm_model *model, const char *kernels, void *cache, int32_t max_tokens,
                              int32_t max_rows, int32_t threads);

/* Compute one step. `token_ids` are the rows' tokens one after the other. `logits` [num_logits of all rows][vocab_size],
 * in the order of their tokens. */
void slm_forward(struct slm_runner *runner, const struct slm_row *rows, int32_t num_rows, const int32_t *token_ids,
                 float *logits);

/* y[num_rows][linear->rows] = the linear layer of x[num_rows][linear->columns], on the runner's threads: what a step does
 * for each of its matrices, alone, for tests and benchmarks. num_rows <= max_tokens; columns as in one of the model's. */
void slm_linear_forward(struct slm_runner *runner, const struct slm_linear *linear, const float *x, int32_t num_rows,
                        float *y);

/* Stop the threads and free the runner. */
void slm_destroy(struct slm_runner *runner);

#endif
