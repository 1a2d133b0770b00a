/* Prints the results of a kernel set on a random model that is the same on every machine. Arguments: the set's name, the
 * precision (enum slm_precision) and the cache's format (enum slm_cache_format); without arguments, prints the names of the sets that this CPU can run.
 *
 * A result is a line with its name, its number and how many floats follow, then these floats as they are in memory. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "slm_native.h"

enum { LAYERS = 2, HIDDEN = 96, INNER = 176, HEADS = 6, KV_HEADS = 2, HEAD_SIZE = 32, VOCAB = 101, CONTEXT = 128 };
enum { RANK = 16, ROWS = 4, ROW_BLOCKS = CONTEXT / SLM_BLOCK_TOKENS, PROMPT = 90, MATE = 8, MAX_TOKENS = 160 };
enum { LINEAR_ROWS = 17, MATRICES = 4 * LAYERS + 1 };

static const char *kernels;
static int32_t precision, cache_format;
static uint32_t seed = 1;

static uint32_t next_bits(void) { return seed = seed * 1664525u + 1013904223u; }

/* -1 <= x < 1 */
static float next_float(void) { return (float)((int32_t)next_bits() >> 8) / 8388608.0f; }

static float *random_floats(size_t n, float base, float factor) {
    float *x = malloc(n * sizeof *x);
    for (size_t i = 0; i < n; i++) x[i] = base + factor * next_float();
    return x;
}

static void *zeroed(size_t size) {
    size = (size + 63) / 64 * 64;
    return memset(aligned_alloc(64, size), 0, size);
}

static struct slm_linear random_linear(int32_t rows, int32_t columns) {
    float *weights = random_floats((size_t)rows * (size_t)columns, 0.0f, 0.3f);
    void *panels = zeroed(slm_packed_size(kernels, precision, rows, columns));
    slm_pack_rows(kernels, precision, panels, weights, 0, rows, columns);
    free(weights);
    return (struct slm_linear){
        .panels = panels, .bias = random_floats((size_t)rows, 0.0f, 0.5f), .rows = rows, .columns = columns};
}

static struct slm_norm random_norm(void) { return (struct slm_norm){.weight = random_floats(HIDDEN, 1.0f, 0.1f)}; }

static struct slm_layer random_layer(void) {
    return (struct slm_layer){.attention_norm = random_norm(),
                              .mlp_norm = random_norm(),
                              .query_key_value = random_linear((HEADS + 2 * KV_HEADS) * HEAD_SIZE, HIDDEN),
                              .attention_output = random_linear(HIDDEN, HEADS * HEAD_SIZE),
                              .mlp_input = random_linear(2 * INNER, HIDDEN),
                              .mlp_output = random_linear(HIDDEN, INNER)};
}

/* Any angles do; these need no library, which might round differently. */
static void random_angles(struct slm_model *model) {
    float *cos = malloc(sizeof(float) * CONTEXT * HEAD_SIZE / 2),
          *sin = malloc(sizeof(float) * CONTEXT * HEAD_SIZE / 2);
    for (int32_t i = 0; i < CONTEXT * HEAD_SIZE / 2; i++) {
        const float t = next_float(), square = t * t;
        cos[i] = (1.0f - square) / (1.0f + square);
        sin[i] = 2.0f * t / (1.0f + square);
    }
    model->rotary_cos = cos;
    model->rotary_sin = sin;
}

static struct slm_model random_model(void) {
    struct slm_layer *layers = malloc(LAYERS * sizeof *layers);
    for (int32_t i = 0; i < LAYERS; i++) layers[i] = random_layer();
    struct slm_model model = {.num_layers = LAYERS,
                              .hidden_size = HIDDEN,
                              .intermediate_size = INNER,
                              .num_heads = HEADS,
                              .num_kv_heads = KV_HEADS,
                              .head_size = HEAD_SIZE,
                              .vocab_size = VOCAB,
                              .context_length = CONTEXT,
                              .precision = precision,
                              .norm_epsilon = 1e-5f,
                              .embedding = random_floats(VOCAB * HIDDEN, 0.0f, 1.0f),
                              .final_norm = random_norm(),
                              .layers = layers};
    model.head = random_linear(VOCAB, HIDDEN);
    random_angles(&model);
    return model;
}

/* Panels of an adapter's matrix, random in their packed form. */
static void *random_panels(int32_t format, int32_t num_panels, int32_t columns) {
    const size_t items = (size_t)(columns * SLM_LORA_PANEL_ROWS);
    const size_t size = format == SLM_LORA_INT8 ? items + SLM_LORA_PANEL_ROWS * sizeof(float)
                                                : items * (format == SLM_LORA_FP32 ? sizeof(float) : 2);
    char *panels = zeroed((size_t)num_panels * size + 4096);
    for (int32_t p = 0; p < num_panels; p++) {
        char *panel = panels + (size_t)p * size;
        for (int32_t i = 0; format == SLM_LORA_INT8 && i < SLM_LORA_PANEL_ROWS; i++)
            ((float *)panel)[i] = 0.002f + 0.001f * next_float();
        for (size_t i = 0; i < items; i++) {
            const float value = 0.2f * next_float();
            if (format == SLM_LORA_INT8)
                (panel + SLM_LORA_PANEL_ROWS * sizeof(float))[i] = (char)(int8_t)(value * 600.0f);
            else if (format == SLM_LORA_FP32)
                ((float *)panel)[i] = value;
            else
                memcpy(panel + 2 * i, (const char *)&value + 2, 2);
        }
    }
    return panels;
}

