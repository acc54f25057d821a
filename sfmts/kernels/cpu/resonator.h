// Damped oscillators of given decay and drive, S_t = f_ste f_fre e^{-j omega dt} S_{t-1} + u, and their gradients.
//
// Vectors lie across the states d.  The last one of a row overlaps the one before rather than being shorter, and rows
// shorter than a vector get narrower ones: what is written twice is the same both times.  What goes on from step to
// step has a slot of its own for each lane, so that nothing is read right after only a part of it has been written.
#pragma once

#include "tiles.h"

// What one call works on.  `_Resonance` in resonator.py mirrors this struct field by field.  Arrays are contiguous; T
// is float or double (`is_double`).
struct Resonance {
    int64_t is_double, is_backward, threads;
    int64_t T, B, K, D;

    const void *f_ste, *f_fre, *u;  // (T, B, D), (T, B, K), (T, B, D); f_fre may be null: all ones
    const double *omega, *dt;       // (K, D), (T, B); dt may be null: all ones
    const void* state;              // (B, 2, K, D)
    void* S;                        // (T, B, 2, K, D), written by the forward and read by the backward

    const void* dS;
    void *df_ste, *df_fre, *du;  // df_fre may be null: not wanted
    double* domega;
    void* dstate;
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

// Some sequences side by side through all steps: their rows are neighbours in memory, and none waits for the one before.
template <class C>
class Oscillators {
    using T = typename C::T;
    using V = typename C::V;
    static constexpr int W = C::W;

    const Resonance& p;
    const Index b0, n;         // the first sequence, and how many
    const Index slots, plane;  // of a row of D numbers, and of K such rows
    Allocator take;
    T* const carry;                     // (n, 2, K, slots): S, or in the backward what a step hands to the one before
    T *const cosine, *const sine;       // (n, K, slots): of omega dt
    T *const sums, *const ones;         // (K, W) and (K,)
    T* const first_time;                // (slots,): 0 for a lane that repeats one of the vector before, else 1
    double *const omega, *const theta;  // (K, slots)
    double* const dt;                   // (n,): what cosine and sine are of

  public:
    Oscillators(const Resonance& resonance, Index first, Index count, void* memory)
        : p(resonance), b0(first), n(count), slots((p.D + W - 1) / W * W), plane(p.K * slots), take(memory),
          carry(take.template take<T>(n * 2 * plane)), cosine(take.template take<T>(n * plane)),
          sine(take.template take<T>(n * plane)), sums(take.template take<T>(p.K * W)),
          ones(take.template take<T>(p.K)), first_time(take.template take<T>(slots)),
          omega(take.template take<double>(plane)), theta(take.template take<double>(plane)),
          dt(take.template take<double>(n)) {}

    static Index bytes(const Resonance& p, Index n) { return Oscillators(p, 0, n, nullptr).take.used(); }
    static Index plane_of(const Resonance& p) { return Oscillators(p, 0, 0, nullptr).plane; }

    void forward() {
        prepare();
        const T* const state = static_cast<const T*>(p.state);
        each_part_of_states([&](Index offset, T* slot) { put(slot, get(state + offset)); });
        for (Index t = 0; t < p.T; ++t)
            for (Index i = 0; i < n; ++i) advance(t, i);
    }

    // domega (n, K, slots) receives each sequence's share.
    void backward(T* domega) {
        prepare();
        std::fill_n(carry, n * 2 * plane, T(0));
        std::fill_n(domega, n * plane, T(0));
        for (Index t = p.T - 1; t >= 0; --t)
            for (Index i = 0; i < n; ++i) go_back(t, i, domega + i * plane);
        T* const dstate = static_cast<T*>(p.dstate);
        each_part_of_states([&](Index offset, T* slot) { put(dstate + offset, get(slot)); });
    }

    // work(d, slot) for each vector of a row: the first state it covers, and where it stands among the slots
    template <class Work>
    static INLINE void each_vector(Index D, Work work) {
        for (Index slot = 0; slot < D; slot += W) work(std::min<Index>(slot, D - W), slot);
    }

  private:
    static INLINE V get(const T* from) { return load<T, W>(from); }
    static INLINE void put(T* to, V v) { store<T, W>(to, v); }

    // What belongs to a step of a sequence, `size` numbers
    static INLINE const T* row(const void* array, Index index, Index size) {
        return static_cast<const T*>(array) + index * size;
    }
    static INLINE T* row(void* array, Index index, Index size) { return static_cast<T*>(array) + index * size; }

    // work(offset, slots of carry) for each vector of the (B, 2, K, D) states of these sequences
    template <class Work>
    void each_part_of_states(Work work) {
        for (Index r = 0; r < n * 2 * p.K; ++r)
            each_vector(p.D, [&](Index d, Index slot) {
                work((b0 * 2 * p.K + r) * p.D + d, carry + r * slots + slot);
            });
    }

    void prepare() {
        std::fill_n(ones, p.K, T(1));
        each_vector(p.D, [&](Index d, Index slot) {
            for (int lane = 0; lane < W; ++lane) first_time[slot + lane] = d + lane < slot ? T(0) : T(1);
            for (Index k = 0; k < p.K; ++k)
                std::memcpy(omega + k * slots + slot, p.omega + k * p.D + d, W * sizeof(double));
        });
        std::fill_n(dt, n, std::nan(""));  // unlike any
        if (!p.dt) turn_by(1.0, 0);
    }

    // Cosine and sine of sequence i; most series are regular, so that they stay.
    void turn_by(double step, Index i) {
        if (step == dt[i]) return;
        dt[i] = step;
        for (Index j = 0; j < plane; ++j) theta[j] = omega[j] * step;
        turn<C>(theta, plane, cosine + i * plane, sine + i * plane);
    }

