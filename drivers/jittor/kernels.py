"""The few operators that jittor's own are too slow or too inexact for, as C++ for the CPU (float32 only).

Measured on MiniLM (B 32, T 64, S 84): jittor's 4-D matmul takes 28 ms where `attention` takes 3, its gelu calls a
scalar `erff`, and its layer norm computes E[x^2] - E[x]^2. Each function below is the body of a `jt.code` operator;
sizes come from the inputs at run time, so a new shape compiles nothing. Matrix products are oneDNN's, which jittor
has loaded. `run` is the only way in.

What is to vanish is written as a product with exp(-|x|), never as a difference such as 1 - 1 / (1 + e): its last bit
depends on the compiler's choice of instructions. Comparisons are ordered so that NaN stays NaN. Denormal numbers may
count as 0, and so do exponentials below 1e-38.
"""

from collections.abc import Sequence

import jittor

# jittor compiles with -Ofast: a NaN gets lost in comparisons, reciprocals of vectors are approximate, and a sum that is
# to correct another's rounding is merged with it. Loops say themselves what may be summed in another order (omp simd).
FLAGS = {"FLAGS: -fno-fast-math -fno-math-errno -fno-trapping-math ": 1}

HEADER = r"""
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

// row-major: C (m, n) = alpha * op(A) op(B) + beta * C; single-threaded inside a parallel region
extern "C" int dnnl_sgemm(char, char, int64_t m, int64_t n, int64_t k, float alpha, const float* a, int64_t lda,
                          const float* b, int64_t ldb, float beta, float* c, int64_t ldc);

static inline float fp_clamp(float x, float bound) {  // NaN stays NaN
    return std::max(std::min(x, bound), -bound);
}

// exp(x) for x <= 0, within 2e-7 of itself, and 0 below the smallest normal number; NaN stays NaN. A vector function
// under every compiler: glibc declares its own for -ffast-math alone.
static inline float fp_exp(float x) {
    float c = std::max(x, -87.33654f);
    float t = c * 1.44269504f + 12582912.f, n = t - 12582912.f;  // the sum leaves no bits behind the point
    float r = c - n * .693359375f + n * 2.12194440e-4f;          // c - n log(2)
    float p = 1.f / 5040;
    p = p * r + 1.f / 720;
    p = p * r + 1.f / 120;
    p = p * r + 1.f / 24;
    p = p * r + 1.f / 6;
    p = p * r + .5f;
    p = p * r + 1.f;
    p = p * r + 1.f;
    uint32_t bits;
    std::memcpy(&bits, &t, 4);
    bits = (bits + 127) << 23;  // of 2^n
    float power;
    std::memcpy(&power, &bits, 4);
    return x < -87.33654f ? 0.f : p * power;
}

// 1 / (1 + exp(-x)) and its derivative, each to full precision however small it is
static inline float fp_sigmoid(float x) {
    float e = fp_exp(-std::abs(x)), s = 1.f / (1.f + e);
    return x < 0 ? e * s : s;
}
static inline float fp_sigmoid_slope(float x) {
    float e = fp_exp(-std::abs(x)), s = 1.f / (1.f + e);
    return e * s * s;
}

// erf(x) = x P(x^2) / Q(x^2) on [-3.92, 3.92], within 3e-7 (the coefficients are those of Eigen's and XLA's float erf),
// and -1 or 1 beyond, where it is that in float32; glibc's erff is no vector function everywhere
static inline float fp_erf(float x) {
    float bound = 3.92f, c = fp_clamp(x, bound), s = c * c;
    float p = -2.72614225801306e-10f;
    p = p * s + 2.77068142495902e-08f;
    p = p * s - 2.10102402082508e-06f;
    p = p * s - 5.69250639462346e-05f;
    p = p * s - 7.34990630326855e-04f;
    p = p * s - 2.95459980854025e-03f;
    p = p * s - 1.60960333262415e-02f;
    float q = -1.45660718464996e-05f;
    q = q * s - 2.13374055278905e-04f;
    q = q * s - 1.68282697438203e-03f;
    q = q * s - 7.37332916720468e-03f;
    q = q * s - 1.42647390514189e-02f;
    return x > bound ? 1.f : x < -bound ? -1.f : c * p / q;
}

// Dropout without a stored mask: element i of a call with these seeds is kept or dropped by a hash of the three.
static inline uint32_t fp_mix(uint32_t x) {
    x ^= x >> 16; x *= 0x7feb352dU; x ^= x >> 15; x *= 0x846ca68bU; x ^= x >> 16;
    return x;
}
struct fp_dropout {
    uint32_t a, b, limit;
    float scale;
    template <class Data> fp_dropout(Data& data)
        : a((uint32_t)data["seed0"]), b((uint32_t)data["seed1"]),
          limit((uint32_t)std::min(4294967295.0, data["p"] * 4294967296.0)), scale((float)(1 / (1 - data["p"]))) {}
    inline float keep(uint32_t i) const { return fp_mix(fp_mix(i ^ a) + b) >= limit ? scale : 0.f; }
};
"""

