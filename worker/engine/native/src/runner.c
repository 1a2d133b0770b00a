/* Computes a step as a sequence of phases of the thread pool. */
#include <stdlib.h>
#include <string.h>

#include "attention.h"
#include "int8_panel.h"
#include "integers.h"
#include "linear.h"
#include "lora.h"
#include "pack.h"

#define TASKS_PER_THREAD 2 /* minimum for the attention of a chunk */

struct slm_runner {
    struct slm_model model;
    const struct kernels *kernels;
    const struct product *product;      /* of the model's precision */
    const struct product *head_product; /* for the head */
    struct attention attention;
    struct pool *pool;

    /* The current step, prepared before the thread pool starts. */
    const int32_t *token_ids;
    int32_t num_tokens, max_tokens;
    int32_t *positions;                         /* [max_tokens] */
    const int32_t **block_tables;               /* [max_tokens] */
    const struct slm_adapter **adapters;        /* [max_tokens]: the tokens' adapters, NULL for the bare base */
    struct row_groups all_groups, logit_groups; /* of all tokens, and of those that need logits */
    char *is_grouped;                           /* [max_tokens]: used while tokens are grouped */
    int32_t *first_partials;                    /* [max_tokens] */
    int32_t *num_partials;                      /* [max_tokens] */
    int32_t *all_tokens;                        /* [max_tokens]: 0, 1, 2, ... */
    int32_t *logit_tokens;                      /* [max_tokens]: tokens that need logits */
    int32_t num_logits;
    float *logits;
    struct attention_item *items; /* [max_partials] */
    int32_t num_items;

    /* Results of the phases. */
    float *hidden;       /* [max_tokens][hidden_size]: the residual stream */
    float *logit_hidden; /* [max_tokens][hidden_size]: in the last layer, of the tokens that need logits */
    char *packed_rows;   /* [max_tokens]: packed rows, the inputs of the next linear layer */
    float *wide;         /* [max_tokens][wide_columns]: queries, keys and values, or the inner layer of the MLP */
    float *shrunk;       /* [max_tokens][max_ranks]: the adapters' a . x */
    int32_t max_ranks;
    struct partial *partials; /* [max_partials] */
    float *partial_sums;
    struct softmax_state *partial_states;
    char *scratch; /* [threads][scratch_size] */
    size_t scratch_size;

    /* The arguments of slm_linear_forward(). */
    const float *linear_input;
    struct linear_call linear_call;
};

/* The active tokens, for which a layer is computed to its end, and their residual streams. */
struct active_tokens {
    int32_t num;
    const int32_t *tokens; /* [num] */
    float *hidden;         /* [num][hidden_size] */
    const struct row_groups *groups;
};

/* A matrix of the model, with its index in the adapters. */
struct matrix {
    const struct slm_linear *linear;
    const struct product *product;
    int32_t index;
};

/* The order of an adapter's matrices of a layer. */
enum layer_matrix { QUERY_KEY_VALUE, ATTENTION_OUTPUT, MLP_INPUT, MLP_OUTPUT, LAYER_MATRICES };

/* How many floats the queries, keys and values of a token have. */
static int32_t attention_columns(const struct slm_model *model) {
    return (model->num_heads + 2 * model->num_kv_heads) * model->head_size;
}

static int32_t mlp_columns(const struct slm_model *model) {
    return model->mlp_kind == SLM_SWIGLU ? 2 * model->intermediate_size : model->intermediate_size;
}

static int32_t has_norm(const struct slm_norm *norm) { return norm->weight != NULL; }

/* Phases. A phase ends for all threads when its last task is done. */

static float bf16_at(const void *table, size_t index) { return upper_half_to_float(((const uint16_t *)table)[index]); }

