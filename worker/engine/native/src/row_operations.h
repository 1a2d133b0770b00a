/* Arithmetic on single rows, written in terms of the vectors of the including kernel set.
 *
 * All lengths are multiples of 16 and therefore of LANES.
 */
#ifndef SLM_ROW_OPERATIONS_H
#define SLM_ROW_OPERATIONS_H

#include "kernels.h"
#include "slm_native.h"

/* e^x with a relative error of 2e-7; 0 for x < -87. Requires x <= 88. */
static inline vec vec_exp(vec x) {
    const vec low = vec_set(-87.0f);
    vec t = vec_max(x, low);
    vec n = vec_round(vec_mul(t, vec_set(1.44269504f)));
    /* t - n * ln 2, with ln 2 in two parts to keep full precision */
    vec f = vec_fma(n, vec_set(-0.693359375f), t);
    f = vec_fma(n, vec_set(2.12194440e-4f), f);
    vec p = vec_set(1.9875691500e-4f);
    p = vec_fma(p, f, vec_set(1.3981999507e-3f));
    p = vec_fma(p, f, vec_set(8.3334519073e-3f));
    p = vec_fma(p, f, vec_set(4.1665795894e-2f));
    p = vec_fma(p, f, vec_set(1.6666665459e-1f));
    p = vec_fma(p, f, vec_set(5.0000001201e-1f));
    p = vec_fma(vec_mul(p, f), f, vec_add(f, vec_set(1.0f)));
    return vec_zero_below(x, low, vec_mul(p, vec_exp2_integral(n)));
}

static void rms_norm(const float *x, const float *weight, float epsilon, int32_t n, float *out) {
    vec squares = vec_set(0.0f);
    for (int32_t i = 0; i < n; i += LANES) squares = vec_fma(vec_load(x + i), vec_load(x + i), squares);
    vec factor = vec_set(1.0f / sqrtf(vec_sum(squares) / (float)n + epsilon));
    for (int32_t i = 0; i < n; i += LANES)
        vec_store(out + i, vec_mul(vec_mul(vec_load(x + i), factor), vec_load(weight + i)));
}

static void layer_norm(const float *x, const float *weight, const float *bias, float epsilon, int32_t n, float *out) {
    vec sum = vec_set(0.0f), squares = vec_set(0.0f);
    for (int32_t i = 0; i < n; i += LANES) sum = vec_add(sum, vec_load(x + i));
    vec mean = vec_set(vec_sum(sum) / (float)n);
    for (int32_t i = 0; i < n; i += LANES) {
        vec d = vec_sub(vec_load(x + i), mean);
        squares = vec_fma(d, d, squares);
    }
    vec factor = vec_set(1.0f / sqrtf(vec_sum(squares) / (float)n + epsilon));
    for (int32_t i = 0; i < n; i += LANES) {
        vec d = vec_mul(vec_sub(vec_load(x + i), mean), factor);
        vec_store(out + i, vec_fma(d, vec_load(weight + i), vec_load(bias + i)));
    }
}

/* Dimensions i and i + half rotate together. `half` is a multiple of 8, not of LANES: a plain loop, which
 * vectorises. */
static void rotate(float *head, const float *cos, const float *sin, int32_t half) {
    float *restrict first = head, *restrict second = head + half;
    for (int32_t i = 0; i < half; i++) {
        float a = first[i], b = second[i];
        first[i] = a * cos[i] - b * sin[i];
        second[i] = b * cos[i] + a * sin[i];
    }
}

/* 1 / (1 + e^-x); below -87 it is 0 within float range. */
static inline vec vec_sigmoid(vec x) {
    vec e = vec_exp(vec_sub(vec_set(0.0f), vec_max(x, vec_set(-87.0f))));
    return vec_div(vec_set(1.0f), vec_add(vec_set(1.0f), e));
}

static void swiglu(const float *gate, const float *up, int32_t n, float *out) {
    for (int32_t i = 0; i < n; i += LANES) {
        vec g = vec_load(gate + i);
        vec_store(out + i, vec_mul(vec_mul(g, vec_sigmoid(g)), vec_load(up + i)));
    }
}

/* 0.5 x (1 + tanh(u)) = x sigmoid(2 u) with u = sqrt(2 / pi) (x + 0.044715 x^3) */
static void gelu_tanh(const float *x, int32_t n, float *out) {
    for (int32_t i = 0; i < n; i += LANES) {
        vec v = vec_load(x + i);
        vec inner = vec_fma(vec_mul(vec_mul(v, v), v), vec_set(0.044715f), v);
        vec_store(out + i, vec_mul(v, vec_sigmoid(vec_mul(inner, vec_set(1.59576912f)))));
    }
}

static float softmax(float *scores, int32_t valid, const float *scales, struct softmax_state *state) {
    for (int32_t i = valid; i < SLM_BLOCK_TOKENS; i++) scores[i] = -INFINITY;
    vec largest = vec_load(scores);
    for (int32_t i = LANES; i < SLM_BLOCK_TOKENS; i += LANES) largest = vec_max(largest, vec_load(scores + i));
    float max = fmaxf(state->max, vec_largest(largest));
    vec sum = vec_set(0.0f);
    for (int32_t i = 0; i < SLM_BLOCK_TOKENS; i += LANES) {
        vec e = vec_exp(vec_sub(vec_load(scores + i), vec_set(max)));
        vec_store(scores + i, scales == NULL ? e : vec_mul(e, vec_load(scales + i)));
        sum = vec_add(sum, e);
    }
    float factor = max == state->max ? 1.0f : expf(state->max - max); /* the maximum rarely changes */
    *state = (struct softmax_state){.max = max, .sum = state->sum * factor + vec_sum(sum)};
    return factor;
}

static void combine(float *y, float y_factor, const float *x, float x_factor, int32_t n) {
    vec yf = vec_set(y_factor), xf = vec_set(x_factor);
    for (int32_t i = 0; i < n; i += LANES) vec_store(y + i, vec_fma(vec_load(x + i), xf, vec_mul(vec_load(y + i), yf)));
}

static void scale(const float *x, float factor, int32_t n, float *out) {
    for (int32_t i = 0; i < n; i += LANES) vec_store(out + i, vec_mul(vec_load(x + i), vec_set(factor)));
}

#endif
