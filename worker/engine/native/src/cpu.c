/* Selects the kernel sets that this CPU can run, among those compiled for its architecture. */
#include <stddef.h>
#include <string.h>

#include "kernels.h"
#include "slm_native.h"

struct candidate {
    const struct kernels *set;
    int (*can_run)(void);
};

extern const struct kernels kernels_portable;

static int always(void) { return 1; }

#if defined(__x86_64__)

extern const struct kernels kernels_avx2;
extern const struct kernels kernels_avx512vnni;

static int has_avx2(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
}

static int has_avx512vnni(void) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vnni") && has_avx2();
}

#elif defined(__aarch64__)

extern const struct kernels kernels_dotprod;
extern const struct kernels kernels_i8mm;

#if defined(__linux__)

#include <sys/auxv.h>

/* Not in the headers of all systems. */
#define ASIMDDP_OF_HWCAP (1ul << 20)
#define I8MM_OF_HWCAP2 (1ul << 13)

static int has_dotprod(void) { return (getauxval(AT_HWCAP) & ASIMDDP_OF_HWCAP) != 0; }

static int has_i8mm(void) { return (getauxval(AT_HWCAP2) & I8MM_OF_HWCAP2) != 0 && has_dotprod(); }

#elif defined(__APPLE__)

#include <sys/sysctl.h>

static int has_feature(const char *name) {
    int value = 0;
    size_t size = sizeof value;
    return sysctlbyname(name, &value, &size, NULL, 0) == 0 && value != 0;
}

static int has_dotprod(void) { return has_feature("hw.optional.arm.FEAT_DotProd"); }

static int has_i8mm(void) { return has_feature("hw.optional.arm.FEAT_I8MM") && has_dotprod(); }

#else

static int has_dotprod(void) { return 0; }

static int has_i8mm(void) { return 0; }

#endif

#endif

/* The best first. */
static const struct candidate CANDIDATES[] = {
#if defined(__x86_64__)
    {&kernels_avx512vnni, has_avx512vnni},
    {&kernels_avx2, has_avx2},
#elif defined(__aarch64__)
    {&kernels_i8mm, has_i8mm},
    {&kernels_dotprod, has_dotprod},
#endif
    {&kernels_portable, always},
};
static const size_t NUM_CANDIDATES = sizeof CANDIDATES / sizeof *CANDIDATES;

const char *slm_available_kernels(int32_t index) {
    for (size_t i = 0; i < NUM_CANDIDATES; i++)
        if (CANDIDATES[i].can_run() && index-- == 0) return CANDIDATES[i].set->name;
    return NULL;
}

const struct kernels *find_kernels(const char *name) {
    for (size_t i = 0; i < NUM_CANDIDATES; i++)
        if (strcmp(CANDIDATES[i].set->name, name) == 0) return CANDIDATES[i].can_run() ? CANDIDATES[i].set : NULL;
    return NULL;
}
