/* Computes the linear layers of a step. */
#ifndef SLM_LINEAR_H
#define SLM_LINEAR_H

#include "kernels.h"
#include "lora.h"
#include "slm_native.h"
#include "thread_pool.h"

#define PACKED_ROWS_PER_TASK 128 /* rows of 2,048 activations stay in a core's L2 cache while the panels are streamed */

/* y[num_packed_rows] (+)= linear(packed rows) */
struct linear_call {
    const struct product *product;
    const struct slm_linear *linear;
    size_t panel_size;
    const char *packed_rows; /* [num_packed_rows], encoded with linear->columns */
    int32_t num_packed_rows;
    int32_t adds;                 /* 1: add to y, 0: overwrite it */
    float *y;                     /* [num_packed_rows][linear->rows] */
    const struct lora_call *lora; /* of the rows' adapters, which the next phase reads; NULL: there are none */
};

/* Compute the call as one phase of the thread pool. */
void linear_phase(struct member *self, const struct linear_call *call);

#endif