DROPOUT = r"""
    fp_dropout drop(data);
    int64_t n = in0->num;
    #pragma omp parallel for simd schedule(static)
    for (int64_t i = 0; i < n; i++) out0_p[i] = in0_p[i] * drop.keep((uint32_t)i);
"""

GELU = r"""
    int64_t n = in0->num;
    #pragma omp parallel for simd schedule(static)
    for (int64_t i = 0; i < n; i++) out0_p[i] = .5f * in0_p[i] * (1.f + fp_erf(in0_p[i] * .70710678f));
"""

# x times the density is 0 from |x| = 15 on; the bound lets it be that where x^2 or x is infinite
GELU_GRAD = r"""
    int64_t n = in0->num;
    #pragma omp parallel for simd schedule(static)
    for (int64_t i = 0; i < n; i++) {
        float x = fp_clamp(in0_p[i], 20.f);
        float density = .39894228f * fp_exp(-.5f * x * x);
        out0_p[i] = in1_p[i] * (.5f + .5f * fp_erf(x * .70710678f) + x * density);
    }
"""

# 0.5 x (1 + tanh u) = x sigmoid(2 u),  2 u = 2 sqrt(2 / pi) (x + 0.044715 x^3)
GELU_TANH = r"""
    int64_t n = in0->num;
    #pragma omp parallel for simd schedule(static)
    for (int64_t i = 0; i < n; i++) {
        float x = in0_p[i];
        out0_p[i] = x * fp_sigmoid(1.59576912f * x * (1.f + .044715f * x * x));
    }
"""

# the sigmoid is 0 or 1, and its slope 0, from |x| = 11 on
GELU_TANH_GRAD = r"""
    int64_t n = in0->num;
    #pragma omp parallel for simd schedule(static)
    for (int64_t i = 0; i < n; i++) {
        float x = fp_clamp(in0_p[i], 20.f), u2 = 1.59576912f * x * (1.f + .044715f * x * x);
        float inner = 1.59576912f * x * (1.f + .134145f * x * x);  // x times the derivative of 2 u
        out0_p[i] = in1_p[i] * (fp_sigmoid(u2) + inner * fp_sigmoid_slope(u2));
    }
"""

# jittor's own sigmoid stops at x = -30 (silu(-1e20) would be -9e6) and loses NaN, its derivative of tanh is NaN from
# |x| = 45 on, and its relu makes NaN 0.
TANH = r"""
    int64_t n = in0->num;
    #pragma omp parallel for simd schedule(static)
    for (int64_t i = 0; i < n; i++) out0_p[i] = std::tanh(in0_p[i]);
"""
TANH_GRAD = r"""
    int64_t n = in0->num;
    #pragma omp parallel for simd schedule(static)
    for (int64_t i = 0; i < n; i++) out0_p[i] = in1_p[i] * 4.f * fp_sigmoid_slope(2.f * in0_p[i]);
"""

SIGMOID = r"""
    int64_t n = in0->num;
    #pragma omp parallel for simd schedule(static)
    for (int64_t i = 0; i < n; i++) out0_p[i] = fp_sigmoid(in0_p[i]);
"""
SIGMOID_GRAD = r"""
    int64_t n = in0->num;
    #pragma omp parallel for simd schedule(static)
    for (int64_t i = 0; i < n; i++) out0_p[i] = in1_p[i] * fp_sigmoid_slope(in0_p[i]);
"""

