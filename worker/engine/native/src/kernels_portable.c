#include <math.h>

#include "vector_portable.h"

#include "int8_product_portable.h"

#define KERNEL_SET kernels_portable
#define KERNEL_SET_NAME "portable"
#include "kernel_set.h"
