// Vectors of W numbers by the compiler's vector extension, and the functions that the recurrences apply to them.
// Everything is in an anonymous namespace: each instruction set compiles its own copy, and the linker must not merge
// copies of different instruction sets.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace {

#define INLINE inline __attribute__((always_inline))

using Index = std::ptrdiff_t;

template <class T, int W>
struct VectorTypes {
    typedef T Value __attribute__((vector_size(W * sizeof(T))));
    typedef T Unaligned __attribute__((vector_size(W * sizeof(T)), aligned(alignof(T)), may_alias));
};
template <class T, int W>
using Vec = typename VectorTypes<T, W>::Value;

template <class T, int W>
INLINE Vec<T, W> load(const T* p) {
    return *reinterpret_cast<const typename VectorTypes<T, W>::Unaligned*>(p);
}

template <class T, int W>
INLINE void store(T* p, Vec<T, W> v) {
    *reinterpret_cast<typename VectorTypes<T, W>::Unaligned*>(p) = v;
}

template <class T, int W>
INLINE Vec<T, W> splat(T s) {
    return s - Vec<T, W>{};
}

template <class T, int W>
INLINE T horizontal_sum(Vec<T, W> v) {
    T sum = 0;
    for (int i = 0; i < W; ++i) sum += v[i];
    return sum;
}

// -- division and square roots
//
// In float, the processor's estimate and one Newton step take half the time of the exact instruction and are accurate
// to about one unit in the last place but one. With e ~ 1 / sqrt(v): 1 / sqrt(v) ~ e (3 - v e^2) / 2; with e ~ 1 / b:
// 1 / b ~ e (2 - b e).

template <class T, int W>
INLINE Vec<T, W> square_root(Vec<T, W> v) {
    for (int i = 0; i < W; ++i) v[i] = std::sqrt(v[i]);
    return v;
}

// sqrt(v) and its inverse for v > 0
template <class T, int W>
struct Root {
    Vec<T, W> root, inverse;
    INLINE explicit Root(Vec<T, W> v) : root(square_root<T, W>(v)), inverse(T(1) / root) {}
};

template <class T, int W>
INLINE Vec<T, W> quotient(Vec<T, W> a, Vec<T, W> b) {
    return a / b;
}

#if defined(SFM_AVX512) || defined(SFM_AVX2)
template <int W>
struct EstimatedRoot {
    Vec<float, W> root, inverse;
    INLINE EstimatedRoot(Vec<float, W> v, Vec<float, W> estimate) {
        const Vec<float, W> first = v * estimate, correction = 1.5f - 0.5f * (first * estimate);
        root = first * correction, inverse = estimate * correction;
    }
};

template <class V>
INLINE V improved_quotient(V a, V b, V estimate) {
    return a * (estimate * (2.0f - b * estimate));
}

template <>
INLINE Vec<double, 4> square_root<double, 4>(Vec<double, 4> v) {
    return _mm256_sqrt_pd(v);
}

template <>
struct Root<float, 8> : EstimatedRoot<8> {
    INLINE explicit Root(Vec<float, 8> v) : EstimatedRoot<8>(v, _mm256_rsqrt_ps(v)) {}
};

template <>
INLINE Vec<float, 8> quotient<float, 8>(Vec<float, 8> a, Vec<float, 8> b) {
    return improved_quotient<Vec<float, 8>>(a, b, _mm256_rcp_ps(b));
}
#endif

#if defined(SFM_AVX512)  // masked forms, because GCC 12 warns about the others
template <>
INLINE Vec<double, 8> square_root<double, 8>(Vec<double, 8> v) {
    return _mm512_maskz_sqrt_pd(0xff, v);
}

template <>
struct Root<float, 16> : EstimatedRoot<16> {
    INLINE explicit Root(Vec<float, 16> v) : EstimatedRoot<16>(v, _mm512_maskz_rsqrt14_ps(0xffff, v)) {}
};

template <>
INLINE Vec<float, 16> quotient<float, 16>(Vec<float, 16> a, Vec<float, 16> b) {
    return improved_quotient<Vec<float, 16>>(a, b, _mm512_maskz_rcp14_ps(0xffff, b));
}
#endif

// -- sigmoid and tanh
//
// All of them keep NaN: comparisons with NaN are false, and are written so that this selects x.

template <class T, int W>
INLINE Vec<T, W> clamp(Vec<T, W> x, T limit) {
    x = x > limit ? splat<T, W>(limit) : x;
    return x < -limit ? splat<T, W>(-limit) : x;
}

