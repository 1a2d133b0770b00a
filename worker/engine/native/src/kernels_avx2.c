#include <math.h>

#include "vector_avx2.h"

#include "int8_product_avx2.h"

#define KERNEL_SET kernels_avx2
#define KERNEL_SET_NAME "avx2"
#include "kernel_set.h"
