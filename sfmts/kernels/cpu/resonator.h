// Damped oscillators and their gradients, with given decay and drive, or as a layer with gates and a read-out:
//
//     S_t = f_ste f_fre e^{-j omega dt} S_{t-1} + u
//     layer:  f, g, o = sigmoid(a),  i = tanh(a),  f_ste = f,  u = g i
//             c = sum_k alpha Re S + beta Im S + b_c,  h = o tanh(c)
//
// Backward, with G = (dx, dy) the gradient of S_t and H = e^{-j omega dt} S_{t-1} = (real, imaginary):
//
//     decay = f_ste f_fre,   d decay = dx real + dy imaginary,   du = sum_k dx
//     domega += dt decay (dx imaginary - dy real),   gradient of S_{t-1} = decay e^{j omega dt} G
//     layer:  dc = dh o (1 - tanh(c)^2),   G += dc (alpha, beta),   dalpha += dc Re S,   dbeta += dc Im S
//
// Vectors run across the states d. The last vector of a row overlaps the previous one instead of being shorter, and
// rows shorter than a vector use narrower ones. Overlapping lanes are written twice with the same value. State that
// passes from step to step has its own slot for each lane, because reading a vector right after writing a part of it
// stalls. Each step prefetches the memory of the next one, which halves the time: its distance is too large for the
// processor to predict.
#pragma once

#include "tiles.h"

// The arguments of one call. `_Resonance` in _resonator/native.py mirrors this struct field by field. Arrays are
// contiguous, of float or double (`is_double`). Pointers that a kind of call does not use are null.
struct Resonance {
    int64_t is_double, is_backward, is_layer, has_frequency_gate, threads;
    int64_t T, B, K, D;

    const double *omega, *dt;  // (K, D), (T, B); a null dt is all ones
    const void* state;         // (B, 2, K, D)
    void* S;                   // (T, B, 2, K, D), written by the forward pass, read by the backward pass
    const void* dS;            // in a layer, null is all zeros
    void* dstate;
    double* dparameters;  // (K, D) of omega; of a layer (3 K + 1, D) of omega, alpha, beta, b_c

    const void *f_ste, *f_fre, *u;  // given decay and drive: (T, B, D), (T, B, K) with a frequency gate, (T, B, D)
    void *df_ste, *df_fre, *du;

    const void *a, *alpha, *beta, *b_c, *mask;  // layer: (T, B, 4 D [+ K]), (K, D) twice, (D,), (B, D) or null
    void* h;                                    // (T, B, D)
    const void* dh;                             // null is all zeros
    void* da;
};

namespace {

template <class Number, int Width>
struct Lanes {
    using T = Number;
    using V = Vec<T, Width>;
    static constexpr int W = Width;
};

template <class T, int W>
INLINE T sum_of_lanes(Vec<T, W> v) {
    if constexpr (W == 1) {
        return v[0];
    } else {
        Vec<T, W / 2> halves[2];
        std::memcpy(halves, &v, sizeof v);
        return sum_of_lanes<T, W / 2>(halves[0] + halves[1]);
    }
}

// Runs some sequences through all steps together: their rows are adjacent in memory, and they are independent.
template <class C, bool is_layer>
class Oscillators {
    using T = typename C::T;
    using V = typename C::V;
    using Curve = Activation<T, C::W>;
    static constexpr int W = C::W;

    const Resonance& p;
    const Index b0, n;         // first sequence, number of sequences
    const Index slots, plane;  // numbers of a padded row of D, and of K such rows
    Allocator take;
    T* const carry;                     // (n, 2, K, slots): S; in the backward pass, the gradient of S_{t-1}
    T *const cosine, *const sine;       // (n, K, slots): of omega dt
    T *const sums, *const gates;        // (K, W): terms of df_fre; f_fre of a step
    T* const first_time;                // (slots,): 0 for a lane that repeats one of the previous vector, otherwise 1
    double *const omega, *const theta;  // (K, slots)
    double* const dt;                   // (n,): the durations for which cosine and sine are computed