static void embed_token(const struct slm_model *model, int32_t token_id, int32_t position, float *out) {
    const size_t size = (size_t)model->hidden_size, row = (size_t)token_id;
    const float *floats = model->embedding;
    const float *panel = floats + row / PANEL_ROWS * PANEL_ROWS * size + row % PANEL_ROWS;
    for (size_t i = 0; i < size; i++) {
        if (model->embedding_kind == SLM_EMBEDDING_BF16)
            out[i] = bf16_at(model->embedding, row * size + i);
        else
            out[i] = model->embedding_kind == SLM_EMBEDDING_FP32 ? floats[row * size + i] : panel[i * PANEL_ROWS];
        if (model->position_embedding != NULL) out[i] += model->position_embedding[(size_t)position * size + i];
    }
}

static void embed_phase(struct slm_runner *runner, struct member *self) {
    const size_t size = (size_t)runner->model.hidden_size;
    for (int32_t t; (t = member_next_task(self, runner->num_tokens)) >= 0;) {
        const struct slm_adapter *adapter = runner->adapters[t];
        float *hidden = runner->hidden + (size_t)t * size;
        embed_token(&runner->model, runner->token_ids[t], runner->positions[t], hidden);
        if (adapter == NULL) continue;
        lora_embed(runner->kernels, adapter->format, &adapter->embedding, runner->token_ids[t], hidden);
        lora_embed(runner->kernels, adapter->format, &adapter->position_embedding, runner->positions[t], hidden);
    }
}

static void apply_norm(const struct slm_runner *runner, const struct slm_norm *norm, const float *x, float *out) {
    const struct slm_model *model = &runner->model;
    if (model->norm_kind == SLM_RMS_NORM)
        runner->kernels->rms_norm(x, norm->weight, model->norm_epsilon, model->hidden_size, out);
    else
        runner->kernels->layer_norm(x, norm->weight, norm->bias, model->norm_epsilon, model->hidden_size, out);
}

/* Encode x[columns] as a packed row, and return that. */
static const char *encode(const struct slm_runner *runner, const struct product *product, const float *x,
                          int32_t columns, int32_t packed_row) {
    char *encoded = runner->packed_rows + (size_t)packed_row * product->packed_row_size(columns);
    product->encode(x, columns, encoded);
    return encoded;
}

static struct lora_call lora_call(const struct slm_runner *runner, const struct active_tokens *active,
                                  const struct matrix *matrix) {
    return (struct lora_call){.kernels = runner->kernels,
                              .groups = active->groups,
                              .matrix = matrix->index,
                              .shrunk = runner->shrunk,
                              .stride = (size_t)runner->max_ranks};
}

/* packed rows = x[group->num_rows][columns], the inputs of a matrix; also multiplies them with the adapter's a. */
static void store_inputs(const struct slm_runner *runner, const struct matrix *matrix,
                         const struct active_tokens *active, const struct row_group *group, const float *x) {
    const struct lora_call call = lora_call(runner, active, matrix);
    struct lora_input input = {.num_rows = group->num_rows, .columns = matrix->linear->columns, .x = x};
    for (int32_t r = 0; r < group->num_rows; r++)
        input.packed_rows[r] = encode(runner, matrix->product, x + r * input.columns, input.columns,
                                      active->groups->rows[group->first + r]);
    lora_shrink(&call, group, &input);
}

/* y[rows of the group] += the group's adapter of a matrix; shrunk[rows of the group] must be of its input */
static void add_adapter(const struct slm_runner *runner, const struct matrix *matrix,
                        const struct active_tokens *active, const struct row_group *group, float *y) {
    const struct lora_call call = lora_call(runner, active, matrix);
    lora_expand(&call, group, y, (size_t)matrix->linear->rows);
}

