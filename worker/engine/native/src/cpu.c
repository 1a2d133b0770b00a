/* Selects the kernel sets that this CPU can run, among those compiled for its architecture. */
#include <string.h>

#include "kernels.h"
#include "slm_native.h"

extern const struct kernels kernels_portable;

#if defined(__x86_64__)

extern const struct kernels kernels_avx2;
extern const struct kernels kernels_avx512vnni;

static int has_avx2(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
}

static int has_avx512vnni(void) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vnni");
}

const char *slm_available_kernels(void) {
    if (!has_avx2()) return "portable";
    return has_avx512vnni() ? "avx512vnni,avx2,portable" : "avx2,portable";
}

const struct kernels *find_kernels(const char *name) {
    if (strcmp(name, "avx512vnni") == 0 && has_avx512vnni()) return &kernels_avx512vnni;
    if (strcmp(name, "avx2") == 0 && has_avx2()) return &kernels_avx2;
    return strcmp(name, "portable") == 0 ? &kernels_portable : NULL;
}

#else

const char *slm_available_kernels(void) { return "portable"; }

const struct kernels *find_kernels(const char *name) {
    return strcmp(name, "portable") == 0 ? &kernels_portable : NULL;
}

#endif
