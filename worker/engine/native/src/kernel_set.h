/* The table of one kernel set: included last by each kernels_*.c, which has chosen vectors, int8 products and a name. */
#include "fp32_product.h"
#include "row_operations.h"

const struct kernels KERNEL_SET = {
    .name = KERNEL_SET_NAME,
    .fp32 = {.interleave = 1,
             .tile_rows = FP32_TILE_ROWS,
             .record_size = fp32_record_size,
             .encode = fp32_encode,
             .multiply = fp32_multiply},
    .int8 = {.interleave = INT8_INTERLEAVE,
             .weight_flip = INT8_WEIGHT_FLIP,
             .tile_rows = INT8_TILE_ROWS,
             .record_size = int8_record_size,
             .encode = int8_encode,
             .multiply = int8_multiply},
    .int8_head = {.interleave = INT8_INTERLEAVE,
                  .weight_flip = INT8_WEIGHT_FLIP,
                  .tile_rows = INT8_TILE_ROWS,
                  .record_size = int8_head_record_size,
                  .encode = int8_head_encode,
                  .multiply = int8_head_multiply},
    .rms_norm = rms_norm,
    .layer_norm = layer_norm,
    .rotate = rotate,
    .swiglu = swiglu,
    .gelu_tanh = gelu_tanh,
    .softmax = softmax,
    .combine = combine,
    .scale = scale,
};