    struct Gates {
        V f, g, i, o;
    };

  public:
    Oscillators(const Resonance& resonance, Index first, Index count, void* memory)
        : p(resonance), b0(first), n(count), slots(whole_vectors(p.D)), plane(p.K * slots), take(memory),
          carry(take.template take<T>(n * 2 * plane)), cosine(take.template take<T>(n * plane)),
          sine(take.template take<T>(n * plane)), sums(take.template take<T>(p.K * W)),
          gates(take.template take<T>(whole_vectors(p.K))), first_time(take.template take<T>(slots)),
          omega(take.template take<double>(plane)), theta(take.template take<double>(plane)),
          dt(take.template take<double>(n)) {}

    static Index bytes(const Resonance& p, Index n) { return Oscillators(p, 0, n, nullptr).take.used(); }

    static Index whole_vectors(Index numbers) { return (numbers + W - 1) / W * W; }
    static Index gradient_rows(const Resonance& p) { return is_layer ? 3 * p.K + 1 : p.K; }  // as in dparameters

    void forward() {
        prepare();
        const T* const state = static_cast<const T*>(p.state);
        each_part_of_states([&](Index offset, T* slot) { put(slot, get(state + offset)); });
        for (Index t = 0; t < p.T; ++t)
            for (Index i = 0; i < n; ++i) advance(t, i);
    }

    // Writes the gradients of parameters for each sequence to dparameters (n, gradient_rows, slots).
    void backward(T* dparameters) {
        prepare();
        const Index share = gradient_rows(p) * slots;
        std::fill_n(carry, n * 2 * plane, T(0));
        std::fill_n(dparameters, n * share, T(0));
        for (Index t = p.T - 1; t >= 0; --t)
            for (Index i = 0; i < n; ++i) go_back(t, i, dparameters + i * share);
        T* const dstate = static_cast<T*>(p.dstate);
        each_part_of_states([&](Index offset, T* slot) { put(dstate + offset, get(slot)); });
    }

    // Calls work(d, slot) for each vector of a row, with its first state and its first slot.
    template <class Work>
    static INLINE void each_vector(Index D, Work work) {
        for (Index slot = 0; slot < D; slot += W) work(std::min<Index>(slot, D - W), slot);
    }

  private:
    static INLINE V get(const T* from) { return load<T, W>(from); }
    static INLINE void put(T* to, V v) { store<T, W>(to, v); }

    // Returns row `index` of an array with rows of `size` numbers; null for a null array.
    static INLINE const T* row(const void* array, Index index, Index size) {
        return array ? static_cast<const T*>(array) + index * size : nullptr;
    }
    static INLINE T* row(void* array, Index index, Index size) {
        return array ? static_cast<T*>(array) + index * size : nullptr;
    }

    // Returns the numbers in a row of a.
    INLINE Index width() const { return 4 * p.D + (p.has_frequency_gate ? p.K : 0); }

    // Calls work(offset, slots of carry) for each vector of the (B, 2, K, D) states of these sequences.
    template <class Work>
    void each_part_of_states(Work work) {
        for (Index r = 0; r < n * 2 * p.K; ++r)
            each_vector(p.D, [&](Index d, Index slot) {
                work((b0 * 2 * p.K + r) * p.D + d, carry + r * slots + slot);
            });
    }

    void prepare() {
        std::fill_n(gates, whole_vectors(p.K), T(1));
        each_vector(p.D, [&](Index d, Index slot) {
            for (int lane = 0; lane < W; ++lane) first_time[slot + lane] = d + lane < slot ? T(0) : T(1);
            for (Index k = 0; k < p.K; ++k)
                std::memcpy(omega + k * slots + slot, p.omega + k * p.D + d, W * sizeof(double));
        });
        std::fill_n(dt, n, std::nan(""));  // equal to no duration
        if (!p.dt) turn_by(1.0, 0);
    }

