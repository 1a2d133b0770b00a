#include "attention.h"

#include <math.h>
#include <string.h>

#include "integers.h"

/* A thread's scratch memory, for `max_queries` queries. */
struct tile {
    char *queries;                /* packed rows of head_size floats */
    char *scores;                 /* packed rows of SLM_BLOCK_TOKENS floats */
    float *weighted;              /* [max_queries][head_size]: one block's weighted values */
    float *sums;                  /* [max_queries][head_size]: of one span */
    float *factors;               /* [max_queries] */
    struct softmax_state *states; /* [max_queries]: of one span */
    int32_t num_queries;
};

static int32_t clamp_int(int32_t value, int32_t low, int32_t high) { return value < low ? low : min_int(value, high); }

static int32_t group_size(const struct attention *attention) { return attention->num_heads / attention->num_kv_heads; }

int32_t attention_tile_tokens(const struct attention *attention) {
    int32_t tokens = TILE_QUERIES / group_size(attention);
    return tokens < 1 ? 1 : tokens;
}

static size_t max_queries(const struct attention *attention) {
    return (size_t)(attention_tile_tokens(attention) * group_size(attention));
}

/* Size of the keys (or the values) of one head in a block in bytes, without their scales. */
static size_t numbers_size(int32_t head_size, const struct cache_format *format) {
    return (size_t)head_size * SLM_BLOCK_TOKENS * format->item_size;
}

/* The same with their scales; it is also the distance from the keys to the values. */
static size_t half_size(int32_t head_size, const struct cache_format *format) {
    return numbers_size(head_size, format) + (format->has_scales ? SLM_BLOCK_TOKENS * sizeof(float) : 0);
}

static const struct cache_format *format_of(int32_t cache, const struct slm_model *model,
                                            const struct kernels *kernels) {
    if (cache == SLM_CACHE_INT8) return &kernels->int8_cache;
    return model->precision == SLM_INT8 ? &kernels->short_cache : &kernels->exact_cache;
}

static size_t block_size(const struct slm_model *model, const struct cache_format *format) {
    return (size_t)(model->num_layers * model->num_kv_heads) * 2 * half_size(model->head_size, format);
}

size_t slm_block_size(const struct slm_model *model, const char *kernels, int32_t cache_format) {
    const struct kernels *set = find_kernels(kernels);
    return set == NULL ? 0 : block_size(model, format_of(cache_format, model, set));
}

struct attention attention_over(const struct slm_model *model, const struct kernels *kernels, int32_t cache_format,
                                void *cache) {
    const struct cache_format *format = format_of(cache_format, model, kernels);
    return (struct attention){.kernels = kernels,
                              .format = format,
                              .cache = cache,
                              .block_size = block_size(model, format),
                              .num_heads = model->num_heads,
                              .num_kv_heads = model->num_kv_heads,
                              .head_size = model->head_size,
                              .query_scale = 1.0f / sqrtf((float)model->head_size)};
}

static char *block_keys(const struct attention *attention, int32_t layer, int32_t block, int32_t kv_head) {
    char *start = attention->cache + (size_t)block * attention->block_size;
    size_t head = (size_t)layer * (size_t)attention->num_kv_heads + (size_t)kv_head;
    return start + head * 2 * half_size(attention->head_size, attention->format);
}

/* The scales of a block's keys (or values) of one head, [SLM_BLOCK_TOKENS]; NULL: the format has none. */
static float *scales_of(const struct attention *attention, char *numbers) {
    const struct cache_format *format = attention->format;
    return format->has_scales ? (float *)(numbers + numbers_size(attention->head_size, format)) : NULL;
}

/* panel[i * PANEL_ROWS] = x[i] */
static void spread(const char *x, int32_t n, size_t item_size, char *panel) {
    for (int32_t i = 0; i < n; i++, x += item_size, panel += PANEL_ROWS * item_size) memcpy(panel, x, item_size);
}

/* Store one key [size] into its panel, which has 16 keys side by side. */
static void store_key(const char *key, int32_t size, size_t item_size, char *panel) {
    switch (item_size) { /* constant sizes avoid calls of memcpy */
    case sizeof(int8_t): spread(key, size, sizeof(int8_t), panel); break;
    case sizeof(uint16_t): spread(key, size, sizeof(uint16_t), panel); break;
    default: spread(key, size, sizeof(float), panel);
    }
}

