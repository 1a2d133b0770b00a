#include "linear.h"

#include "integers.h"

#define MAX_PANELS_PER_TASK 16
#define TASKS_PER_MEMBER 8 /* enough to balance the load if a core is shared with other processes */

/* y[n] = tile + bias (if the layer has one) + y (if the call adds) */
static inline __attribute__((always_inline)) void store_row(const struct linear_call *call, const float *tile,
                                                            int32_t first_row, int32_t n, float *restrict y) {
    const float *bias = call->linear->bias;
    float sums[MAX_PANEL_ROWS];
    for (int32_t i = 0; i < n; i++) sums[i] = tile[i];
    if (bias != NULL)
        for (int32_t i = 0; i < n; i++) sums[i] += bias[first_row + i];
    if (call->adds)
        for (int32_t i = 0; i < n; i++) sums[i] += y[i];
    for (int32_t i = 0; i < n; i++) y[i] = sums[i];
}

/* Store the part of a tile [num_packed_rows][panel_rows] that lies within the matrix. */
static void store_tile(const struct linear_call *call, const float *tile, int32_t first_packed_row,
                       int32_t num_packed_rows, int32_t first_row) {
    const int32_t num_rows = call->linear->rows, panel_rows = call->product->panel_rows;
    const int32_t n = min_int(num_rows - first_row, panel_rows);
    float *y = call->y + (size_t)first_packed_row * (size_t)num_rows + first_row;
    for (int32_t r = 0; r < num_packed_rows; r++, tile += panel_rows, y += num_rows) {
        switch (n) { /* constant sizes unroll the loops */
        case 32: store_row(call, tile, first_row, 32, y); break;
        case 16: store_row(call, tile, first_row, 16, y); break;
        default: store_row(call, tile, first_row, n, y);
        }
    }
}

/* Return how many of `num_packed_rows` to take next, so that no tile is left with one row if two tiles could have two
 * each. */
static int32_t even_tile(int32_t num_packed_rows, int32_t tile_rows) {
    return divide_up(num_packed_rows, divide_up(num_packed_rows, tile_rows));
}

/* Some panels with some packed rows. */
struct linear_task {
    int32_t first_packed_row, end_packed_row;
    int32_t first_panel, end_panel;
};

static void multiply_panel(const struct linear_call *call, const struct linear_task *task, int32_t panel,
                           struct lora_stream *stream) {
    const struct product *product = call->product;
    const int32_t columns = call->linear->columns;
    const size_t packed_row_size = product->packed_row_size(columns);
    const char *weights = (const char *)call->linear->panels + (size_t)panel * call->panel_size;
    /* The next panel is prefetched while this one, which is cached, is multiplied with tile after tile. */
    const int32_t num_tiles = divide_up(task->end_packed_row - task->first_packed_row, product->tile_rows);
    struct prefetch ahead = {
        .weights = {.start = weights + call->panel_size, .size = call->panel_size / (size_t)num_tiles}};
    float tile[MAX_TILE_ROWS * MAX_PANEL_ROWS];
    for (int32_t r = task->first_packed_row, num_packed_rows; r < task->end_packed_row; r += num_packed_rows) {
        num_packed_rows = even_tile(task->end_packed_row - r, product->tile_rows);
        ahead.adapters = lora_stream_next(stream);
        product->multiply(call->packed_rows + (size_t)r * packed_row_size, packed_row_size, num_packed_rows, weights,
                          columns, &ahead, tile, (size_t)product->panel_rows);
        ahead.weights.start += ahead.weights.size;
        store_tile(call, tile, r, num_packed_rows, panel * product->panel_rows);
    }
}

static void compute_task(const struct linear_call *call, const struct linear_task *task, struct lora_stream *stream) {
    for (int32_t panel = task->first_panel; panel < task->end_panel; panel++) multiply_panel(call, task, panel, stream);
}

/* A task multiplies some panels with some packed rows: a panel stays in the L1 cache while the rows are streamed. */
void linear_phase(struct member *self, const struct linear_call *call) {
    const int32_t num_panels = divide_up(call->linear->rows, call->product->panel_rows);
    const int32_t wanted = num_panels / (member_pool_size(self) * TASKS_PER_MEMBER);
    const int32_t panels_per_task = wanted < 1 ? 1 : min_int(wanted, MAX_PANELS_PER_TASK);
    const int32_t tasks_per_block = divide_up(num_panels, panels_per_task);
    const int32_t num_tasks = tasks_per_block * divide_up(call->num_packed_rows, PACKED_ROWS_PER_TASK);
    const int32_t num_tiles = num_panels * divide_up(call->num_packed_rows, call->product->tile_rows);
    struct lora_stream stream = {.end = 0};
    if (call->lora != NULL)
        stream = lora_stream(call->lora, member_share(self, call->lora->groups->num_groups),
                             num_tiles / member_pool_size(self));
    for (int32_t index; (index = member_next_task(self, num_tasks)) >= 0;) {
        struct linear_task task = {.first_packed_row = index / tasks_per_block * PACKED_ROWS_PER_TASK,
                                   .first_panel = index % tasks_per_block * panels_per_task};
        task.end_packed_row = min_int(task.first_packed_row + PACKED_ROWS_PER_TASK, call->num_packed_rows);
        task.end_panel = min_int(task.first_panel + panels_per_task, num_panels);
        compute_task(call, &task, &stream);
    }
}