    // Computes cosine and sine for sequence i, unless the duration is the same as before, as in regular series.
    void turn_by(double step, Index i) {
        if (step == dt[i]) return;
        dt[i] = step;
        for (Index j = 0; j < plane; ++j) theta[j] = omega[j] * step;
        turn<C>(theta, plane, cosine + i * plane, sine + i * plane);
    }

    // Returns the offset of cosine and sine of a step.
    INLINE Index turned(Index index, Index i) {
        if (!p.dt) return 0;  // all steps share them
        turn_by(p.dt[index], i);
        return i * plane;
    }

    // Returns f_fre of a step: given, computed from pre-activations, or all ones.
    INLINE const T* frequency_gates(Index index) {
        if (!p.has_frequency_gate) return gates;
        if constexpr (!is_layer) return row(p.f_fre, index, p.K);
        std::memcpy(gates, row(p.a, index, width()) + 4 * p.D, p.K * sizeof(T));
        for (Index k = 0; k < p.K; k += W) put(gates + k, Curve::sigmoid(get(gates + k)));
        return gates;
    }

    // Returns f, g, i and o of a step, and prefetches those of the next one, `ahead` numbers away.
    INLINE Gates gates_of_states(const T* a, Index ahead) const {
        for (Index gate = 0; gate < 4; ++gate) __builtin_prefetch(a + ahead + gate * p.D);
        return {Curve::sigmoid(get(a)), Curve::sigmoid(get(a + p.D)), Curve::tanh(get(a + 2 * p.D)),
                Curve::sigmoid(get(a + 3 * p.D))};
    }

    INLINE V masked(V v, Index i, Index d) const { return p.mask ? v * get(row(p.mask, b0 + i, p.D) + d) : v; }

    // The terms of one frequency in c
    static INLINE V read(V re, V im, const T* alpha, const T* beta) { return re * get(alpha) + im * get(beta); }

    // One step of sequence i, forwards
    INLINE void advance(Index t, Index i) {
        const Index index = t * p.B + b0 + i, K = p.K, D = p.D, turn = turned(index, i);
        const T *const f_fre = frequency_gates(index), *const a = row(p.a, index, width());
        const T *const f_ste = row(p.f_ste, index, D), *const u = row(p.u, index, D);
        const T *const alpha = row(p.alpha, 0, D), *const beta = row(p.beta, 0, D);
        const Index ahead = t + 1 < p.T ? p.B : 0, state = 2 * K * D;
        T *const S = row(p.S, index, state), *const S_ahead = S + ahead * state;
        T *const re = carry + 2 * i * plane, *const im = re + plane;
        each_vector(D, [&](Index d, Index slot) {
            Gates gate;
            V f, drive, c;
            if constexpr (is_layer) {
                gate = gates_of_states(a + d, ahead * width()), f = gate.f, drive = gate.g * gate.i;
                c = get(row(p.b_c, 0, D) + d);
            } else {
                f = get(f_ste + d), drive = get(u + d);
            }
            for (Index k = 0, j = slot; k < K; ++k, j += slots) {
                const V decay = f * f_fre[k], cos = get(cosine + turn + j), sin = get(sine + turn + j);
                const V x = get(re + j), y = get(im + j);
                const V real = decay * (cos * x + sin * y) + drive, imaginary = decay * (cos * y - sin * x);
                put(re + j, real), put(S + k * D + d, real);
                put(im + j, imaginary), put(S + (K + k) * D + d, imaginary);
                __builtin_prefetch(S_ahead + k * D + d, 1), __builtin_prefetch(S_ahead + (K + k) * D + d, 1);
                if constexpr (is_layer) c += read(real, imaginary, alpha + k * D + d, beta + k * D + d);
            }
            if constexpr (is_layer) put(row(p.h, index, D) + d, masked(gate.o * Curve::tanh(c), i, d));
        });
    }