SILU = r"""
    int64_t n = in0->num;
    #pragma omp parallel for simd schedule(static)
    for (int64_t i = 0; i < n; i++) out0_p[i] = in0_p[i] * fp_sigmoid(in0_p[i]);
"""
# exp(-120) is 0 in float32; the bound keeps infinity times the slope from being NaN
SILU_GRAD = r"""
    int64_t n = in0->num;
    #pragma omp parallel for simd schedule(static)
    for (int64_t i = 0; i < n; i++) {
        float x = fp_clamp(in0_p[i], 120.f);
        out0_p[i] = in1_p[i] * (fp_sigmoid(x) + x * fp_sigmoid_slope(x));
    }
"""

RELU = r"""
    int64_t n = in0->num;
    #pragma omp parallel for simd schedule(static)
    for (int64_t i = 0; i < n; i++) out0_p[i] = in0_p[i] <= 0 ? 0.f : in0_p[i];
"""
RELU_GRAD = r"""
    int64_t n = in0->num;
    #pragma omp parallel for simd schedule(static)
    for (int64_t i = 0; i < n; i++) out0_p[i] = in0_p[i] <= 0 ? 0.f : in1_p[i];
"""

# in: x (N, I), weight (O, I)[, bias (O)]; out: (N, O)
LINEAR = r"""
    int64_t n = in0_shape0, k = in0_shape1, m = in1_shape0;
    dnnl_sgemm('N', 'T', n, m, k, 1.f, in0_p, k, in1_p, k, 0.f, out0_p, m);
"""
LINEAR_BIAS = r"""
    int64_t n = in0_shape0, k = in0_shape1, m = in1_shape0;
    #pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i++) std::copy(in2_p, in2_p + m, out0_p + i * m);
    dnnl_sgemm('N', 'T', n, m, k, 1.f, in0_p, k, in1_p, k, 1.f, out0_p, m);
"""
# in: d_out (N, O), weight (O, I); out: d_x (N, I)
LINEAR_GRAD_X = r"""
    int64_t n = in0_shape0, k = in0_shape1, m = in1_shape1;
    dnnl_sgemm('N', 'N', n, m, k, 1.f, in0_p, k, in1_p, m, 0.f, out0_p, m);
"""
# in: d_out (N, O), x (N, I); out: d_weight (O, I)
LINEAR_GRAD_W = r"""
    int64_t n = in0_shape0, o = in0_shape1, i = in1_shape1;
    dnnl_sgemm('T', 'N', o, i, n, 1.f, in0_p, o, in1_p, i, 0.f, out0_p, i);
"""

# in: x (N, C), weight (C), bias (C); out: y (N, C), mean and 1 / deviation (N, 2)
LAYER_NORM = r"""
    int64_t n = in0_shape0, c = in0_shape1;
    float eps = (float)data["eps"];
    #pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i++) {
        const float* x = in0_p + i * c;
        float* y = out0_p + i * c;
        float mean = 0, square = 0, off = 0;
        #pragma omp simd reduction(+ : mean)
        for (int64_t j = 0; j < c; j++) mean += x[j];
        mean /= c;
        #pragma omp simd reduction(+ : off)
        for (int64_t j = 0; j < c; j++) off += x[j] - mean;  // what rounding left in the mean
        mean += off / c;
        #pragma omp simd reduction(+ : square)
        for (int64_t j = 0; j < c; j++) square += (x[j] - mean) * (x[j] - mean);
        float r = 1.f / std::sqrt(square / c + eps);
        for (int64_t j = 0; j < c; j++) y[j] = (x[j] - mean) * r * in1_p[j] + in2_p[j];
        out1_p[2 * i] = mean;
        out1_p[2 * i + 1] = r;
    }
"""
# in: x, statistics, weight, d_y; out: d_x
LAYER_NORM_GRAD_X = r"""
    int64_t n = in0_shape0, c = in0_shape1;
    #pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i++) {
        const float *x = in0_p + i * c, *g = in3_p + i * c;
        float* d = out0_p + i * c;
        float mean = in1_p[2 * i], r = in1_p[2 * i + 1], sum = 0, dot = 0;
        #pragma omp simd reduction(+ : sum, dot)
        for (int64_t j = 0; j < c; j++) {
            float h = g[j] * in2_p[j];
            sum += h;
            dot += h * (x[j] - mean);
        }
        sum /= c;
        dot *= r * r / c;
        for (int64_t j = 0; j < c; j++) d[j] = r * (g[j] * in2_p[j] - sum - (x[j] - mean) * dot);
    }
"""
# in: x, statistics, d_y; out: d_weight (C), d_bias (C)
LAYER_NORM_GRAD_W = r"""
    int64_t n = in0_shape0, c = in0_shape1;
    std::fill(out0_p, out0_p + c, 0.f);
    std::fill(out1_p, out1_p + c, 0.f);
    for (int64_t i = 0; i < n; i++) {
        float mean = in1_p[2 * i], r = in1_p[2 * i + 1];
        for (int64_t j = 0; j < c; j++) {
            out0_p[j] += in2_p[i * c + j] * (in0_p[i * c + j] - mean) * r;
            out1_p[j] += in2_p[i * c + j];
        }
    }
"""