#if defined(SFM_AVX512) || defined(SFM_AVX2)  // min and max return their second argument if either is NaN
template <>
INLINE Vec<float, 8> clamp<float, 8>(Vec<float, 8> x, float limit) {
    return _mm256_max_ps(_mm256_set1_ps(-limit), _mm256_min_ps(_mm256_set1_ps(limit), x));
}
#endif

#if defined(SFM_AVX512)
template <>
INLINE Vec<float, 16> clamp<float, 16>(Vec<float, 16> x, float limit) {
    x = _mm512_maskz_min_ps(0xffff, _mm512_set1_ps(limit), x);
    return _mm512_maskz_max_ps(0xffff, _mm512_set1_ps(-limit), x);
}
#endif

// Returns the sum of coefficients[i] x^i.
template <class T, int W, int Count>
INLINE Vec<T, W> polynomial(Vec<T, W> x, const T (&coefficients)[Count]) {
    Vec<T, W> sum = splat<T, W>(coefficients[Count - 1]);
#pragma GCC unroll 16
    for (int i = Count - 2; i >= 0; --i) sum = sum * x + coefficients[i];
    return sum;
}

// Returns e^x = 2^n e^r with n = round(x / ln 2) and r = x - n ln 2, |r| <= ln 2 / 2.
template <int W>
INLINE Vec<double, W> exponential(Vec<double, W> x) {
    typedef int64_t Bits __attribute__((vector_size(W * 8)));
    constexpr double log2_e = 1.4426950408889634, ln2_high = 0x1.62e42fef00000p-1, ln2_low = 0x1.473de6af278edp-34;
    constexpr double magic = 0x1.8p52;  // adding it rounds to an integer, which is then in the lowest bits
    static constexpr double inverse_factorials[] = {
        1.0,         1.0,          1.0 / 2,       1.0 / 6,        1.0 / 24,        1.0 / 120,        1.0 / 720,
        1.0 / 5040,  1.0 / 40320,  1.0 / 362880,  1.0 / 3628800,  1.0 / 39916800,  1.0 / 479001600,  1.0 / 6227020800};
    x = clamp<double, W>(x, 700.0);
    const Vec<double, W> shifted = x * log2_e + magic;
    const Vec<double, W> n = shifted - magic;
    const Vec<double, W> r = (x - n * ln2_high) - n * ln2_low;
    const Bits scale = ((Bits)shifted << 52) + 0x3ff0000000000000;
    return polynomial<double, W>(r, inverse_factorials) * (Vec<double, W>)scale;
}

template <class T, int W>
struct Activation;

template <int W>
struct Activation<double, W> {
    using V = Vec<double, W>;
    static INLINE V sigmoid(V x) { return 1.0 / (1.0 + exponential<W>(-x)); }
    static INLINE V tanh(V x) { return 1.0 - 2.0 / (1.0 + exponential<W>(2.0 * x)); }
};

template <int W>
struct Activation<float, W> {
    using V = Vec<float, W>;

    // tanh x = x P(x^2) / Q(x^2), fitted for the lowest maximum relative error on |x| <= 9: 2e-8, and 3.5e-7 with float
    // arithmetic.
    static INLINE V tanh(V x) {
        static constexpr float P[] = {1.0f, 0.13381025195121765f, 0.0034955875016748905f, 2.0609069906640798e-05f,
                                      1.3354646277718984e-08f};
        static constexpr float Q[] = {1.0f, 0.4671434164047241f, 0.025876980274915695f, 0.0003285633574705571f,
                                      7.776552024552075e-07f};
        x = clamp<float, W>(x, 9.0f);
        const V u = x * x;
        const V y = quotient<float, W>(x * polynomial<float, W>(u, P), polynomial<float, W>(u, Q));
        return clamp<float, W>(y, 1.0f);  // rounding may exceed the range
    }