    // From h to c: returns dc = dh o (1 - y^2) with y = tanh(c), writes da_o = dh y o (1 - o), and adds to the
    // gradients of alpha, beta and b_c.
    INLINE V go_back_to_c(Index index, Index ahead, Index i, Index d, Index slot, V o, T* dparameters) const {
        const Index K = p.K, D = p.D;
        const T* const S = row(p.S, index, 2 * K * D) + d;
        const T *const alpha = row(p.alpha, 0, D) + d, *const beta = row(p.beta, 0, D) + d;
        __builtin_prefetch(row(p.dh, index - ahead, D) + d);
        V c = get(row(p.b_c, 0, D) + d);
        for (Index k = 0; k < K; ++k) c += read(get(S + k * D), get(S + (K + k) * D), alpha + k * D, beta + k * D);
        const V y = Curve::tanh(c), dh = masked(get(row(p.dh, index, D) + d), i, d), dc = dh * o * (1 - y * y);
        put(row(p.da, index, width()) + 3 * D + d, dh * y * o * (1 - o));
        T *const dalpha = dparameters + plane + slot, *const dbeta = dalpha + plane, *const db_c = dbeta + plane;
        for (Index k = 0; k < K; ++k) {
            put(dalpha + k * slots, get(dalpha + k * slots) + dc * get(S + k * D));
            put(dbeta + k * slots, get(dbeta + k * slots) + dc * get(S + (K + k) * D));
        }
        put(db_c, get(db_c) + dc);
        return dc;
    }

