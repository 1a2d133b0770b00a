#include <math.h>

#include "vector_avx512.h"

#include "int8_product_avx512vnni.h"
#include "lora_product_avx512vnni.h"

#define HAS_LORA_DOT
#define KERNEL_SET kernels_avx512vnni
#define KERNEL_SET_NAME "avx512vnni"
#include "kernel_set.h"
