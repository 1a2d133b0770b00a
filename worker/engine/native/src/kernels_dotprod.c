#include <math.h>

#include "vector_neon.h"

#include "int8_product_dotprod.h"

#define KERNEL_SET kernels_dotprod
#define KERNEL_SET_NAME "dotprod"
#include "kernel_set.h"
