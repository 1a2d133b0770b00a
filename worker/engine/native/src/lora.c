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
    int32_t num_grouped = 0;
    memset(is_grouped, 0, (size_t)num_rows);
    groups->num_groups = groups->has_adapters = 0;
    for (int32_t start = 0; start < num_rows; start += PACKED_ROWS_PER_TASK) {
        const int32_t end = min_int(start + PACKED_ROWS_PER_TASK, num_rows);
        for (int32_t row = start; row < end; row++) {
            if (is_grouped[row]) continue;
            struct row_group group =
                take_group(groups, adapters, tokens, row, end, num_grouped, max_group_rows, is_grouped);
            groups->groups[groups->num_groups++] = group;
            groups->has_adapters |= group.adapter != NULL;
            num_grouped += group.num_rows;
        }
    }
}

void lora_shrink(const struct lora_call *call, const struct row_group *group, const struct lora_input *input) {
    if (group->adapter == NULL) return;
    const struct slm_lora *lora = &group->adapter->matrices[call->matrix];
    if (lora->num_panels == 0) return;
    call->kernels->lora[group->adapter->format].shrink(
        input, lora->a, lora->num_panels, call->shrunk + (size_t)group->first * call->stride, call->stride);
}

static void expand_part(const struct lora_call *call, const struct row_group *group, const struct slm_lora_part *part,
                        float *y, size_t stride) {
    float *targets[MAX_GROUP_ROWS];
    for (int32_t r = 0; r < group->num_rows; r++)
        targets[r] = y + (size_t)call->groups->rows[group->first + r] * stride + part->first_row;
    call->kernels->lora[group->adapter->format].expand(
        call->shrunk + (size_t)group->first * call->stride + part->first_rank, call->stride, group->num_rows, part->b,
        part->rank, part->num_rows, targets);
}

void lora_expand(const struct lora_call *call, const struct row_group *group, float *y, size_t stride) {
    if (group->adapter == NULL) return;
    const struct slm_lora *lora = &group->adapter->matrices[call->matrix];
    for (int32_t p = 0; p < lora->num_parts; p++) expand_part(call, group, &lora->parts[p], y, stride);
}

/* Return what is read of a group's adapter after the matrix, unless the group before it has read that. */
static struct prefetch_range read_after(const struct lora_call *call, int32_t group) {
    const struct row_group *groups = call->groups->groups;
    const struct slm_adapter *adapter = groups[group].adapter;
    if (adapter == NULL || (group > 0 && groups[group - 1].adapter == adapter))
        return (struct prefetch_range){.size = 0};
    const struct slm_lora *lora = &adapter->matrices[call->matrix];
    return (struct prefetch_range){.start = lora->next, .size = lora->next_size};
}

struct lora_stream lora_stream(const struct lora_call *call, struct task_range share, int32_t num_tiles) {
    size_t size = 0;
    for (int32_t g = share.start; g < share.end; g++) size += read_after(call, g).size;
    const size_t per_tile = size / (size_t)max_int(num_tiles, 1);
    return (struct lora_stream){.call = call,
                                .group = share.start,
                                .end = share.end,
                                .bytes_per_tile = (per_tile / CACHE_LINE + 1) * CACHE_LINE};
}

struct prefetch_range lora_stream_next(struct lora_stream *stream) {
    for (; stream->group < stream->end; stream->group++, stream->offset = 0) {
        const struct prefetch_range read = read_after(stream->call, stream->group);
        if (stream->offset >= read.size) continue;
        const struct prefetch_range next = {.start = read.start + stream->offset, .size = stream->bytes_per_tile};
        stream->offset += next.size;
        return next;
    }
    return (struct prefetch_range){.size = 0};
}

void lora_embed(const struct kernels *kernels, int32_t format, const struct slm_lora_embedding *embedding,
                int32_t index, float *hidden) {
    const struct slm_lora_part *part = &embedding->part;
    if (embedding->columns == NULL) return;
    const float *column = embedding->columns + (size_t)index * (size_t)part->rank;
    kernels->lora[format].expand(column, (size_t)part->rank, 1, part->b, part->rank, part->num_rows, &hidden);
}
