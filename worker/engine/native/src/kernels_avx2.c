#include <math.h>

#include "vector_avx2.h"

#include "int8_product_avx2.h"
#include "kernel_set.h"

const struct kernels kernels_avx2 = KERNEL_SET("avx2");