void attention_store(const struct attention *attention, int32_t layer, const int32_t *block_table, int32_t position,
                     const float *keys, const float *values) {
    const struct cache_format *format = attention->format;
    const size_t item_size = format->item_size, vector_size = PANEL_ROWS * item_size;
    const int32_t size = attention->head_size, offset = position % SLM_BLOCK_TOKENS;
    const int32_t block = block_table[position / SLM_BLOCK_TOKENS];
    char converted[MAX_HEAD_SIZE * sizeof(float)];
    for (int32_t h = 0; h < attention->num_kv_heads; h++, keys += size, values += size) {
        char *block_k = block_keys(attention, layer, block, h), *block_v = block_k + half_size(size, format);
        const float key_scale = format->convert(keys, size, converted);
        store_key(converted, size, item_size,
                  block_k + (size_t)(offset / PANEL_ROWS * size) * vector_size +
                      (size_t)(offset % PANEL_ROWS) * item_size);
        const float value_scale = format->convert(values, size, converted);
        for (int32_t p = 0; p < size / PANEL_ROWS; p++)
            memcpy(block_v + (size_t)(p * SLM_BLOCK_TOKENS + offset) * vector_size, converted + (size_t)p * vector_size,
                   vector_size);
        if (format->has_scales) {
            scales_of(attention, block_k)[offset] = key_scale;
            scales_of(attention, block_v)[offset] = value_scale;
        }
    }
}

static size_t score_packed_row_size(const struct attention *attention) {
    return attention->kernels->fp32.packed_row_size(SLM_BLOCK_TOKENS);
}

size_t attention_scratch_size(const struct attention *attention) {
    size_t per_query = attention->kernels->fp32.packed_row_size(attention->head_size) +
                       score_packed_row_size(attention) + 2 * (size_t)attention->head_size * sizeof(float) +
                       sizeof(float) + sizeof(struct softmax_state);
    return max_queries(attention) * per_query;
}

static struct tile lay_out_tile(const struct attention *attention, int32_t num_queries, void *scratch) {
    const size_t queries = max_queries(attention), size = (size_t)attention->head_size;
    struct tile tile = {.num_queries = num_queries, .queries = scratch};
    tile.scores = tile.queries + queries * attention->kernels->fp32.packed_row_size(attention->head_size);
    tile.weighted = (float *)(tile.scores + queries * score_packed_row_size(attention));
    tile.sums = tile.weighted + queries * size;
    tile.factors = tile.sums + queries * size;
    tile.states = (struct softmax_state *)(tile.factors + queries);
    return tile;
}

/* Return how many keys of the block at `block_start` the query at `position` may see. */
static int32_t visible_keys(int32_t position, int32_t block_start) {
    return clamp_int(position + 1 - block_start, 0, SLM_BLOCK_TOKENS);
}

/* Turn scores into softmax weights, query by query; set tile->factors to the factors for the sums of earlier blocks. */
static void weigh_block(const struct attention *attention, const struct attention_item *item, struct tile *tile,
                        int32_t block_start, const float *value_scales) {
    const size_t score_size = score_packed_row_size(attention);
    for (int32_t q = 0; q < tile->num_queries; q++) {
        float *scores = (float *)(tile->scores + (size_t)q * score_size);
        int32_t visible = visible_keys(item->position + q / group_size(attention), block_start);
        if (visible > 0) {
            tile->factors[q] = attention->kernels->softmax(scores, visible, value_scales, &tile->states[q]);
        } else {
            tile->factors[q] = 1.0f;
            memset(scores, 0, SLM_BLOCK_TOKENS * sizeof(float));
        }
    }
}

static void attend_block(const struct attention *attention, int32_t layer, const struct attention_item *item,
                         int32_t kv_head, struct tile *tile, int32_t block_start) {
    const struct cache_format *format = attention->format;
    const int32_t size = attention->head_size, block = item->block_table[block_start / SLM_BLOCK_TOKENS];
    const int32_t num_keys = visible_keys(item->position + item->num_tokens - 1, block_start);
    const size_t score_size = score_packed_row_size(attention), vector_size = PANEL_ROWS * format->item_size;
    /* The values follow the keys, and the keys of the next head follow the values. */
    const size_t ahead = half_size(size, format);
    char *block_k = block_keys(attention, layer, block, kv_head), *block_v = block_k + ahead;
    const struct panels keys = {.start = block_k,
                                .size = (size_t)size * vector_size,
                                .num = (num_keys + PANEL_ROWS - 1) / PANEL_ROWS,
                                .columns = size,
                                .scales = scales_of(attention, block_k),
                                .ahead = ahead,
                                .columns_ahead = num_keys};
    const struct panels values = {.start = block_v,
                                  .size = SLM_BLOCK_TOKENS * vector_size,
                                  .num = size / PANEL_ROWS,
                                  .columns = num_keys,
                                  .ahead = ahead,
                                  .columns_ahead = size};
    format->multiply(tile->queries, attention->kernels->fp32.packed_row_size(size), tile->num_queries, &keys,
                     (float *)tile->scores, score_size / sizeof(float));
    weigh_block(attention, item, tile, block_start, scales_of(attention, block_v));
    format->multiply(tile->scores, score_size, tile->num_queries, &values, tile->weighted, (size_t)size);
    for (int32_t q = 0; q < tile->num_queries; q++)
        attention->kernels->combine(tile->sums + q * size, tile->factors[q], tile->weighted + q * size, 1.0f, size);
}

