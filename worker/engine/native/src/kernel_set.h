/* The function table of a kernel set. Included last by each kernels_*.c, after its vectors, int8 products and name. */
#include "fp32_product.h"
#include "lora_product.h"
#include "row_operations.h"

#define EXACT_CACHE {.item_size = sizeof(float), .convert = exact_convert, .multiply = exact_multiply}
#define INT8_CACHE                                                                                                     \
    {.item_size = sizeof(int8_t), .has_scales = 1, .convert = int8_convert, .multiply = int8_cache_multiply}
#define LORA_FORMAT(format, name) [format] = {.shrink = name##_shrink, .expand = name##_expand}
#ifdef VECTOR_HAS_HALF
#define SHORT_CACHE {.item_size = sizeof(uint16_t), .convert = half_convert, .multiply = half_multiply}
#else
#define SHORT_CACHE EXACT_CACHE
#endif

const struct kernels KERNEL_SET = {
    .name = KERNEL_SET_NAME,
    .fp32 = {.panel_rows = PANEL_ROWS,
             .interleave = 1,
             .tile_rows = FP32_TILE_ROWS,
             .packed_row_size = fp32_packed_row_size,
             .encode = fp32_encode,
             .multiply = fp32_multiply},
    .int8 = {.panel_rows = INT8_PANEL_ROWS,
             .interleave = INT8_INTERLEAVE,
             .weight_flip = INT8_WEIGHT_FLIP,
             .tile_rows = INT8_TILE_ROWS,
             .packed_row_size = int8_packed_row_size,
             .encode = int8_encode,
             .multiply = int8_multiply},
    .int8_head = {.panel_rows = INT8_PANEL_ROWS,
                  .interleave = INT8_INTERLEAVE,
                  .weight_flip = INT8_WEIGHT_FLIP,
                  .tile_rows = INT8_HEAD_TILE_ROWS,
                  .packed_row_size = int8_head_packed_row_size,
                  .encode = int8_head_encode,
                  .multiply = int8_head_multiply},
    .lora =
        {
            LORA_FORMAT(SLM_LORA_FP32, fp32),
            LORA_FORMAT(SLM_LORA_BF16, bf16),
            LORA_FORMAT(SLM_LORA_INT8, int8),
#ifdef HAS_LORA_DOT
            LORA_FORMAT(SLM_LORA_DOT, dot),
#endif
        },
    .exact_cache = EXACT_CACHE,
    .short_cache = SHORT_CACHE,
    .int8_cache = INT8_CACHE,
    .rms_norm = rms_norm,
    .layer_norm = layer_norm,
    .rotate = rotate,
    .swiglu = swiglu,
    .gelu_tanh = gelu_tanh,
    .softmax = softmax,
    .combine = combine,
    .scale = scale,
};