    // One step of sequence i, backwards
    INLINE void go_back(Index t, Index i, T* dparameters) {
        const Index index = t * p.B + b0 + i, K = p.K, D = p.D, turn = turned(index, i), state = 2 * K * D;
        const T *const f_fre = frequency_gates(index), *const a = row(p.a, index, width());
        const T* const before = t ? row(p.S, index - p.B, state) : row(p.state, b0 + i, state);
        const T* const dS = p.dS ? row(p.dS, index, state) : nullptr;
        const T *const alpha = row(p.alpha, 0, D), *const beta = row(p.beta, 0, D);
        const Index ahead = t > 1 ? p.B : 0;  // step t - 1 reads the S of step t - 2
        const T* const before_ahead = before - ahead * state;
        const T step = p.dt ? T(p.dt[index]) : T(1);
        T *const da = row(p.da, index, width()), *const df_ste = row(p.df_ste, index, D);
        T *const du = row(p.du, index, D), *const domega = dparameters;
        T *const re = carry + 2 * i * plane, *const im = re + plane;
        std::fill_n(sums, K * W, T(0));
        each_vector(D, [&](Index d, Index slot) {
            Gates gate;
            V f, dc{};
            if constexpr (is_layer) {
                gate = gates_of_states(a + d, -ahead * width()), f = gate.f;
                if (p.dh) dc = go_back_to_c(index, ahead, i, d, slot, gate.o, dparameters);
                else put(da + 3 * D + d, dc);
            } else {
                f = get(row(p.f_ste, index, D) + d);
            }
            const V f_once = f * get(first_time + slot);
            V df{}, drive{};
            for (Index k = 0, j = slot; k < K; ++k, j += slots) {
                const V cos = get(cosine + turn + j), sin = get(sine + turn + j);
                const V x = get(before + k * D + d), y = get(before + (K + k) * D + d);
                __builtin_prefetch(before_ahead + k * D + d), __builtin_prefetch(before_ahead + (K + k) * D + d);
                V dx = get(re + j), dy = get(im + j);
                if constexpr (is_layer) dx += dc * get(alpha + k * D + d), dy += dc * get(beta + k * D + d);
                if (!is_layer || dS) dx += get(dS + k * D + d), dy += get(dS + (K + k) * D + d);
                const V real = cos * x + sin * y, imaginary = cos * y - sin * x;  // H
                const V ddecay = dx * real + dy * imaginary, decay = f * f_fre[k];
                df += ddecay * f_fre[k];
                drive += dx;
                put(sums + k * W, get(sums + k * W) + ddecay * f_once);
                put(domega + j, get(domega + j) + step * (decay * (dx * imaginary - dy * real)));
                put(re + j, decay * (cos * dx - sin * dy));
                put(im + j, decay * (cos * dy + sin * dx));
            }
            if constexpr (is_layer) {
                put(da + d, df * gate.f * (1 - gate.f));
                put(da + D + d, drive * gate.i * gate.g * (1 - gate.g));
                put(da + 2 * D + d, drive * gate.g * (1 - gate.i * gate.i));
            } else {
                put(df_ste + d, df), put(du + d, drive);
            }
        });
        if (!p.has_frequency_gate) return;
        T* const df_fre = is_layer ? da + 4 * D : row(p.df_fre, index, K);
        for (Index k = 0; k < K; ++k) {
            const T df = sum_of_lanes<T, W>(get(sums + k * W));
            df_fre[k] = is_layer ? df * f_fre[k] * (1 - f_fre[k]) : df;
        }
    }
};

// Sums the gradients of all sequences (B, rows, slots) in the order of the batch, independently of the threads.
template <class C>
void sum_over_batch(const std::vector<typename C::T>& shares, Index B, Index rows, Index slots, Index D, double* sum) {
    const Index size = rows * slots;
    std::vector<double> total(size, 0.0);
    for (Index b = 0; b < B; ++b)
        for (Index j = 0; j < size; ++j) total[j] += shares[b * size + j];
    for (Index row = 0; row < rows; ++row)
        for (Index slot = 0; slot < D; slot += C::W)
            std::memcpy(sum + row * D + std::min<Index>(slot, D - C::W), &total[row * slots + slot],
                        C::W * sizeof(double));
}

// Takes as many sequences together as keep their state in the first-level cache.
template <class C, bool is_layer>
void resonate_in(const Resonance& p) {
    using T = typename C::T;
    using Sequences = Oscillators<C, is_layer>;
    constexpr Index cached_bytes = 1 << 14;
    const Index slots = Sequences::whole_vectors(p.D), share = Sequences::gradient_rows(p) * slots;
    const Index threads = std::max<Index>(p.threads, 1);
    const Index most = std::max<Index>(cached_bytes / (4 * p.K * slots * Index(sizeof(T))), 1);
    const Index n = std::min(most, (p.B + threads - 1) / threads), bytes = Sequences::bytes(p, n);
    const Index items = (p.B + n - 1) / n;
    std::vector<char> memory(items * bytes + cache_line);
    char* const aligned = memory.data() + cache_line - reinterpret_cast<uintptr_t>(memory.data()) % cache_line;
    std::vector<T> dparameters(p.is_backward ? p.B * share : 0);
    in_parallel(items, threads, [&](Index item, Index) {
        const Index b0 = item * n;
        Sequences sequences(p, b0, std::min(n, p.B - b0), aligned + item * bytes);
        p.is_backward ? sequences.backward(dparameters.data() + b0 * share) : sequences.forward();
    });
    if (p.is_backward) sum_over_batch<C>(dparameters, p.B, share / slots, slots, p.D, p.dparameters);
}

// Uses the widest vectors that fit a row of D numbers.
template <class T, int W = SFM_VECTOR_BYTES / sizeof(T)>
void resonate_as(const Resonance& p) {
    if constexpr (W > 1)
        if (p.D < W) return resonate_as<T, W / 2>(p);
    p.is_layer ? resonate_in<Lanes<T, W>, true>(p) : resonate_in<Lanes<T, W>, false>(p);
}

void resonate(const Resonance& p) { p.is_double ? resonate_as<double>(p) : resonate_as<float>(p); }

}  // namespace