static struct slm_lora random_lora(int32_t format, const struct slm_linear *linear) {
    struct slm_lora lora = {
        .a = random_panels(format, RANK / SLM_LORA_PANEL_ROWS, linear->columns), .num_panels = 1, .num_parts = 1};
    lora.parts[0] = (struct slm_lora_part){
        .b = random_panels(format, (linear->rows + SLM_LORA_PANEL_ROWS - 1) / SLM_LORA_PANEL_ROWS, RANK),
        .num_rows = linear->rows,
        .rank = RANK};
    return lora;
}

static struct slm_adapter random_adapter(const struct slm_model *model, int32_t format) {
    struct slm_lora *matrices = malloc(MATRICES * sizeof *matrices);
    seed = 99;
    for (int32_t i = 0; i < LAYERS; i++) {
        const struct slm_layer *layer = &model->layers[i];
        matrices[4 * i] = random_lora(format, &layer->query_key_value);
        matrices[4 * i + 1] = random_lora(format, &layer->attention_output);
        matrices[4 * i + 2] = random_lora(format, &layer->mlp_input);
        matrices[4 * i + 3] = random_lora(format, &layer->mlp_output);
    }
    matrices[4 * LAYERS] = random_lora(format, &model->head);
    return (struct slm_adapter){.format = format, .max_ranks = RANK, .matrices = matrices};
}

static void print_result(const char *name, int32_t part, const float *x, size_t n) {
    printf("%s %d %zu\n", name, (int)part, n);
    fwrite(x, sizeof *x, n, stdout);
}

static int32_t block_tables[ROWS][ROW_BLOCKS];

static struct slm_row row_of(int32_t sequence, int32_t start, int32_t num_tokens, const struct slm_adapter *adapter) {
    return (struct slm_row){.num_tokens = num_tokens,
                            .start = start,
                            .num_logits = 1,
                            .block_table = block_tables[sequence],
                            .adapter = adapter};
}

/* The logits of the last token of a prompt, computed in chunks, alone or together with mates of other adapters. */
static void print_logits(struct slm_runner *runner, const char *name, int32_t part, int32_t chunk, int32_t num_mates,
                         const struct slm_adapter *adapter, const struct slm_adapter *mates_adapter) {
    float logits[ROWS][VOCAB];
    int32_t tokens[MAX_TOKENS], num_tokens = 0;
    struct slm_row rows[ROWS];
    for (int32_t start = 0; start < PROMPT; start += chunk) {
        const int32_t length = PROMPT - start < chunk ? PROMPT - start : chunk;
        num_tokens = 0;
        for (int32_t i = 0; i < num_mates; i++) {
            rows[i] = row_of(1 + i, 0, MATE + i, i % 2 == 0 ? mates_adapter : adapter);
            for (int32_t t = 0; t < MATE + i; t++) tokens[num_tokens++] = (7 * t + i) % VOCAB;
        }
        rows[num_mates] = row_of(0, start, length, adapter);
        for (int32_t t = start; t < start + length; t++) tokens[num_tokens++] = (t * t + 3) % VOCAB;
        slm_forward(runner, rows, num_mates + 1, tokens, logits[0]);
    }
    print_result(name, part, logits[num_mates], VOCAB);
}

static void print_linear(struct slm_runner *runner, const struct slm_linear *linear) {
    static const int32_t num_rows[] = {1, 2, 3, 4, 5, LINEAR_ROWS};
    seed = 5;
    float *x = random_floats((size_t)(LINEAR_ROWS * linear->columns), 0.0f, 2.0f);
    float *y = malloc(sizeof(float) * (size_t)(LINEAR_ROWS * linear->rows));
    for (int32_t r = 0; r < LINEAR_ROWS; r++) x[r * linear->columns + 3] *= 50.0f;
    memset(x + linear->columns, 0, sizeof(float) * (size_t)linear->columns); /* a row of zeros */
    for (size_t i = 0; i < sizeof num_rows / sizeof *num_rows; i++) {
        slm_linear_forward(runner, linear, x, num_rows[i], y);
        print_result("linear", num_rows[i], y, (size_t)(num_rows[i] * linear->rows));
    }
}

static void print_all(void) {
    const struct slm_model model = random_model();
    void *cache = zeroed(ROWS * ROW_BLOCKS * slm_block_size(&model, kernels, cache_format));
    for (int32_t i = 0; i < ROWS * ROW_BLOCKS; i++) block_tables[i / ROW_BLOCKS][i % ROW_BLOCKS] = i;
    for (int32_t threads = 1; threads <= 3; threads += 2) {
        struct slm_runner *runner = slm_create(&model, kernels, cache_format, cache, MAX_TOKENS, ROWS, threads);
        slm_reserve_ranks(runner, RANK);
        print_logits(runner, "logits", 10 * threads, PROMPT, 0, NULL, NULL);
        if (threads == 3) {
            print_logits(runner, "logits", 1, 50, 0, NULL, NULL);
            print_logits(runner, "logits", 2, 29, 3, NULL, NULL);
            print_linear(runner, &model.layers[1].mlp_output);
            for (int32_t format = SLM_LORA_FP32; format <= SLM_LORA_INT8; format++) {
                static const char *const names[] = {"fp32_adapter", "bf16_adapter", "int8_adapter"};
                const struct slm_adapter adapter = random_adapter(&model, format);
                print_logits(runner, names[format], 0, PROMPT, 0, &adapter, NULL);
                print_logits(runner, names[format], 1, 31, 3, &adapter, NULL);
            }
        }
        slm_destroy(runner);
    }
}

int main(int argc, char **argv) {
    if (argc < 4) {
        const char *name;
        for (int32_t i = 0; (name = slm_available_kernels(i)) != NULL; i++) puts(name);
        return 0;
    }
    kernels = argv[1];
    precision = atoi(argv[2]);
    cache_format = atoi(argv[3]);
    print_all();
    return ferror(stdout);
}