/* inputs of a matrix = norm(hidden), after the adapters of the matrix that was added to `hidden`; NULL: there is none */
static void norm_phase(struct slm_runner *runner, struct member *self, const struct matrix *added,
                       const struct slm_norm *norm, const struct matrix *matrix, const struct active_tokens *active,
                       float *scratch) {
    const int32_t size = runner->model.hidden_size;
    for (int32_t g; (g = member_next_task(self, active->groups->num_groups)) >= 0;) {
        const struct row_group *group = &active->groups->groups[g];
        const int32_t *rows = active->groups->rows + group->first;
        if (added != NULL) add_adapter(runner, added, active, group, active->hidden);
        for (int32_t r = 0; r < group->num_rows; r++)
            apply_norm(runner, norm, active->hidden + (size_t)rows[r] * (size_t)size, scratch + r * size);
        store_inputs(runner, matrix, active, group, scratch);
    }
}

/* y (+)= matrix . inputs; the next phase that reads y adds what the adapters add */
static void matrix_phase(struct slm_runner *runner, struct member *self, const struct matrix *matrix,
                         const struct active_tokens *active, float *y, int32_t adds) {
    const struct lora_call lora = lora_call(runner, active, matrix);
    const struct slm_linear *linear = matrix->linear;
    struct linear_call call = {.product = matrix->product,
                               .linear = linear,
                               .panel_size = panel_size(matrix->product, runner->model.precision, linear->columns),
                               .packed_rows = runner->packed_rows,
                               .num_packed_rows = active->num,
                               .adds = adds,
                               .y = y,
                               .lora = active->groups->has_adapters ? &lora : NULL};
    linear_phase(self, &call);
}

/* Normalise (if the model does), rotate and scale `num_heads` heads of a token. */
static void position_heads(const struct slm_runner *runner, const struct slm_norm *norm, int32_t position, float *heads,
                           int32_t num_heads, float scale) {
    const struct slm_model *model = &runner->model;
    const int32_t size = model->head_size, half = size / 2;
    const size_t angles = (size_t)position * (size_t)half;
    for (int32_t h = 0; h < num_heads; h++, heads += size) {
        if (has_norm(norm)) runner->kernels->rms_norm(heads, norm->weight, model->norm_epsilon, size, heads);
        if (model->rotary_cos != NULL)
            runner->kernels->rotate(heads, model->rotary_cos + angles, model->rotary_sin + angles, half);
        if (scale != 1.0f) runner->kernels->scale(heads, scale, size, heads);
    }
}

/* Apply a token's position to its queries and keys, and store its keys and values in the cache. */
static void cache_token(const struct slm_runner *runner, const struct slm_layer *layer, int32_t layer_index,
                        int32_t token) {
    const struct slm_model *model = &runner->model;
    float *queries = runner->wide + (size_t)token * (size_t)attention_columns(model);
    float *keys = queries + model->num_heads * model->head_size,
          *values = keys + model->num_kv_heads * model->head_size;
    const int32_t position = runner->positions[token];
    position_heads(runner, &layer->query_norm, position, queries, model->num_heads, runner->attention.query_scale);
    position_heads(runner, &layer->key_norm, position, keys, model->num_kv_heads, 1.0f);
    attention_store(&runner->attention, layer_index, runner->block_tables[token], position, keys, values);
}

static void cache_phase(struct slm_runner *runner, struct member *self, const struct matrix *query_key_value,
                        const struct active_tokens *all, const struct slm_layer *layer, int32_t layer_index) {
    for (int32_t g; (g = member_next_task(self, all->groups->num_groups)) >= 0;) {
        const struct row_group *group = &all->groups->groups[g];
        add_adapter(runner, query_key_value, all, group, runner->wide);
        for (int32_t r = 0; r < group->num_rows; r++)
            cache_token(runner, layer, layer_index, all->groups->rows[group->first + r]);
    }
}

