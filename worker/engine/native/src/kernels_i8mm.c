#include <math.h>

#include "vector_neon.h"

#include "int8_product_i8mm.h"

#define KERNEL_SET kernels_i8mm
#define KERNEL_SET_NAME "i8mm"
#include "kernel_set.h"