    // sigmoid x = 1 / (1 + 2^(-x / ln 2)). This form keeps the relative precision of a gate that is nearly closed.
    static INLINE V sigmoid(V x) {
        typedef int32_t Bits __attribute__((vector_size(W * 4)));
        constexpr float magic = 0x1.8p23f;  // adding it rounds to an integer, which is then in the lowest bits
        static constexpr float power_of_two[] = {1.0f, 0.6931469440460205f, 0.24022120237350464f, 0.05550713092088699f,
                                                 0.009675540961325169f, 0.001327647129073739f};  // 8e-8 on |r| <= 1/2
        constexpr float minus_log2_e = -1.4426950408889634f;
        x = clamp<float, W>(x, 87.0f);
        const V shifted = x * minus_log2_e + magic;
        const V r = x * minus_log2_e - (shifted - magic);
        const V scale = (V)(((Bits)shifted << 23) + 0x3f800000);
        const V one = splat<float, W>(1.0f);
        return quotient<float, W>(one, one + polynomial<float, W>(r, power_of_two) * scale);
    }
};

// -- phases, always in double

// Returns theta modulo 2 pi, in [0, 2 pi]. The parts of 2 pi are so short that their products with n are exact.
template <int W>
INLINE Vec<double, W> wrap(Vec<double, W> theta) {
    constexpr double two_pi = 6.283185307179586, high = 0x1.921fb54400000p2, low = 0x1.0b46p-32, magic = 0x1.8p52;
    const Vec<double, W> n = (theta * (1 / two_pi) + magic) - magic;
    const Vec<double, W> rest = (theta - n * high) - n * low;
    return rest < 0.0 ? rest + two_pi : rest;
}

// Computes cosine and sine: theta = q pi / 2 + r with |r| <= pi / 4, their series in r, and their exchange and signs by
// q modulo 4. With fused multiply-add, the argument reduction is accurate for |theta| up to 1e9; beyond that, the
// rounding of theta itself dominates.
template <int W>
INLINE void cosine_sine(Vec<double, W> theta, Vec<double, W>& cosine, Vec<double, W>& sine) {
    typedef int64_t Bits __attribute__((vector_size(W * 8)));
    constexpr double two_over_pi = 0.6366197723675814, magic = 0x1.8p52;
    constexpr double half_pi_high = 0x1.921fb54400000p0, half_pi_low = 0x1.0b4611a626331p-34;
    static constexpr double sine_series[] = {
        1.0, -1.0 / 6, 1.0 / 120, -1.0 / 5040, 1.0 / 362880, -1.0 / 39916800, 1.0 / 6227020800.0,
        -1.0 / 1307674368000.0, 1.0 / 355687428096000.0};
    static constexpr double cosine_series[] = {
        1.0, -1.0 / 2, 1.0 / 24, -1.0 / 720, 1.0 / 40320, -1.0 / 3628800, 1.0 / 479001600.0, -1.0 / 87178291200.0,
        1.0 / 20922789888000.0, -1.0 / 6402373705728000.0};
    const Vec<double, W> shifted = theta * two_over_pi + magic;
    const Vec<double, W> quarters = shifted - magic;
    const Vec<double, W> r = (theta - quarters * half_pi_high) - quarters * half_pi_low;
    const Vec<double, W> s = r * polynomial<double, W>(r * r, sine_series);
    const Vec<double, W> c = polynomial<double, W>(r * r, cosine_series);
    const Bits q = (Bits)shifted;
    const Bits odd = (q & 1) != 0;
    const Vec<double, W> c_turned = odd ? s : c, s_turned = odd ? c : s;
    cosine = ((q + 1) & 2) != 0 ? -c_turned : c_turned;
    sine = (q & 2) != 0 ? -s_turned : s_turned;
}

// -- transposition of W x W numbers in registers: log2(W) perfect shuffles

template <class T, int W, std::size_t... I>
INLINE void shuffle_pair(Vec<T, W> a, Vec<T, W> b, Vec<T, W>& low, Vec<T, W>& high, std::index_sequence<I...>) {
    low = __builtin_shufflevector(a, b, (int(I) % 2 == 0 ? int(I) / 2 : W + int(I) / 2)...);
    high = __builtin_shufflevector(a, b, (int(I) % 2 == 0 ? W / 2 + int(I) / 2 : W + W / 2 + int(I) / 2)...);
}

template <class T, int W>
INLINE void transpose(Vec<T, W> (&rows)[W]) {
#pragma GCC unroll 8
    for (int stage = 1; stage < W; stage *= 2) {
        Vec<T, W> next[W];
#pragma GCC unroll 16
        for (int i = 0; i < W / 2; ++i)
            shuffle_pair<T, W>(rows[i], rows[i + W / 2], next[2 * i], next[2 * i + 1], std::make_index_sequence<W>{});
#pragma GCC unroll 16
        for (int i = 0; i < W; ++i) rows[i] = next[i];
    }
}

}  // namespace
