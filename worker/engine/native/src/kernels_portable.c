#include <math.h>

#include "vector_portable.h"

#include "int8_product_portable.h"
#include "kernel_set.h"

const struct kernels kernels_portable = KERNEL_SET("portable");