    // Where cosine and sine of a step are
    INLINE Index turned(Index index, Index i) {
        if (!p.dt) return 0;  // the same for all
        turn_by(p.dt[index], i);
        return i * plane;
    }

    INLINE void advance(Index t, Index i) {
        const Index index = t * p.B + b0 + i, K = p.K, turn = turned(index, i);
        const T *const f_ste = row(p.f_ste, index, p.D), *const u = row(p.u, index, p.D);
        const T* const f_fre = p.f_fre ? row(p.f_fre, index, K) : ones;
        T* const S = row(p.S, index, 2 * K * p.D);
        T *const re = carry + 2 * i * plane, *const im = re + plane;
        each_vector(p.D, [&](Index d, Index slot) {
            const V f = get(f_ste + d), drive = get(u + d);
            for (Index k = 0, j = slot; k < K; ++k, j += slots) {
                const V decay = f * f_fre[k], c = get(cosine + turn + j), s = get(sine + turn + j);
                const V x = get(re + j), y = get(im + j);
                const V real = decay * (c * x + s * y) + drive, imaginary = decay * (c * y - s * x);
                put(re + j, real), put(S + k * p.D + d, real);
                put(im + j, imaginary), put(S + (K + k) * p.D + d, imaginary);
            }
        });
    }

    INLINE void go_back(Index t, Index i, T* domega) {
        const Index index = t * p.B + b0 + i, K = p.K, turn = turned(index, i), state = 2 * K * p.D;
        const T* const f_ste = row(p.f_ste, index, p.D);
        const T* const f_fre = p.f_fre ? row(p.f_fre, index, K) : ones;
        const T* const before = t ? row(static_cast<const void*>(p.S), index - p.B, state) : row(p.state, b0 + i, state);
        const T* const dS = row(p.dS, index, state);
        const T step = p.dt ? T(p.dt[index]) : T(1);
        T *const df_ste = row(p.df_ste, index, p.D), *const du = row(p.du, index, p.D);
        T *const re = carry + 2 * i * plane, *const im = re + plane;
        std::fill_n(sums, K * W, T(0));
        each_vector(p.D, [&](Index d, Index slot) {
            const V f = get(f_ste + d), f_once = f * get(first_time + slot);
            V df{}, drive{};
            for (Index k = 0, j = slot; k < K; ++k, j += slots) {
                const V c = get(cosine + turn + j), s = get(sine + turn + j);
                const V x = get(before + k * p.D + d), y = get(before + (K + k) * p.D + d);
                const V dx = get(dS + k * p.D + d) + get(re + j), dy = get(dS + (K + k) * p.D + d) + get(im + j);
                const V real = c * x + s * y, imaginary = c * y - s * x;  // of what the forward multiplies by the decay
                const V ddecay = dx * real + dy * imaginary, decay = f * f_fre[k];
                df += ddecay * f_fre[k];
                drive += dx;
                put(sums + k * W, get(sums + k * W) + ddecay * f_once);
                put(domega + j, get(domega + j) + step * (decay * (dx * imaginary - dy * real)));
                put(re + j, decay * (c * dx - s * dy));
                put(im + j, decay * (c * dy + s * dx));
            }
            put(df_ste + d, df);
            put(du + d, drive);
        });
        if (!p.df_fre) return;
        for (Index k = 0; k < K; ++k) row(p.df_fre, index, K)[k] = sum_of_lanes<T, W>(get(sums + k * W));
    }
};

// So many sequences are taken together that what goes on from step to step stays in the first cache.
template <class C>
void resonate_in(const Resonance& p) {
    using T = typename C::T;
    constexpr Index cached_bytes = 1 << 14;
    const Index threads = std::max<Index>(p.threads, 1), plane = Oscillators<C>::plane_of(p);
    const Index most = std::max<Index>(cached_bytes / (4 * plane * Index(sizeof(T))), 1);
    const Index n = std::min(most, (p.B + threads - 1) / threads), bytes = Oscillators<C>::bytes(p, n);
    const Index items = (p.B + n - 1) / n;
    std::vector<char> memory(items * bytes + cache_line);
    char* const aligned = memory.data() + cache_line - reinterpret_cast<uintptr_t>(memory.data()) % cache_line;
    std::vector<T> domega(p.is_backward ? p.B * plane : 0);
    in_parallel(items, threads, [&](Index item, Index) {
        const Index b0 = item * n;
        Oscillators<C> oscillators(p, b0, std::min(n, p.B - b0), aligned + item * bytes);
        p.is_backward ? oscillators.backward(domega.data() + b0 * plane) : oscillators.forward();
    });
    if (!p.is_backward) return;
    const Index slots = plane / p.K;  // summed in the order of the batch, whatever threads there were
    for (Index k = 0; k < p.K; ++k)
        Oscillators<C>::each_vector(p.D, [&](Index d, Index slot) {
            for (int lane = 0; lane < C::W; ++lane) {
                double sum = 0;
                for (Index b = 0; b < p.B; ++b) sum += domega[b * plane + k * slots + slot + lane];
                p.domega[k * p.D + d + lane] = sum;
            }
        });
}

// The widest vectors that fit a row of D numbers.
template <class T, int W = SFM_VECTOR_BYTES / sizeof(T)>
void resonate_as(const Resonance& p) {
    if constexpr (W > 1)
        if (p.D < W) return resonate_as<T, W / 2>(p);
    resonate_in<Lanes<T, W>>(p);
}

void resonate(const Resonance& p) { p.is_double ? resonate_as<double>(p) : resonate_as<float>(p); }

}  // namespace
