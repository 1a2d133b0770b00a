#include "lora.h"

#include <string.h>

#include "linear.h"

_Static_assert(PANEL_ROWS == SLM_LORA_PANEL_ROWS, "the panels of adapters are those of the kernels");

static int32_t min_int(int32_t a, int32_t b) { return a < b ? a : b; }

static int32_t max_int(int32_t a, int32_t b) { return a > b ? a : b; }

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

/* Add a part's product to the outputs first_output .. end_output - 1 of a group's rows, as far as they are the part's. */
static void expand_part(const struct lora_call *call, const struct row_group *group, const struct slm_lora_part *part,
                        int32_t first_output, int32_t end_output, float *y, size_t stride) {
    const struct lora_format *format = &call->kernels->lora[group->adapter->format];
    const int32_t first = max_int(first_output, part->first_row);
    const int32_t end = min_int(end_output, part->first_row + part->num_rows);
    if (first >= end) return;
    const size_t panel_size = (size_t)(part->rank / 2) * format->pair_size;
    const char *panels = (const char *)part->b + (size_t)((first - part->first_row) / PANEL_ROWS) * panel_size;
    float *targets[MAX_GROUP_ROWS];
    for (int32_t r = 0; r < group->num_rows; r++)
        targets[r] = y + (size_t)call->groups->rows[group->first + r] * stride + first;
    format->expand(call->shrunk + (size_t)group->first * call->stride + part->first_rank, call->stride,
                   group->num_rows, panels, part->rank, end - first, targets);
}

void lora_expand(const struct lora_call *call, int32_t block, int32_t first_output, int32_t end_output, float *y,
                 size_t stride) {
    const struct row_groups *groups = call->groups;
    for (int32_t g = groups->block_starts[block]; g < groups->block_starts[block + 1]; g++) {
        const struct row_group *group = &groups->groups[g];
        if (group->adapter == NULL) continue;
        const struct slm_lora *lora = &group->adapter->matrices[call->matrix];
        for (int32_t p = 0; p < lora->num_parts; p++)
            expand_part(call, group, &lora->parts[p], first_output, end_output, y, stride);
    }
}

void lora_embed(const struct kernels *kernels, int32_t format, const struct slm_lora_embedding *embedding,
                int32_t index, float *hidden) {
    const struct slm_lora_part *part = &embedding->part;
    if (embedding->columns == NULL) return;
    const float *column = embedding->columns + (size_t)index * (size_t)part->rank;
    kernels->lora[format].expand(column, (size_t)part->rank, 1, part->b, part->rank, part->num_rows, &hidden);
}