static void attention_phase(struct slm_runner *runner, struct member *self, int32_t layer_index, int32_t logits_only,
                            void *scratch) {
    const int32_t num_kv_heads = runner->model.num_kv_heads, num_tasks = runner->num_items * num_kv_heads;
    for (int32_t task; (task = member_next_task(self, num_tasks)) >= 0;) {
        /* start with the longest tasks: the last tokens of a chunk see the most keys */
        const struct attention_item *item = &runner->items[runner->num_items - 1 - task / num_kv_heads];
        if (logits_only && !item->has_logits) continue;
        attention_compute(&runner->attention, layer_index, item, task % num_kv_heads, runner->wide,
                          (size_t)attention_columns(&runner->model), runner->partials, scratch);
    }
}

/* inputs of a matrix = attention, merged from its partial results; copies the residual streams of the active tokens */
static void merge_phase(struct slm_runner *runner, struct member *self, const struct matrix *matrix,
                        const struct active_tokens *active, float *scratch) {
    const size_t size = (size_t)runner->model.hidden_size;
    for (int32_t g; (g = member_next_task(self, active->groups->num_groups)) >= 0;) {
        const struct row_group *group = &active->groups->groups[g];
        const int32_t *rows = active->groups->rows + group->first;
        for (int32_t r = 0; r < group->num_rows; r++) {
            const int32_t t = active->tokens[rows[r]];
            attention_finish(&runner->attention, runner->partials + runner->first_partials[t], runner->num_partials[t],
                             scratch + r * matrix->linear->columns);
            if (active->hidden != runner->hidden)
                memcpy(active->hidden + (size_t)rows[r] * size, runner->hidden + (size_t)t * size,
                       size * sizeof(float));
        }
        store_inputs(runner, matrix, active, group, scratch);
    }
}

static void activate(const struct slm_runner *runner, const float *x, float *out) {
    const int32_t size = runner->model.intermediate_size;
    if (runner->model.mlp_kind == SLM_SWIGLU)
        runner->kernels->swiglu(x, x + size, size, out);
    else
        runner->kernels->gelu_tanh(x, size, out);
}

/* inputs of a matrix = activation(wide), after the adapters of the matrix that gave `wide` */
static void activation_phase(struct slm_runner *runner, struct member *self, const struct matrix *mlp_input,
                             const struct matrix *matrix, const struct active_tokens *active, float *scratch) {
    const size_t columns = (size_t)mlp_columns(&runner->model);
    for (int32_t g; (g = member_next_task(self, active->groups->num_groups)) >= 0;) {
        const struct row_group *group = &active->groups->groups[g];
        const int32_t *rows = active->groups->rows + group->first;
        add_adapter(runner, mlp_input, active, group, runner->wide);
        for (int32_t r = 0; r < group->num_rows; r++)
            activate(runner, runner->wide + (size_t)rows[r] * columns, scratch + r * matrix->linear->columns);
        store_inputs(runner, matrix, active, group, scratch);
    }
}

static struct active_tokens all_tokens(const struct slm_runner *runner) {
    return (struct active_tokens){.num = runner->num_tokens,
                                  .tokens = runner->all_tokens,
                                  .hidden = runner->hidden,
                                  .groups = &runner->all_groups};
}

static struct active_tokens logit_tokens(const struct slm_runner *runner) {
    return (struct active_tokens){.num = runner->num_logits,
                                  .tokens = runner->logit_tokens,
                                  .hidden = runner->logit_hidden,
                                  .groups = &runner->logit_groups};
}

static struct matrix layer_matrix(const struct slm_runner *runner, const struct slm_linear *linear, int32_t layer_index,
                                  enum layer_matrix index) {
    return (struct matrix){
        .linear = linear, .product = runner->product, .index = layer_index * LAYER_MATRICES + (int32_t)index};
}

static struct matrix mlp_output_of(const struct slm_runner *runner, int32_t layer_index) {
    return layer_matrix(runner, &runner->model.layers[layer_index].mlp_output, layer_index, MLP_OUTPUT);
}

