#include "lora.h"

#include <string.h>

#include "integers.h"
#include "linear.h"

_Static_assert(PANEL_ROWS == SLM_LORA_PANEL_ROWS, "the panels of adapters are those of the kernels");

/* Begin a group with a row, and add the rows of its adapter that follow before `end`. */
static struct row_group take_group(const struct row_groups *groups, const struct slm_adapter *const *adapters,
                                   const int32_t *tokens, int32_t row, int32_t end, int32_t first,
                                   int32_t max_group_rows, char *is_grouped) {
    struct row_group group = {.adapter = adapters[tokens[row]], .first = first};
    const int32_t max_rows = group.adapter == NULL ? 1 : max_group_rows;
    for (int32_t i = row; i < end && group.num_rows < max_rows; i++) {
        if (is_grouped[i] || adapters[tokens[i]] != group.adapter) continue;
        is_grouped[i] = 1;
        groups->rows[first + group.num_rows++] = i;
    }
    return group;
}

void group_rows(struct row_groups *groups, const struct slm_adapter *const *adapters, const int32_t *tokens,
                int32_t num_rows, int32_t max_group_rows, char *is_grouped) {
    int32_t num_grouped = 0, num_blocks = 0;
    memset(is_grouped, 0, (size_t)num_rows);
    groups->num_groups = groups->has_adapters = 0;
    for (int32_t start = 0; start < num_rows; start += PACKED_ROWS_PER_TASK) {
        const int32_t end = min_int(start + PACKED_ROWS_PER_TASK, num_rows);
        groups->block_starts[num_blocks++] = groups->num_groups;
        for (int32_t row = start; row < end; row++) {
            if (is_grouped[row]) continue;
            struct row_group group =
                take_group(groups, adapters, tokens, row, end, num_grouped, max_group_rows, is_grouped);
            groups->groups[groups->num_groups++] = group;
            groups->has_adapters |= group.adapter != NULL;
            num_grouped += group.num_rows;
        }
    }
    groups->block_starts[num_blocks] = groups->num_groups;
}

void lora_shrink(const struct lora_call *call, const struct row_group *group, const float *x, int32_t columns) {
    if (group->adapter == NULL) return;
    const struct slm_lora *lora = &group->adapter->matrices[call->matrix];
    if (lora->num_panels == 0) return;
    call->kernels->lora[group->adapter->format].shrink(x, group->num_rows, lora->a, lora->num_panels, columns,
                                                       call->shrunk + (size_t)group->first * call->stride,
                                                       call->stride);
}

/* The panels of a part for some outputs. */
struct panel_range {
    const char *start;
    size_t size; /* in bytes */
    int32_t first_output, num_outputs;
};

/* Return the panels of those outputs that are the part's; without outputs if none are. */
static struct panel_range part_panels(const struct lora_format *format, const struct slm_lora_part *part,
                                      struct block_outputs outputs) {
    const int32_t first = max_int(outputs.first, part->first_row), skipped = first - part->first_row;
    const int32_t num = min_int(outputs.end, part->first_row + part->num_rows) - first;
    if (num <= 0) return (struct panel_range){.start = NULL};
    const size_t panel_size = format->head_size + (size_t)(part->rank / 2) * format->pair_size;
    return (struct panel_range){.start = (const char *)part->b + (size_t)(skipped / PANEL_ROWS) * panel_size,
                                .size = (size_t)((num + PANEL_ROWS - 1) / PANEL_ROWS) * panel_size,
                                .first_output = first,
                                .num_outputs = num};
}

static void expand_part(const struct lora_call *call, const struct row_group *group, const struct slm_lora_part *part,
                        struct block_outputs outputs, float *y, size_t stride) {
    const struct lora_format *format = &call->kernels->lora[group->adapter->format];
    const struct panel_range panels = part_panels(format, part, outputs);
    if (panels.num_outputs == 0) return;
    float *targets[MAX_GROUP_ROWS];
    for (int32_t r = 0; r < group->num_rows; r++)
        targets[r] = y + (size_t)call->groups->rows[group->first + r] * stride + panels.first_output;
    format->expand(call->shrunk + (size_t)group->first * call->stride + part->first_rank, call->stride, group->num_rows,
                   panels.start, part->rank, panels.num_outputs, targets);
}

void lora_expand(const struct lora_call *call, struct block_outputs outputs, float *y, size_t stride) {
    const struct row_groups *groups = call->groups;
    for (int32_t g = groups->block_starts[outputs.block]; g < groups->block_starts[outputs.block + 1]; g++) {
        const struct row_group *group = &groups->groups[g];
        if (group->adapter == NULL) continue;
        const struct slm_lora *lora = &group->adapter->matrices[call->matrix];
        for (int32_t p = 0; p < lora->num_parts; p++) expand_part(call, group, &lora->parts[p], outputs, y, stride);
    }
}

/* Append the lines of a group to a list, as far as there is room; return their number then. */
static int32_t add_lines(const struct lora_call *call, const struct slm_adapter *adapter, struct block_outputs outputs,
                         const char **lines, int32_t num_lines) {
    const struct slm_lora *lora = &adapter->matrices[call->matrix];
    for (int32_t p = 0; p < lora->num_parts; p++) {
        const struct panel_range panels = part_panels(&call->kernels->lora[adapter->format], &lora->parts[p], outputs);
        for (size_t i = 0; i < panels.size && num_lines < MAX_LINES_AHEAD; i += CACHE_LINE)
            lines[num_lines++] = panels.start + i;
    }
    return num_lines;
}

int32_t lora_lines(const struct lora_call *call, struct block_outputs outputs, int32_t share, int32_t num_shares,
                   const char **lines) {
    const struct row_groups *groups = call->groups;
    const int32_t start = groups->block_starts[outputs.block];
    const int32_t num_groups = groups->block_starts[outputs.block + 1] - start;
    int32_t num_lines = 0;
    for (int32_t g = num_groups * share / num_shares; g < num_groups * (share + 1) / num_shares; g++) {
        const struct slm_adapter *adapter = groups->groups[start + g].adapter;
        if (adapter != NULL) num_lines = add_lines(call, adapter, outputs, lines, num_lines);
    }
    return num_lines;
}

void lora_embed(const struct kernels *kernels, int32_t format, const struct slm_lora_embedding *embedding,
                int32_t index, float *hidden) {
    const struct slm_lora_part *part = &embedding->part;
    if (embedding->columns == NULL) return;
    const float *column = embedding->columns + (size_t)index * (size_t)part->rank;
    kernels->lora[format].expand(column, (size_t)part->rank, 1, part->b, part->rank, part->num_rows, &hidden);
}
