/* Packs weights into panels. */
#ifndef SLM_PACK_H
#define SLM_PACK_H

#include "kernels.h"

/* Size of a panel in bytes. */
size_t panel_size(const struct product *product, int32_t precision, int32_t columns);

#endif