/* y[active tokens] += the adapters of a matrix whose outputs no other phase reads */
static void adapter_phase(struct slm_runner *runner, struct member *self, const struct matrix *matrix,
                          const struct active_tokens *active, float *y) {
    for (int32_t g; (g = member_next_task(self, active->groups->num_groups)) >= 0;)
        add_adapter(runner, matrix, active, &active->groups->groups[g], y);
}

/* The last layer computes keys and values of all tokens, but the rest only for tokens that need logits. */
static void layer_phases(struct slm_runner *runner, struct member *self, int32_t layer_index, void *scratch) {
    const struct slm_layer *layer = &runner->model.layers[layer_index];
    const int32_t is_last = layer_index == runner->model.num_layers - 1;
    const struct active_tokens all = all_tokens(runner), active = is_last ? logit_tokens(runner) : all;
    const struct matrix query_key_value = layer_matrix(runner, &layer->query_key_value, layer_index, QUERY_KEY_VALUE);
    const struct matrix attention_output =
        layer_matrix(runner, &layer->attention_output, layer_index, ATTENTION_OUTPUT);
    const struct matrix mlp_input = layer_matrix(runner, &layer->mlp_input, layer_index, MLP_INPUT);
    const struct matrix mlp_output = mlp_output_of(runner, layer_index);
    const struct matrix last_output = mlp_output_of(runner, max_int(layer_index - 1, 0));
    norm_phase(runner, self, layer_index == 0 ? NULL : &last_output, &layer->attention_norm, &query_key_value, &all,
               scratch);
    matrix_phase(runner, self, &query_key_value, &all, runner->wide, 0);
    cache_phase(runner, self, &query_key_value, &all, layer, layer_index);
    attention_phase(runner, self, layer_index, is_last, scratch);
    merge_phase(runner, self, &attention_output, &active, scratch);
    matrix_phase(runner, self, &attention_output, &active, active.hidden, 1);
    norm_phase(runner, self, &attention_output, &layer->mlp_norm, &mlp_input, &active, scratch);
    matrix_phase(runner, self, &mlp_input, &active, runner->wide, 0);
    activation_phase(runner, self, &mlp_input, &mlp_output, &active, scratch);
    matrix_phase(runner, self, &mlp_output, &active, active.hidden, 1);
}

static void run_step(void *context, struct member *self) {
    struct slm_runner *runner = context;
    void *scratch = runner->scratch + (size_t)member_index(self) * runner->scratch_size;
    const struct active_tokens active = logit_tokens(runner);
    const struct matrix head = {.linear = &runner->model.head,
                                .product = runner->head_product,
                                .index = runner->model.num_layers * LAYER_MATRICES};
    const struct matrix last_output = mlp_output_of(runner, runner->model.num_layers - 1);
    embed_phase(runner, self);
    for (int32_t i = 0; i < runner->model.num_layers; i++) layer_phases(runner, self, i, scratch);
    norm_phase(runner, self, &last_output, &runner->model.final_norm, &head, &active, scratch);
    matrix_phase(runner, self, &head, &active, runner->logits, 0);
    if (active.groups->has_adapters) adapter_phase(runner, self, &head, &active, runner->logits);
}

/* Preparation of a step. */

/* Each span of a single token is a separate item, so that the threads can share them. */
static void add_single_token(struct slm_runner *runner, const struct slm_row *row, int32_t token, int32_t partial) {
    runner->num_partials[token] = row->start / SPAN_TOKENS + 1;
    for (int32_t span = 0; span < runner->num_partials[token]; span++)
        runner->items[runner->num_items++] = (struct attention_item){.block_table = row->block_table,
                                                                     .first_token = token,
                                                                     .num_tokens = 1,
                                                                     .position = row->start,
                                                                     .first_span = span,
                                                                     .num_spans = 1,
                                                                     .first_partial = partial + span,
                                                                     .has_logits = row->num_logits > 0};
}

