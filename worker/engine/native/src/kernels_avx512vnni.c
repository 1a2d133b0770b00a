#include <math.h>

#include "vector_avx512.h"

#include "int8_product_avx512vnni.h"
#include "kernel_set.h"

const struct kernels kernels_avx512vnni = KERNEL_SET("avx512vnni");