# in: ids (N) int64, d_rows (N, C); out: d_table (V, C); a row never to train as data["padding"], else -1
EMBEDDING_GRAD = r"""
    int64_t n = in1_shape0, c = in1_shape1, v = out0_shape0, padding = (int64_t)data["padding"];
    std::fill(out0_p, out0_p + v * c, 0.f);
    for (int64_t i = 0; i < n; i++)
        if (in0_p[i] != padding)
            for (int64_t j = 0; j < c; j++) out0_p[in0_p[i] * c + j] += in1_p[i * c + j];
"""

# Scores of BLOCK queries at a time stay in the cache, and only each row's maximum and 1 / sum are kept for the backward
# pass, which computes the probabilities again. The mask may be broadcast along batch, heads and queries.
_ATTENTION_SIZES = r"""
    const int64_t B = in0_shape0, H = in0_shape1, T = in0_shape2, D = in0_shape3, S = in1_shape2, BLOCK = 64;
    const float scale = 1.f / std::sqrt((float)D);
    const int64_t mask_t = in3_shape2 == 1 ? 0 : S, mask_h = in3_shape1 == 1 ? 0 : in3_shape2 * S,
                  mask_b = in3_shape0 == 1 ? 0 : in3_shape1 * in3_shape2 * S;
    const bool dropping = data["p"] > 0, biased = data["biased"] > 0;
    fp_dropout drop(data);
"""
# in: query (B, H, T, D), key and value (B, H, S, D), mask (B, H or 1, T or 1, S);
# out: (B, H, T, D), maximum and 1 / sum (B, H, T, 2)
ATTENTION = (
    _ATTENTION_SIZES
    + r"""
    #pragma omp parallel
    {
        std::vector<float> scores(BLOCK * S);
        float* p = scores.data();
        #pragma omp for schedule(static)
        for (int64_t bh = 0; bh < B * H; bh++) {
            const float *q = in0_p + bh * T * D, *k = in1_p + bh * S * D, *v = in2_p + bh * S * D;
            for (int64_t t = 0; t < T; t += BLOCK) {
                int64_t rows = std::min(BLOCK, T - t);
                dnnl_sgemm('N', 'T', rows, S, D, scale, q + t * D, D, k, D, 0.f, p, S);
                for (int64_t i = 0; i < rows; i++) {
                    const float* mask = in3_p + bh / H * mask_b + bh % H * mask_h + (t + i) * mask_t;
                    float *row = p + i * S, *stats = out1_p + (bh * T + t + i) * 2;
                    float top = std::numeric_limits<float>::lowest(), sum = 0;  // some masks are made of that number
                    #pragma omp simd reduction(max : top)
                    for (int64_t s = 0; s < S; s++) {
                        row[s] += mask[s];
                        top = std::max(top, row[s]);
                    }
                    #pragma omp simd reduction(+ : sum)
                    for (int64_t s = 0; s < S; s++) {
                        row[s] = fp_exp(row[s] - top);
                        sum += row[s];
                    }
                    stats[0] = top;
                    stats[1] = 1.f / sum;
                    if (dropping)
                        for (int64_t s = 0; s < S; s++) row[s] *= drop.keep((uint32_t)((bh * T + t + i) * S + s));
                }
                float* o = out0_p + (bh * T + t) * D;
                dnnl_sgemm('N', 'N', rows, D, S, 1.f, p, S, v, D, 0.f, o, D);
                for (int64_t i = 0; i < rows; i++) {
                    float r = out1_p[(bh * T + t + i) * 2 + 1];
                    for (int64_t d = 0; d < D; d++) o[i * D + d] *= r;
                }
            }
        }
    }
"""
)
# in: query, key, value, mask, out, statistics, d_out; out: d_query, d_key, d_value, and d_scores if data has "biased"
ATTENTION_GRAD = (
    _ATTENTION_SIZES
    + r"""
    #pragma omp parallel
    {
        std::vector<float> buffer(3 * BLOCK * S);
        float *p = buffer.data(), *dp = p + BLOCK * S, *kept = dp + BLOCK * S;
        #pragma omp for schedule(static)
        for (int64_t bh = 0; bh < B * H; bh++) {
            const float *q = in0_p + bh * T * D, *k = in1_p + bh * S * D, *v = in2_p + bh * S * D;
            float *dk = out1_p + bh * S * D, *dv = out2_p + bh * S * D;
            for (int64_t t = 0; t < T; t += BLOCK) {
                int64_t rows = std::min(BLOCK, T - t);
                const float *g = in6_p + (bh * T + t) * D, *o = in4_p + (bh * T + t) * D;
                float more = t ? 1.f : 0.f;
                dnnl_sgemm('N', 'T', rows, S, D, scale, q + t * D, D, k, D, 0.f, p, S);
                dnnl_sgemm('N', 'T', rows, S, D, 1.f, g, D, v, D, 0.f, dp, S);
                for (int64_t i = 0; i < rows; i++) {
                    const float* mask = in3_p + bh / H * mask_b + bh % H * mask_h + (t + i) * mask_t;
                    const float* stats = in5_p + (bh * T + t + i) * 2;
                    float *row = p + i * S, *drow = dp + i * S, *krow = kept + i * S;
                    float top = stats[0], r = stats[1], delta = 0;
                    #pragma omp simd
                    for (int64_t s = 0; s < S; s++) row[s] = fp_exp(row[s] + mask[s] - top) * r;
                    #pragma omp simd reduction(+ : delta)
                    for (int64_t d = 0; d < D; d++) delta += g[i * D + d] * o[i * D + d];
                    if (dropping)
                        for (int64_t s = 0; s < S; s++) {
                            float keep = drop.keep((uint32_t)((bh * T + t + i) * S + s));
                            krow[s] = row[s] * keep;
                            drow[s] *= keep;
                        }
                    for (int64_t s = 0; s < S; s++) drow[s] = row[s] * (drow[s] - delta);
                    if (biased) std::copy(drow, drow + S, out3_p + (bh * T + t + i) * S);
                    for (int64_t s = 0; s < S; s++) drow[s] *= scale;
                }
                dnnl_sgemm('T', 'N', S, D, rows, 1.f, dropping ? kept : p, S, g, D, more, dv, D);
                dnnl_sgemm('N', 'N', rows, D, S, 1.f, dp, S, k, D, 0.f, out0_p + (bh * T + t) * D, D);
                dnnl_sgemm('T', 'N', S, D, rows, 1.f, dp, S, q + t * D, D, more, dk, D);
            }
        }
    }
"""
)


def usable(*inputs: jittor.Var) -> bool:
    """Whether the kernels can run here: on the CPU, on float32."""
    return not jittor.flags.use_cuda and all(x.dtype == "float32" for x in inputs)


def run(
    source: str, shapes: Sequence[Sequence[int]], inputs: Sequence[jittor.Var], **data: float
) -> jittor.Var | list[jittor.Var]:
    """Run `source` on `inputs`: one float32 Var for one shape, a list for several; `data` reaches it at run time."""
    options = {"cpu_src": source, "cpu_header": HEADER, "data": {k: float(v) for k, v in data.items()}}
    with jittor.flag_scope(compile_options=FLAGS):
        if len(shapes) == 1:
            return jittor.code(shapes[0], "float32", list(inputs), **options)
        return jittor.code(list(shapes), ["float32"] * len(shapes), list(inputs), **options)