/* Return how many tokens of a chunk form an item: few enough that even a short chunk has work for all threads. */
static int32_t item_tokens(const struct slm_runner *runner, int32_t chunk_tokens) {
    const int32_t num_items = divide_up(TASKS_PER_THREAD * thread_pool_size(runner->pool), runner->model.num_kv_heads);
    return min_int(attention_tile_tokens(&runner->attention), divide_up(chunk_tokens, num_items));
}

static void add_chunk(struct slm_runner *runner, const struct slm_row *row, int32_t first_token, int32_t partial) {
    const int32_t tile_tokens = item_tokens(runner, row->num_tokens);
    for (int32_t t = 0; t < row->num_tokens; t += tile_tokens) {
        int32_t num_tokens = min_int(tile_tokens, row->num_tokens - t);
        int32_t end = t + num_tokens, last_position = row->start + end - 1;
        int32_t has_logits = end > row->num_tokens - row->num_logits;
        runner->items[runner->num_items++] = (struct attention_item){.block_table = row->block_table,
                                                                     .first_token = first_token + t,
                                                                     .num_tokens = num_tokens,
                                                                     .position = row->start + t,
                                                                     .first_span = 0,
                                                                     .num_spans = last_position / SPAN_TOKENS + 1,
                                                                     .first_partial = partial + t,
                                                                     .has_logits = has_logits};
    }
    for (int32_t t = 0; t < row->num_tokens; t++) runner->num_partials[first_token + t] = 1;
}

/* Returns the number of partial results so far, including this row. */
static int32_t add_row(struct slm_runner *runner, const struct slm_row *row, int32_t partial) {
    const int32_t first_token = runner->num_tokens;
    if (row->num_tokens == 1)
        add_single_token(runner, row, first_token, partial);
    else
        add_chunk(runner, row, first_token, partial);
    for (int32_t t = 0; t < row->num_tokens; t++) {
        runner->positions[first_token + t] = row->start + t;
        runner->block_tables[first_token + t] = row->block_table;
        runner->adapters[first_token + t] = row->adapter;
        runner->first_partials[first_token + t] = partial;
        partial += runner->num_partials[first_token + t];
    }
    runner->num_tokens += row->num_tokens;
    for (int32_t i = row->num_logits; i > 0; i--) runner->logit_tokens[runner->num_logits++] = runner->num_tokens - i;
    return partial;
}

/* Group rows so that all threads have groups. */
static void group(struct slm_runner *runner, struct row_groups *groups, const int32_t *tokens, int32_t num_rows) {
    const int32_t wanted = num_rows / (TASKS_PER_THREAD * thread_pool_size(runner->pool));
    group_rows(groups, runner->adapters, tokens, num_rows, max_int(1, min_int(wanted, MAX_GROUP_ROWS)),
               runner->is_grouped);
}

void slm_forward(struct slm_runner *runner, const struct slm_row *rows, int32_t num_rows, const int32_t *token_ids,
                 float *logits) {
    runner->token_ids = token_ids;
    runner->logits = logits;
    runner->num_tokens = runner->num_items = runner->num_logits = 0;
    for (int32_t i = 0, partial = 0; i < num_rows; i++) partial = add_row(runner, &rows[i], partial);
    group(runner, &runner->all_groups, runner->all_tokens, runner->num_tokens);
    group(runner, &runner->logit_groups, runner->logit_tokens, runner->num_logits);
    thread_pool_run(runner->pool, run_step, runner);
}

static void run_linear(void *context, struct member *self) {
    struct slm_runner *runner = context;
    const struct linear_call *call = &runner->linear_call;
    const int32_t columns = call->linear->columns;
    for (int32_t r; (r = member_next_task(self, call->num_packed_rows)) >= 0;)
        encode(runner, runner->product, runner->linear_input + (size_t)r * (size_t)columns, columns, r);
    linear_phase(self, call);
}