static void attend_span(const struct attention *attention, int32_t layer, const struct attention_item *item,
                        int32_t kv_head, struct tile *tile, int32_t span) {
    const int32_t end = min_int((span + 1) * SPAN_TOKENS, item->position + item->num_tokens);
    memset(tile->sums, 0, (size_t)tile->num_queries * (size_t)attention->head_size * sizeof(float));
    for (int32_t q = 0; q < tile->num_queries; q++)
        tile->states[q] = (struct softmax_state){.max = -INFINITY, .sum = 0.0f};
    for (int32_t start = span * SPAN_TOKENS; start < end; start += SLM_BLOCK_TOKENS)
        attend_block(attention, layer, item, kv_head, tile, start);
}

/* Add the results of later keys to those of earlier ones. */
static void merge(const struct attention *attention, float *sums, struct softmax_state *state, const float *later_sums,
                  struct softmax_state later) {
    float max = fmaxf(state->max, later.max);
    float factor = expf(state->max - max), later_factor = expf(later.max - max);
    attention->kernels->combine(sums, factor, later_sums, later_factor, attention->head_size);
    *state = (struct softmax_state){.max = max, .sum = state->sum * factor + later.sum * later_factor};
}

/* Copy a span's results into the tokens' partial results, or merge them into those of the item's earlier spans. */
static void store_partials(const struct attention *attention, const struct attention_item *item, int32_t kv_head,
                           const struct tile *tile, int32_t span, const struct partial *partials) {
    const int32_t size = attention->head_size, group = group_size(attention);
    for (int32_t q = 0; q < tile->num_queries; q++) {
        const struct partial *partial = &partials[item->first_partial + q / group];
        int32_t head = kv_head * group + q % group;
        const float *sums = tile->sums + q * size;
        if (span == item->first_span) {
            memcpy(partial->sums + head * size, sums, (size_t)size * sizeof(float));
            partial->states[head] = tile->states[q];
        } else if (span * SPAN_TOKENS <= item->position + q / group) {
            merge(attention, partial->sums + head * size, &partial->states[head], sums, tile->states[q]);
        }
    }
}

static void load_queries(const struct attention *attention, const struct attention_item *item, int32_t kv_head,
                         const float *queries, size_t stride, struct tile *tile) {
    const struct product *product = &attention->kernels->fp32;
    const int32_t size = attention->head_size, group = group_size(attention);
    for (int32_t q = 0; q < tile->num_queries; q++) {
        const float *query = queries + (size_t)(item->first_token + q / group) * stride;
        product->encode(query + (kv_head * group + q % group) * size, size,
                        tile->queries + (size_t)q * product->packed_row_size(size));
    }
}

void attention_compute(const struct attention *attention, int32_t layer, const struct attention_item *item,
                       int32_t kv_head, const float *queries, size_t stride, const struct partial *partials,
                       void *scratch) {
    struct tile tile = lay_out_tile(attention, item->num_tokens * group_size(attention), scratch);
    load_queries(attention, item, kv_head, queries, stride, &tile);
    for (int32_t span = item->first_span; span < item->first_span + item->num_spans; span++) {
        attend_span(attention, layer, item, kv_head, &tile, span);
        store_partials(attention, item, kv_head, &tile, span, partials);
    }
}

void attention_finish(const struct attention *attention, const struct partial *partials, int32_t num_partials,
                      float *out) {
    const int32_t size = attention->head_size;
    for (int32_t h = 0; h < attention->num_heads; h++) {
        float *sums = partials[0].sums + h * size;
        struct softmax_state *state = &partials[0].states[h];
        for (int32_t p = 1; p < num_partials; p++)
            merge(attention, sums, state, partials[p].sums + h * size, partials[p].states[h]);
        attention->kernels->scale(sums, 1.0f / state->sum, size, out + h * size);
    }
}