void slm_linear_forward(struct slm_runner *runner, const struct slm_linear *linear, const float *x, int32_t num_rows,
                        float *y) {
    runner->linear_input = x;
    runner->linear_call =
        (struct linear_call){.product = runner->product,
                             .linear = linear,
                             .panel_size = panel_size(runner->product, runner->model.precision, linear->columns),
                             .packed_rows = runner->packed_rows,
                             .num_packed_rows = num_rows,
                             .y = y};
    thread_pool_run(runner->pool, run_linear, runner);
}

/* Creation and destruction of a runner. */

/* Allocate zeroed memory, aligned to 64 bytes; NULL if there is none. */
static void *allocate(size_t count, size_t size) {
    size_t bytes = (count * size + PACKED_ROW_ALIGNMENT - 1) / PACKED_ROW_ALIGNMENT * PACKED_ROW_ALIGNMENT;
    void *memory = aligned_alloc(PACKED_ROW_ALIGNMENT, bytes);
    return memory == NULL ? NULL : memset(memory, 0, bytes);
}

static size_t largest_packed_row(const struct slm_runner *runner) {
    const struct slm_model *model = &runner->model;
    int32_t columns = max_int(model->num_heads * model->head_size, model->hidden_size);
    size_t size = runner->product->packed_row_size(max_int(columns, model->intermediate_size));
    size_t head_size = runner->head_product->packed_row_size(model->hidden_size);
    return size > head_size ? size : head_size;
}

static size_t scratch_size(const struct slm_runner *runner) {
    const struct slm_model *model = &runner->model;
    int32_t floats = max_int(model->num_heads * model->head_size, model->hidden_size);
    size_t rows = MAX_GROUP_ROWS * (size_t)max_int(floats, model->intermediate_size) * sizeof(float);
    size_t tile = attention_scratch_size(&runner->attention);
    return ((rows > tile ? rows : tile) / PACKED_ROW_ALIGNMENT + 1) * PACKED_ROW_ALIGNMENT;
}

/* A chunk has one partial result per token; a single token has one per span. */
static size_t count_partials(const struct slm_model *model, int32_t max_tokens, int32_t max_rows) {
    return (size_t)max_tokens + (size_t)max_rows * (size_t)divide_up(model->context_length, SPAN_TOKENS);
}

/* Returns 0 when there is no memory for it. */
static int32_t allocate_groups(struct row_groups *groups, size_t max_tokens) {
    groups->rows = allocate(max_tokens, sizeof *groups->rows);
    groups->groups = allocate(max_tokens, sizeof *groups->groups);
    return groups->rows && groups->groups;
}

static void free_groups(struct row_groups *groups) {
    free(groups->rows);
    free(groups->groups);
}

/* Returns 0 when there is no memory for it. */
static int32_t allocate_step(struct slm_runner *runner, size_t max_tokens, size_t max_partials) {
    runner->positions = allocate(max_tokens, sizeof *runner->positions);
    runner->block_tables = allocate(max_tokens, sizeof *runner->block_tables);
    runner->adapters = allocate(max_tokens, sizeof *runner->adapters);
    runner->is_grouped = allocate(max_tokens, sizeof *runner->is_grouped);
    runner->first_partials = allocate(max_tokens, sizeof *runner->first_partials);
    runner->num_partials = allocate(max_tokens, sizeof *runner->num_partials);
    runner->all_tokens = allocate(max_tokens, sizeof *runner->all_tokens);
    runner->logit_tokens = allocate(max_tokens, sizeof *runner->logit_tokens);
    runner->items = allocate(max_partials, sizeof *runner->items);
    if (!runner->positions || !runner->block_tables || !runner->first_partials || !runner->num_partials ||
        !runner->all_tokens || !runner->logit_tokens || !runner->items || !runner->adapters || !runner->is_grouped ||
        !allocate_groups(&runner->all_groups, max_tokens) || !allocate_groups(&runner->logit_groups, max_tokens))
        return 0;
    for (size_t t = 0; t < max_tokens; t++) runner->all_tokens[t] = (int32_t)t;
    return 1;
}

/* Returns 0 when there is no memory for it. */
static int32_t allocate_results(struct slm_runner *runner, size_t max_tokens, size_t max_partials, size_t threads) {
    const struct slm_model *model = &runner->model;
    const size_t heads = (size_t)model->num_heads, size = (size_t)model->head_size;
    runner->scratch_size = scratch_size(runner);
    runner->hidden = allocate(max_tokens * (size_t)model->hidden_size, sizeof(float));
    runner->logit_hidden = allocate(max_tokens * (size_t)model->hidden_size, sizeof(float));
    runner->packed_rows = allocate(max_tokens, largest_packed_row(runner));
    runner->wide = allocate(max_tokens * (size_t)max_int(attention_columns(model), mlp_columns(model)), sizeof(float));
    runner->partials = allocate(max_partials, sizeof *runner->partials);
    runner->partial_sums = allocate(max_partials * heads * size, sizeof(float));
    runner->partial_states = allocate(max_partials * heads, sizeof *runner->partial_states);
    runner->scratch = allocate(threads, runner->scratch_size);
    if (!runner->hidden || !runner->logit_hidden || !runner->packed_rows || !runner->wide || !runner->partials ||
        !runner->partial_sums || !runner->partial_states || !runner->scratch)
        return 0;
    for (size_t i = 0; i < max_partials; i++)
        runner->partials[i] = (struct partial){.states = runner->partial_states + i * heads,
                                               .sums = runner->partial_sums + i * heads * size};
    return 1;
}

struct slm_runner *slm_create(const struct slm_model *model, const char *kernels, int32_t cache_format, void *cache,
                              int32_t max_tokens, int32_t max_rows, int32_t threads) {
    const struct kernels *set = find_kernels(kernels);
    struct slm_runner *runner = set == NULL ? NULL : calloc(1, sizeof *runner);
    if (runner == NULL) return NULL;
    runner->model = *model;
    runner->max_tokens = max_tokens;
    runner->kernels = set;
    runner->product = model->precision == SLM_INT8 ? &set->int8 : &set->fp32;
    runner->head_product = model->precision == SLM_INT8 ? &set->int8_head : &set->fp32;
    runner->attention = attention_over(model, set, cache_format, cache);
    const size_t max_partials = count_partials(model, max_tokens, max_rows);
    runner->pool = thread_pool_create(threads);
    if (runner->pool != NULL && allocate_step(runner, (size_t)max_tokens, max_partials) &&
        allocate_results(runner, (size_t)max_tokens, max_partials, (size_t)threads))
        return runner;
    slm_destroy(runner);
    return NULL;
}

int32_t slm_reserve_ranks(struct slm_runner *runner, int32_t max_ranks) {
    if (max_ranks <= runner->max_ranks) return 1;
    float *shrunk = allocate((size_t)runner->max_tokens * (size_t)max_ranks, sizeof *shrunk);
    if (shrunk == NULL) return 0;
    free(runner->shrunk);
    runner->shrunk = shrunk;
    runner->max_ranks = max_ranks;
    return 1;
}

void slm_destroy(struct slm_runner *runner) {
    if (runner->pool != NULL) thread_pool_destroy(runner->pool);
    free(runner->positions);
    free(runner->block_tables);
    free(runner->adapters);
    free(runner->is_grouped);
    free_groups(&runner->all_groups);
    free_groups(&runner->logit_groups);
    free(runner->first_partials);
    free(runner->num_partials);
    free(runner->all_tokens);
    free(runner->logit_tokens);
    free(runner->items);
    free(runner->hidden);
    free(runner->logit_hidden);
    free(runner->packed_rows);
    free(runner->wide);
    free(runner->shrunk);
    free(runner->partials);
    free(runner->partial_sums);
    free(runner->partial_states);
    free(runner->scratch);
    free(runner);
}
