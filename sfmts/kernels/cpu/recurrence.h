// The SFM recurrence on one tile of sequences, forward and backward, and the loop over tiles.
//
// Letters as in reference.py.  Arrays of a tile are [feature][lane]; [k][d][lane] for the state.  What the backward needs
// of a step is kept in the history: gates, o and y, cos and sin of theta.  Of S only a checkpoint every few steps is
// kept; the backward scans the states between two of them again, which costs less than moving them through memory.
#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include "matrix.h"
#include "problem.h"

namespace {

constexpr Index cache_line = 64;

// Hands out pieces of one block of memory, or, without a block, counts what is needed.
class Allocator {
  public:
    explicit Allocator(void* block) : block_(static_cast<char*>(block)) {}

    template <class T>
    T* take(Index count) {
        const Index bytes = (count * Index(sizeof(T)) + cache_line - 1) / cache_line * cache_line;
        used_ += bytes;
        return block_ ? reinterpret_cast<T*>(block_ + used_ - bytes) : nullptr;
    }
    Index used() const { return used_; }

  private:
    char* block_;
    Index used_ = 0;
};

// Rows of the pre-activations as a tile holds them, features padded to whole vectors in a solo tile.
template <class C>
struct Rows {
    Index N, D, K, M;            // features
    Index Dp, Kp, Mp;            // the same, padded
    Index fre, g, i, omega, gates;  // first row of each gate after ste; rows of all gates but o
    Index all;                   // rows with o (K blocks of M)

    explicit Rows(const Problem& p) : N(p.N), D(p.D), K(p.K), M(p.M) {
        Dp = C::padded(D), Kp = C::padded(K), Mp = C::padded(M);
        fre = Dp, g = fre + Kp, i = g + Dp, omega = i + Dp;
        gates = omega + (p.adaptive ? Kp : 0);
        all = gates + K * Mp;
    }

    Index state() const { return 2 * K * Dp * C::L; }  // numbers in S: real parts, then imaginary parts

    // The row of V, W and b that stands in a padded row, or -1.
    Index source(Index row, bool adaptive) const {
        const Index starts[] = {0, fre, g, i, omega}, sizes[] = {D, K, D, D, adaptive ? K : 0};
        Index before = 0;
        for (int block = 0; block < 5; ++block) {
            const Index inside = row - starts[block];
            if (inside >= 0 && inside < C::padded(sizes[block])) return inside < sizes[block] ? before + inside : -1;
            before += sizes[block];
        }
        const Index k = (row - gates) / Mp, m = (row - gates) % Mp;
        return m < M ? before + k * M + m : -1;
    }
};

// The history of one step.
template <class C>
struct History {
    using T = typename C::T;
    T *gates, *o, *y, *cosine, *sine;

    static Index size(const Rows<C>& r) {
        const Index count = (r.gates + 2 * r.K * r.Mp + 2 * r.Kp) * C::L;
        return (count + C::W - 1) / C::W * C::W;
    }
    History(T* base, const Rows<C>& r) {
        gates = base, o = gates + r.gates * C::L, y = o + r.K * r.Mp * C::L;
        cosine = y + r.K * r.Mp * C::L, sine = cosine + r.Kp * C::L;
    }
};

// -- between packed rows and tiles

// Calls f(first feature) for blocks of W features; the last block overlaps the one before rather than being shorter.
template <int W, class F>
INLINE void for_each_block(Index features, F f) {
    if (features < W) return;
    for (Index first = 0; first + W < features; first += W) f(first);
    f(features - W);
}

// Rows of n sequences, each of `features` numbers, that begin at `rows`, into tile[feature][lane]; absent lanes get 0.
template <class C>
void gather(const typename C::T* rows, Index features, Index n, const typename C::T* zeros, typename C::T* tile) {
    using T = typename C::T;
    constexpr int W = C::W, L = C::L;
    if (C::solo) {
        std::memcpy(tile, rows, features * sizeof(T));
        return;
    }
    for (int lane = 0; lane < L; lane += W) {
        for_each_block<W>(features, [&](Index f) {
            typename C::V block[W];
#pragma GCC unroll 16
            for (int i = 0; i < W; ++i) block[i] = C::load(lane + i < n ? rows + (lane + i) * features + f : zeros);
            transpose<T, W>(block);
#pragma GCC unroll 16
            for (int i = 0; i < W; ++i) C::store(tile + (f + i) * L + lane, block[i]);
        });
        if (features < W)
            for (Index f = 0; f < features; ++f)
                for (int i = lane; i < lane + W; ++i) tile[f * L + i] = i < n ? rows[i * features + f] : T(0);
    }
}

// The inverse: lanes of tile[feature][lane] to rows `stride` apart; only the first n lanes are written.
template <class C>
void scatter(const typename C::T* tile, Index features, Index n, typename C::T* rows, Index stride) {
    using T = typename C::T;
    constexpr int W = C::W, L = C::L;
    if (C::solo) {
        std::memcpy(rows, tile, features * sizeof(T));
        return;
    }
    for (int lane = 0; lane < std::min<Index>(L, n); lane += W) {
        const int count = std::min<Index>(W, n - lane);
        for_each_block<W>(features, [&](Index f) {
            typename C::V block[W];
#pragma GCC unroll 16
            for (int i = 0; i < W; ++i) block[i] = C::load(tile + (f + i) * L + lane);
            transpose<T, W>(block);
            for (int i = 0; i < count; ++i) C::store(rows + (lane + i) * stride + f, block[i]);
        });
        if (features < W)
            for (Index f = 0; f < features; ++f)
                for (int i = lane; i < lane + count; ++i) rows[i * stride + f] = tile[f * L + i];
    }
}

// (B, D, K) arrays of the caller, for the lanes from `begin` to `end` of the tile whose first sequence is `b0`.
template <class C>
void read_state(const void* source, const Rows<C>& r, Index b0, Index begin, Index end, typename C::T* tile) {
    using T = typename C::T;
    for (Index l = begin; l < end; ++l)
        for (Index d = 0; d < r.D; ++d)
            for (Index k = 0; k < r.K; ++k)
                tile[(k * r.Dp + d) * C::L + l] = static_cast<const T*>(source)[((b0 + l) * r.D + d) * r.K + k];
}

template <class C>
void write_state(const typename C::T* tile, const Rows<C>& r, Index b0, Index begin, Index end, void* target) {
    using T = typename C::T;
    for (Index l = begin; l < end; ++l)
        for (Index d = 0; d < r.D; ++d)
            for (Index k = 0; k < r.K; ++k)
                static_cast<T*>(target)[((b0 + l) * r.D + d) * r.K + k] = tile[(k * r.Dp + d) * C::L + l];
}

// -- tiles

struct TilePlan {
    Index b0, lanes, steps;      // first sequence, sequences, steps of the longest
    Index history, checkpoints;  // where they begin in the history
};

template <class C>
struct Tiles {
    using T = typename C::T;
    std::vector<TilePlan> tiles;
    std::vector<Index> row_start;  // first packed row of each step
    Index history = 0;

    explicit Tiles(const Problem& p) : row_start(p.T + 1, 0) {
        const Rows<C> r(p);
        for (Index t = 0; t < p.T; ++t) row_start[t + 1] = row_start[t] + p.batch_sizes[t];
        for (Index b0 = 0; b0 < p.B; b0 += C::L) {
            const Index steps =
                std::partition_point(p.batch_sizes, p.batch_sizes + p.T, [&](Index n) { return n > b0; }) -
                p.batch_sizes;
            const Index checkpoints = history + steps * History<C>::size(r);
            tiles.push_back({b0, std::min<Index>(C::L, p.B - b0), steps, history, checkpoints});
            if (p.keep) history = checkpoints + (steps + C::chunk - 1) / C::chunk * r.state();
        }
    }
};

// Runs work(item, thread) for all items on up to `threads` threads, one of them the caller's.
template <class Work>
void in_parallel(Index items, Index threads, Work work) {
    const auto run = [](void* context, int64_t item, int64_t thread) {
        const FlushDenormals flush;
        (*static_cast<Work*>(context))(item, thread);
    };
    share_work(items, threads, run, &work);
}

// -- phases

template <class C>
constexpr int wide_lanes = SFM_VECTOR_BYTES / 8 < C::W ? SFM_VECTOR_BYTES / 8 : C::W;

// theta (features x lanes, flat, a multiple of the vector) to cosine and sine in T
template <class C>
void turn(const double* theta, Index count, typename C::T* cosine, typename C::T* sine) {
    constexpr int W = wide_lanes<C>;
    for (Index j = 0; j < count; j += W) {
        Vec<double, W> c, s;
        cosine_sine<W>(load<double, W>(theta + j), c, s);
        store<typename C::T, W>(cosine + j, __builtin_convertvector(c, Vec<typename C::T, W>));
        store<typename C::T, W>(sine + j, __builtin_convertvector(s, Vec<typename C::T, W>));
    }
}

// 2 pi sigmoid(a), Eq. 16
template <class C>
void angular_frequencies(const typename C::T* a, Index count, double* omega) {
    constexpr int W = wide_lanes<C>;
    for (Index j = 0; j < count; j += W) {
        const auto wide = __builtin_convertvector(load<typename C::T, W>(a + j), Vec<double, W>);
        store<double, W>(omega + j, 6.283185307179586 * Activation<double, W>::sigmoid(wide));
    }
}

// -- what forward and backward share

// What belongs to frequency k, for the vector v of lanes.
template <class C>
INLINE typename C::V across(const typename C::T* values, Index k, int v) {
    return C::solo ? C::splat(values[k]) : C::load(values + k * C::L + v * C::W);
}

template <class C>
INLINE void multiply(typename C::T* values, const typename C::T* factors, Index count) {
    for (Index j = 0; j < count; j += C::W) C::store(values + j, C::load(values + j) * C::load(factors + j));
}

// S to S_next (Eqs. 1-3 and 8) at frequency k; each(j, v, re, im) sees the new state at offset j of the plane.
template <class C, class Each>
INLINE void advance(const Rows<C>& r, Index k, const History<C>& h, const typename C::T* p, const typename C::T* S,
                    typename C::T* S_next, Each each) {
    using V = typename C::V;
    constexpr int W = C::W, NV = C::NV;
    const Index plane = r.Dp * C::L, re = k * plane, im = (r.K + k) * plane;
    V f_fre[NV], c[NV], s[NV];
    for (int v = 0; v < NV; ++v) {
        f_fre[v] = across<C>(h.gates + r.fre * C::L, k, v);
        c[v] = across<C>(h.cosine, k, v), s[v] = across<C>(h.sine, k, v);
    }
    for (Index d = 0; d < plane; d += W * NV)
#pragma GCC unroll 2
        for (int v = 0; v < NV; ++v) {
            const Index j = d + v * W;
            const V f = C::load(h.gates + j) * f_fre[v], u = C::load(p + j);
            const V real = f * C::load(S + re + j) + u * c[v], imaginary = f * C::load(S + im + j) + u * s[v];
            C::store(S_next + re + j, real);
            C::store(S_next + im + j, imaginary);
            each(j, v, real, imaginary);
        }
}

// The input to the state, p = g i
template <class C>
INLINE void drive(const Rows<C>& r, const History<C>& h, typename C::T* p) {
    for (Index j = 0; j < r.Dp * C::L; j += C::W)
        C::store(p + j, C::load(h.gates + r.g * C::L + j) * C::load(h.gates + r.i * C::L + j));
}

// A (Eq. 4), with the epsilon that keeps its gradient finite, and 1 / A
template <class C>
INLINE Root<typename C::T, C::W> amplitude(typename C::V re, typename C::V im) {
    constexpr auto epsilon = sizeof(typename C::T) == 8 ? 1e-24 : 1e-12;
    return Root<typename C::T, C::W>(re * re + (im * im + typename C::T(epsilon)));
}

// -- forward

template <class C>
struct Forward {
    using T = typename C::T;
    using V = typename C::V;
    static constexpr int W = C::W, NV = C::NV, L = C::L;
    static constexpr Index block = 32;  // steps whose inputs a solo tile projects together
    using Curve = Activation<T, W>;

    struct Memory {  // of one thread
        T *fed, *S, *p, *A, *z, *mask, *zeros, *steps;
        double *theta, *omega, *t, *t_before;
    };

    Problem& p;
    const Rows<C> r;
    const Tiles<C> plan;
    const bool narrow;         // one output: the read-out is part of the loop over states
    const Index inputs;        // features of x among those that the gates read at a step: [x | z]
    const Index fed;           // all those features
    const Index gate_rows;     // rows of the product for the gates
    const Index o_stride;      // from the o and y of one frequency to the next; without history they share memory
    T *gates_w, *o_w, *y_w, *V_w, *bias, *bias_y;  // packed weights
    std::vector<Memory> memory;
    Index used = 0;

    Forward(Problem& problem, void* scratch)
        : p(problem), r(problem), plan(problem), narrow(!C::solo && r.M == 1), inputs(C::solo ? 0 : r.N),
          fed(inputs + r.M), gate_rows(narrow ? r.all : r.gates),
          o_stride(p.keep || C::solo || narrow ? r.Mp * L : 0) {
        Allocator take(scratch);
        gates_w = take.template take<T>(gate_rows * fed);
        o_w = take.template take<T>(r.K * r.Mp * (fed + r.D));
        y_w = take.template take<T>(r.K * r.Mp * r.D);
        V_w = take.template take<T>(C::solo ? r.N * r.all : 0);
        bias = take.template take<T>(r.all);
        bias_y = take.template take<T>(r.K * r.Mp);
        for (Index thread = 0; thread < std::max<Index>(p.threads, 1); ++thread) {
            Memory m;
            m.fed = take.template take<T>((inputs + r.Mp) * L);
            m.S = take.template take<T>(r.state());
            m.p = take.template take<T>(r.Dp * L);
            m.A = take.template take<T>(r.K * r.Dp * L);
            m.z = take.template take<T>(r.Mp * L);
            m.mask = take.template take<T>(r.Mp * L);
            m.zeros = take.template take<T>(std::max(r.N, r.Mp) + W);
            m.steps = take.template take<T>(p.keep ? 0 : (C::solo ? block : 1) * History<C>::size(r));
            m.theta = take.template take<double>(r.Kp * L);
            m.omega = take.template take<double>(r.Kp * L);
            m.t = take.template take<double>(L);
            m.t_before = take.template take<double>(L);
            memory.push_back(m);
        }
        used = take.used();
    }

    void pack_weights() {
        const T *Vw = (const T*)p.V, *Ww = (const T*)p.W, *b = (const T*)p.b;
        const T *U = (const T*)p.U_o, *Wz = (const T*)p.W_z, *bz = (const T*)p.b_z;
        const Index N = r.N, M = r.M, D = r.D;
        std::vector<Index> source(r.all);
        for (Index row = 0; row < r.all; ++row) {
            source[row] = r.source(row, p.adaptive);
            bias[row] = source[row] < 0 ? 0 : b[source[row]];
        }
        const auto V_row = [&](Index row) { return source[row] < 0 ? nullptr : Vw + source[row] * N; };
        const auto W_row = [&](Index row) { return source[row] < 0 ? nullptr : Ww + source[row] * M; };
        T* to = gates_w;
        for_each_panel<C>(gate_rows, [&](Index first, Index height) {
            to = pack_rows<C>(to, first, height, inputs, V_row);
            to = pack_rows<C>(to, first, height, M, W_row);
        });
        for (Index k = 0; k < r.K; ++k) {
            const auto U_row = [&](Index m) { return m < M ? U + (k * M + m) * D : nullptr; };
            const auto Wz_row = [&](Index m) { return m < M ? Wz + (k * M + m) * D : nullptr; };
            const Index o = r.gates + k * r.Mp;
            T *to_o = o_w + k * r.Mp * (fed + D), *to_y = y_w + k * r.Mp * D;
            for_each_panel<C>(r.Mp, [&](Index first, Index height) {
                to_o = pack_rows<C>(to_o, o + first, height, inputs, V_row);
                to_o = pack_rows<C>(to_o, o + first, height, M, W_row);
                to_o = pack_rows<C>(to_o, first, height, D, U_row);
                to_y = pack_rows<C>(to_y, first, height, D, Wz_row);
            });
            for (Index m = 0; m < r.Mp; ++m) bias_y[k * r.Mp + m] = m < M ? bz[k * M + m] : 0;
        }
        if (C::solo) pack_rows<C>(V_w, 0, r.all, N, V_row);
    }

    void run() {
        pack_weights();
        in_parallel(plan.tiles.size(), p.threads,
                    [&](Index tile, Index thread) { run_tile(plan.tiles[tile], memory[thread]); });
    }

    void run_tile(const TilePlan& tile, Memory& m) {
        T* z_fed = m.fed + inputs * L;
        begin(tile, m, z_fed);
        for (Index t = 0; t < tile.steps; ++t) {
            const Index row = plan.row_start[t] + tile.b0, n = running(tile, t);
            History<C> h(step(tile, m, t), r);
            if (p.keep && t % C::chunk == 0)
                std::memcpy((T*)p.history + tile.checkpoints + t / C::chunk * r.state(), m.S, r.state() * sizeof(T));
            if (!C::solo) gather<C>((const T*)p.x + row * r.N, r.N, n, m.zeros, m.fed);
            else if (t % block == 0) project(tile, m, t);
            Ahead ahead = next_step(tile, m, t);
            product<C>(gates_w, gate_rows, {m.fed, fed}, {nullptr, 0}, C::solo ? h.gates : bias, h.gates, ahead);
            gates(h);
            phases(h, m, row, n);
            drive(r, h, m.p);
            if (narrow) narrow_states(h, m, ahead);
            else states(h, m);
            read_out(h, m, ahead);
            scatter<C>(m.z, r.M, n, (T*)p.z + row * r.M, r.M);
            if (p.amplitudes) write_state<C>(m.A, r, row, 0, n, p.amplitudes);
            end_lanes(tile, t + 1 < tile.steps ? running(tile, t + 1) : 0, n, m);
            std::memcpy(z_fed, m.z, r.Mp * L * sizeof(T));
            if (p.mask) multiply<C>(z_fed, m.mask, r.Mp * L);
        }
    }

    void begin(const TilePlan& tile, Memory& m, T* z_fed) const {
        std::fill_n(m.S, r.state(), T(0));
        read_state<C>(p.re, r, tile.b0, 0, tile.lanes, m.S);
        read_state<C>(p.im, r, tile.b0, 0, tile.lanes, m.S + r.state() / 2);
        std::fill_n(m.zeros, std::max(r.N, r.Mp) + W, T(0));
        std::fill_n(z_fed, r.Mp * L, T(0));
        std::fill_n(m.theta, r.Kp * L, 0.0);
        gather<C>((const T*)p.z_start + tile.b0 * r.M, r.M, tile.lanes, m.zeros, z_fed);
        for (Index l = 0; l < L; ++l) {
            const Index b = tile.b0 + std::min(l, tile.lanes - 1);
            m.t[l] = p.t_start[b];
            for (Index k = 0; k < r.K; ++k) m.theta[k * L + l] = p.theta_start[b * r.K + k];
        }
        if (p.mask) {
            std::fill_n(m.mask, r.Mp * L, T(0));
            gather<C>((const T*)p.mask + tile.b0 * r.M, r.M, tile.lanes, m.zeros, m.mask);
            multiply<C>(z_fed, m.mask, r.Mp * L);
        }
    }

    Index running(const TilePlan& tile, Index t) const {
        return std::min<Index>(tile.lanes, p.batch_sizes[t] - tile.b0);
    }

    T* step(const TilePlan& tile, const Memory& m, Index t) const {
        const Index size = History<C>::size(r);
        return p.keep ? (T*)p.history + tile.history + t * size : m.steps + (C::solo ? t % block : 0) * size;
    }

    Ahead next_step(const TilePlan& tile, const Memory& m, Index t) const {
        Ahead ahead;
        if (t + 1 == tile.steps) return ahead;
        if (!C::solo) ahead.add((const T*)p.x + (plan.row_start[t + 1] + tile.b0) * r.N, running(tile, t + 1) * r.N);
        if (p.keep) ahead.add(step(tile, m, t + 1), History<C>::size(r));
        return ahead;
    }

    // U = V x + b for the next steps at once; a solo tile is the only sequence, so its rows are adjacent.
    void project(const TilePlan& tile, Memory& m, Index t) const {
        const Index count = std::min(block, tile.steps - t), size = History<C>::size(r);
        T* U = step(tile, m, t);
        for (Index s = 0; s < count; ++s) std::memcpy(U + s * size, bias, r.all * sizeof(T));
        add_outer<Whole<T>>({(const T*)p.x + t * r.N, 1, 0, r.N, r.N}, count, V_w, r.all, r.all, U, size);
    }

    void gates(History<C>& h) const {  // Eqs. 6, 7, 9, 10
        for (Index j = 0; j < r.i * L; j += W) C::store(h.gates + j, Curve::sigmoid(C::load(h.gates + j)));
        for (Index j = r.i * L; j < r.omega * L; j += W) C::store(h.gates + j, Curve::tanh(C::load(h.gates + j)));
    }

    void phases(History<C>& h, Memory& m, Index row, Index n) const {
        constexpr int wide = wide_lanes<C>, count = L < wide ? 1 : wide;
        std::swap(m.t, m.t_before);
        for (Index l = 0; l < L; ++l) m.t[l] = p.t[row + std::min(l, n - 1)];
        if (p.adaptive) angular_frequencies<C>(h.gates + r.omega * L, r.Kp * L, m.omega);
        if (!p.adaptive && L > wide && std::all_of(m.t, m.t + L, [&](double t) { return t == m.t[0]; }))
            return common_phases(h, m);
        for (Index k = 0; k < r.K; ++k)
            for (Index l = 0; l < L; l += count) {
                using D = Vec<double, count>;
                double* theta = m.theta + k * L + l;
                const D t = load<double, count>(m.t + l), before = load<double, count>(m.t_before + l);
                const D omega = p.adaptive ? load<double, count>(m.omega + k * L + l) : splat<double, count>(p.omega[k]);
                const D angle = p.accumulated ? load<double, count>(theta) + omega * (t - before) : omega * t;
                store<double, count>(theta, wrap<count>(angle));
            }
        turn<C>(m.theta, r.Kp * L, h.cosine, h.sine);
    }

    // All sequences are at the same time, as they are on index time: one lane serves all.
    void common_phases(History<C>& h, Memory& m) const {
        T cosine[wide_lanes<C>], sine[wide_lanes<C>];
        for (Index first = 0; first < r.K; first += wide_lanes<C>) {
            const Index end = std::min<Index>(first + wide_lanes<C>, r.K);
            double theta[wide_lanes<C>] = {};
            for (Index k = first; k < end; ++k) theta[k - first] = p.omega[k] * m.t[0];
            store<double, wide_lanes<C>>(theta, wrap<wide_lanes<C>>(load<double, wide_lanes<C>>(theta)));
            turn<C>(theta, wide_lanes<C>, cosine, sine);
            for (Index k = first; k < end; ++k) {
                std::fill_n(h.cosine + k * L, L, cosine[k - first]);
                std::fill_n(h.sine + k * L, L, sine[k - first]);
            }
        }
    }

    void states(const History<C>& h, Memory& m) const {  // Eqs. 1-4 and 8
        for (Index k = 0; k < r.K; ++k) {
            T* A = m.A + k * r.Dp * L;
            advance(r, k, h, m.p, m.S, m.S,
                    [&](Index j, int, V re, V im) { C::store(A + j, amplitude<C>(re, im).root); });
        }
    }

    // The same for one output: what the read-out needs of A is summed on the way.
    void narrow_states(const History<C>& h, Memory& m, Ahead& ahead) const {
        for (Index k = 0; k < r.K; ++k) {
            const T *U = (const T*)p.U_o + k * r.D, *Wz = (const T*)p.W_z + k * r.D;
            T* A_k = m.A + k * r.Dp * L;
            V o[NV], y[NV];
            for (int v = 0; v < NV; ++v) o[v] = C::load(h.o + k * L + v * W), y[v] = C::splat(bias_y[k]);
            Index stride;
            const char* line = ahead.take(r.Dp * NV, stride);
            advance(r, k, h, m.p, m.S, m.S, [&](Index j, int v, V re, V im) {
                ask_for(line += stride);
                const V A = amplitude<C>(re, im).root;
                o[v] += U[j / L] * A;
                y[v] += Wz[j / L] * A;
                if (p.amplitudes) C::store(A_k + j, A);
            });
            for (int v = 0; v < NV; ++v) {
                C::store(h.o + k * L + v * W, o[v]);
                C::store(h.y + k * L + v * W, y[v]);
            }
        }
    }

    void read_out(const History<C>& h, Memory& m, Ahead& ahead) const {  // Eqs. 11-13
        for (Index k = 0; k < r.K; ++k) {
            T *o = h.o + k * o_stride, *y = h.y + k * o_stride;
            if (!narrow) {
                const Operand<T> A{m.A + k * r.Dp * L, r.D};
                const T* bias_o = C::solo ? o : bias + r.gates + k * r.Mp;
                product<C>(o_w + k * r.Mp * (fed + r.D), r.Mp, {m.fed, fed}, A, bias_o, o, ahead);
                product<C>(y_w + k * r.Mp * r.D, r.Mp, A, {nullptr, 0}, bias_y + k * r.Mp, y, ahead);
            }
            for (Index j = 0; j < r.Mp * L; j += W) {
                const V o_j = Curve::sigmoid(C::load(o + j)), y_j = Curve::tanh(C::load(y + j));
                C::store(o + j, o_j);
                C::store(y + j, y_j);
                C::store(m.z + j, k == 0 ? o_j * y_j : C::load(m.z + j) + o_j * y_j);
            }
        }
    }

    // The last state of the sequences that run no further.
    void end_lanes(const TilePlan& tile, Index begin, Index end, const Memory& m) const {
        write_state<C>(m.S, r, tile.b0, begin, end, p.re_last);
        write_state<C>(m.S + r.state() / 2, r, tile.b0, begin, end, p.im_last);
        if (!p.adaptive) return;
        for (Index l = begin; l < end; ++l)
            for (Index k = 0; k < r.K; ++k) p.theta_last[(tile.b0 + l) * r.K + k] = m.theta[k * L + l];
    }
};

// -- backward

template <class C>
struct Backward {
    using T = typename C::T;
    using V = typename C::V;
    static constexpr int W = C::W, NV = C::NV, L = C::L;
    static constexpr Index chunk = C::chunk, max_groups = 16;

    struct Sums {  // of one group of tiles
        T *VW, *UW, *b;
        double* omega;
    };
    struct Memory {  // of one thread; alphas, beside and A_rows hold a chunk of steps, states those after its first
        T *alphas, *beside, *A_rows, *states, *p, *dA, *dS, *dz, *r, *dx, *mask, *zeros, *dp, *df_ste, *df_fre, *dphase;
        double *dtheta, *omega;
    };

    Problem& p;
    const Rows<C> r;
    const Tiles<C> plan;
    const bool narrow, phase;    // one output; whether the phase has a gradient
    const Index inputs;          // rows of the gradient of x; none if it is not wanted
    const Index alphas;          // rows of alphas: all pre-activations, then those of y
    const Index width, A_width;  // columns of [x | z] and of A, in whole vectors
    Index groups;                // tiles are dealt to so many sums, whatever the threads
    T *x_w, *z_w, *dA_w;  // packed weights
    std::vector<Sums> sums;
    std::vector<Memory> memory;
    Index used = 0;

    Backward(Problem& problem, void* scratch)
        : p(problem), r(problem), plan(problem), narrow(!C::solo && r.M == 1), phase(p.adaptive || p.domega),
          inputs(p.dx ? C::padded(r.N) : 0), alphas(r.all + r.K * r.Mp), width(whole_vectors(r.N + r.M)),
          A_width(whole_vectors(r.D)) {
        groups = std::min<Index>(plan.tiles.size(), max_groups);
        Allocator take(scratch);
        x_w = take.template take<T>(inputs * r.all);
        z_w = take.template take<T>(r.Mp * r.all);
        dA_w = take.template take<T>(r.K * r.Dp * 2 * r.M);
        for (Index g = 0; g < groups; ++g) {
            Sums s;
            s.VW = take.template take<T>(r.all * width);
            s.UW = take.template take<T>(UW_size());
            s.b = take.template take<T>(alphas * bias_width);
            s.omega = take.template take<double>(r.Kp * L);
            sums.push_back(s);
        }
        for (Index thread = 0; thread < std::max<Index>(p.threads, 1); ++thread) {
            Memory m;
            m.alphas = take.template take<T>(chunk * alphas * L);
            m.beside = take.template take<T>(chunk * L * width);
            m.A_rows = take.template take<T>(narrow ? 0 : r.K * chunk * L * A_width);
            m.states = take.template take<T>(chunk * r.state());
            m.p = take.template take<T>(r.Dp * L);
            m.dA = take.template take<T>(r.Dp * L);
            m.dS = take.template take<T>(r.state());
            m.dz = take.template take<T>(r.Mp * L);
            m.r = take.template take<T>(r.Mp * L);
            m.dx = take.template take<T>(inputs * L);
            m.mask = take.template take<T>(r.Mp * L);
            m.zeros = take.template take<T>(std::max(r.N, r.Mp) + W);
            m.dp = take.template take<T>(r.Dp * L);
            m.df_ste = take.template take<T>(r.Dp * L);
            m.df_fre = take.template take<T>(r.Kp * L);
            m.dphase = take.template take<T>(r.Kp * L);
            m.dtheta = take.template take<double>(r.Kp * L);
            m.omega = take.template take<double>(r.Kp * L);
            memory.push_back(m);
        }
        used = take.used();
    }

    static Index whole_vectors(Index columns) { return (columns + Whole<T>::W - 1) / Whole<T>::W * Whole<T>::W; }
    static constexpr Index bias_width = C::solo ? 1 : W;
    Index UW_size() const { return narrow ? 2 * r.K * r.D * W : 2 * r.K * r.Mp * A_width; }

    void pack_weights() {
        const T *Vw = (const T*)p.V, *Ww = (const T*)p.W, *U = (const T*)p.U_o, *Wz = (const T*)p.W_z;
        const Index N = r.N, M = r.M, D = r.D;
        std::vector<Index> source(r.all);
        for (Index row = 0; row < r.all; ++row) source[row] = r.source(row, p.adaptive);
        const auto rows_of = [&](const T* weights, Index width) {
            return [=, &source](Index c) { return source[c] < 0 ? nullptr : weights + source[c] * width; };
        };
        if (p.dx) pack_columns<C>(x_w, inputs, N, r.all, rows_of(Vw, N));
        pack_columns<C>(z_w, r.Mp, M, r.all, rows_of(Ww, M));
        for (Index k = 0; k < r.K && !narrow; ++k)
            pack_columns<C>(dA_w + k * r.Dp * 2 * M, r.Dp, D, 2 * M, [&](Index c) {
                return c < M ? U + (k * M + c) * D : Wz + (k * M + c - M) * D;
            });
    }

    void run() {
        pack_weights();
        for (Sums& s : sums) {
            std::fill_n(s.VW, r.all * width, T(0));
            std::fill_n(s.UW, UW_size(), T(0));
            std::fill_n(s.b, alphas * bias_width, T(0));
            std::fill_n(s.omega, r.Kp * L, 0.0);
        }
        in_parallel(groups, p.threads, [&](Index group, Index thread) {
            for (Index tile = group; tile < Index(plan.tiles.size()); tile += groups)
                run_tile(plan.tiles[tile], memory[thread], sums[group]);
        });
        write_gradients();
    }

    void run_tile(const TilePlan& tile, Memory& m, Sums& s) {
        begin(tile, m);
        Index running = 0;
        for (Index end = tile.steps; end > 0;) {
            const Index first = (end - 1) / chunk * chunk;
            const T* checkpoint = (const T*)p.history + tile.checkpoints + first / chunk * r.state();
            scan_again(tile, m, first, end, checkpoint);
            for (Index t = end - 1; t >= first; --t) {
                const Index n = std::min<Index>(tile.lanes, p.batch_sizes[t] - tile.b0);
                begin_lanes(tile, running, n, m);
                running = n;
                const T *S = m.states + (t - first) * r.state(), *S_before = t > first ? S - r.state() : checkpoint;
                Ahead ahead = next_step(tile, t);
                run_step(tile, m, s, t, n, t - first, S, S_before, ahead);
            }
            add_gradients(m, s, end - first);
            end = first;
        }
        write_state<C>(m.dS, r, tile.b0, 0, tile.lanes, p.dre);
        write_state<C>(m.dS + r.state() / 2, r, tile.b0, 0, tile.lanes, p.dim);
        scatter<C>(m.r, r.M, tile.lanes, (T*)p.dz_start + tile.b0 * r.M, r.M);
        for (Index l = 0; l < tile.lanes; ++l)
            for (Index k = 0; k < r.K; ++k) p.dtheta_start[(tile.b0 + l) * r.K + k] = m.dtheta[k * L + l];
    }

    void begin(const TilePlan& tile, Memory& m) const {
        std::fill_n(m.dS, r.state(), T(0));
        std::fill_n(m.r, r.Mp * L, T(0));
        std::fill_n(m.dz, r.Mp * L, T(0));
        std::fill_n(m.df_fre, r.Kp * L, T(0));
        std::fill_n(m.dphase, r.Kp * L, T(0));
        std::fill_n(m.beside, chunk * L * width, T(0));
        if (!narrow) std::fill_n(m.A_rows, r.K * chunk * L * A_width, T(0));
        std::fill_n(m.zeros, std::max(r.N, r.Mp) + W, T(0));
        std::fill_n(m.dtheta, r.Kp * L, 0.0);
        if (p.mask) {
            std::fill_n(m.mask, r.Mp * L, T(0));
            gather<C>((const T*)p.mask + tile.b0 * r.M, r.M, tile.lanes, m.zeros, m.mask);
        }
    }

    History<C> history(const TilePlan& tile, Index t) const {
        return History<C>((T*)p.history + tile.history + t * History<C>::size(r), r);
    }

    // The read-out of the step before, and the gates that the next scan needs.
    Ahead next_step(const TilePlan& tile, Index t) const {
        Ahead ahead;
        const Index rows = (t ? plan.row_start[t - 1] : 0) + tile.b0;
        if (t > 0) {
            ahead.add((const T*)p.dz + rows * r.M, L * r.M);
            ahead.add(history(tile, t - 1).o, 2 * r.K * r.Mp * L);
        }
        if (t >= chunk) ahead.add(history(tile, t - chunk).gates, r.gates * L);
        return ahead;
    }

    void scan_again(const TilePlan& tile, Memory& m, Index first, Index end, const T* checkpoint) const {
        const T* S = checkpoint;
        for (Index t = first; t < end; ++t) {
            const History<C> h = history(tile, t);
            T* S_next = m.states + (t - first) * r.state();
            drive(r, h, m.p);
            for (Index k = 0; k < r.K; ++k) advance(r, k, h, m.p, S, S_next, [](Index, int, V, V) {});
            S = S_next;
        }
    }

    // Sequences that end at this step bring the gradients of their last state.
    void begin_lanes(const TilePlan& tile, Index begin, Index end, Memory& m) const {
        read_state<C>(p.dre_last, r, tile.b0, begin, end, m.dS);
        read_state<C>(p.dim_last, r, tile.b0, begin, end, m.dS + r.state() / 2);
        for (Index l = begin; l < end; ++l)
            for (Index k = 0; k < r.K; ++k) m.dtheta[k * L + l] = p.dtheta_last[(tile.b0 + l) * r.K + k];
    }

    void run_step(const TilePlan& tile, Memory& m, Sums& s, Index t, Index n, Index slot, const T* S,
                  const T* S_before, Ahead& ahead) const {
        const History<C> h = history(tile, t);
        const Index row = plan.row_start[t] + tile.b0;
        T* alpha = m.alphas + slot * alphas * L;
        read_out(h, m, alpha, (const T*)p.dz + row * r.M, n);
        for (Index k = 0; k < r.K; ++k) {
            const T *o = alpha + (r.gates + k * r.Mp) * L, *y = alpha + (r.all + k * r.Mp) * L;
            if (narrow) {
                if (phase) states<true, true>(k, h, S, S_before, m, o, y, s, ahead);
                else states<true, false>(k, h, S, S_before, m, o, y, s, ahead);
                continue;
            }
            product<C>(dA_w + k * r.Dp * 2 * r.M, r.Dp, {o, r.M}, {y, r.M}, nullptr, m.dA, ahead);
            if (phase) states<false, true>(k, h, S, S_before, m, o, y, s, ahead);
            else states<false, false>(k, h, S, S_before, m, o, y, s, ahead);
            scatter<C>(m.dA, r.D, L, m.A_rows + (k * chunk + slot) * L * A_width, A_width);
        }
        gates(h, m, alpha);
        phases(h, m, alpha, tile, row, n, t, s);
        product<C>(z_w, r.Mp, {alpha, r.all}, {nullptr, 0}, nullptr, m.r, ahead);
        if (p.mask) multiply<C>(m.r, m.mask, r.Mp * L);
        if (p.dx) {
            product<C>(x_w, inputs, {alpha, r.all}, {nullptr, 0}, nullptr, m.dx, ahead);
            scatter<C>(m.dx, r.N, n, (T*)p.dx + row * r.N, r.N);
        }
        copy_beside(tile, t, n, m.beside + slot * L * width);
    }

    void read_out(const History<C>& h, Memory& m, T* alpha, const T* dz_rows, Index n) const {
        const Index count = r.Mp * L;
        gather<C>(dz_rows, r.M, n, m.zeros, m.dz);
        for (Index j = 0; j < count; j += W) C::store(m.dz + j, C::load(m.dz + j) + C::load(m.r + j));
        for (Index k = 0; k < r.K; ++k) {
            const T *o_k = h.o + k * count, *y_k = h.y + k * count;
            T *alpha_o = alpha + r.gates * L + k * count, *alpha_y = alpha + r.all * L + k * count;
            for (Index j = 0; j < count; j += W) {
                const V o = C::load(o_k + j), y = C::load(y_k + j), dz_o = C::load(m.dz + j) * o;
                C::store(alpha_o + j, dz_o * y * (T(1) - o));
                C::store(alpha_y + j, dz_o * (T(1) - y * y));
            }
        }
    }

    // One frequency: dA to dS, and its part of the gradients of p = g i, of f and of theta.  A takes the place of dA.
    // For one output dA is made, and the gradients of U_o and W_z are summed, on the way.
    template <bool Narrow, bool Phase>
    void states(Index k, const History<C>& h, const T* S, const T* S_before, Memory& m, const T* alpha_o,
                const T* alpha_y, Sums& sums, Ahead& ahead) const {
        const Index plane = r.Dp * L, at_re = k * plane, at_im = (r.K + k) * plane;
        const T *U = (const T*)p.U_o + k * r.D, *Wz = (const T*)p.W_z + k * r.D;
        V f_fre[NV], c[NV], s[NV], o[NV], y[NV], df_fre[NV], dphase[NV];
        for (int v = 0; v < NV; ++v) {
            f_fre[v] = across<C>(h.gates + r.fre * L, k, v);
            c[v] = across<C>(h.cosine, k, v), s[v] = across<C>(h.sine, k, v);
            if (Narrow) o[v] = C::load(alpha_o + v * W), y[v] = C::load(alpha_y + v * W);
            df_fre[v] = dphase[v] = V{};
        }
        Index stride = 0;
        const char* line = Narrow ? ahead.take(r.Dp * NV, stride) : nullptr;
        for (Index d = 0; d < plane; d += W * NV) {
            V dU{}, dWz{};
#pragma GCC unroll 2
            for (int v = 0; v < NV; ++v) {
                const Index j = d + v * W;
                const V re = C::load(S + at_re + j), im = C::load(S + at_im + j);
                const auto A = amplitude<C>(re, im);
                V dA;
                if (Narrow) {
                    ask_for(line += stride);
                    dA = U[d / L] * o[v] + Wz[d / L] * y[v];
                    dU += o[v] * A.root, dWz += y[v] * A.root;
                } else {
                    dA = C::load(m.dA + j);
                    C::store(m.dA + j, A.root);
                }
                dA *= A.inverse;
                const V dR = C::load(m.dS + at_re + j) + dA * re, dI = C::load(m.dS + at_im + j) + dA * im;
                const V f_ste = C::load(h.gates + j), f = f_ste * f_fre[v];
                C::store(m.dS + at_re + j, dR * f);
                C::store(m.dS + at_im + j, dI * f);
                const V dp = dR * c[v] + dI * s[v];
                const V dF = dR * C::load(S_before + at_re + j) + dI * C::load(S_before + at_im + j);
                df_fre[v] += dF * f_ste;
                if (k == 0) {
                    C::store(m.dp + j, dp);
                    C::store(m.df_ste + j, dF * f_fre[v]);
                } else {
                    C::store(m.dp + j, C::load(m.dp + j) + dp);
                    C::store(m.df_ste + j, C::load(m.df_ste + j) + dF * f_fre[v]);
                }
                if (Phase) {
                    const V g = C::load(h.gates + r.g * L + j), i = C::load(h.gates + r.i * L + j);
                    dphase[v] += g * i * (dI * c[v] - dR * s[v]);
                }
            }
            if (Narrow) {
                T* UW = sums.UW + 2 * (k * r.D + d / L) * W;
                C::store(UW, C::load(UW) + dU);
                C::store(UW + W, C::load(UW + W) + dWz);
            }
        }
        for (int v = 0; v < NV; ++v) {
            reduce(m.df_fre, k, v, df_fre[v]);
            if (Phase) reduce(m.dphase, k, v, dphase[v]);
        }
    }

    static INLINE void reduce(T* values, Index k, int v, V sum) {
        if (C::solo) values[k] = horizontal_sum<T, W>(sum);
        else C::store(values + k * L + v * W, sum);
    }

    void gates(const History<C>& h, Memory& m, T* alpha) const {
        const T *g = h.gates + r.g * L, *i = h.gates + r.i * L;
        for (Index j = 0; j < r.Dp * L; j += W) {
            const V f = C::load(h.gates + j), g_j = C::load(g + j), i_j = C::load(i + j), dp_g = C::load(m.dp + j) * g_j;
            C::store(alpha + j, C::load(m.df_ste + j) * f * (T(1) - f));
            C::store(alpha + r.g * L + j, dp_g * i_j * (T(1) - g_j));
            C::store(alpha + r.i * L + j, dp_g * (T(1) - i_j * i_j));
        }
        for (Index j = 0; j < r.Kp * L; j += W) {
            const V f = C::load(h.gates + r.fre * L + j);
            C::store(alpha + r.fre * L + j, C::load(m.df_fre + j) * f * (T(1) - f));
        }
    }

    void phases(const History<C>& h, Memory& m, T* alpha, const TilePlan& tile, Index row, Index n, Index t,
                Sums& s) const {
        if (p.adaptive) {
            constexpr double two_pi = 6.283185307179586;
            angular_frequencies<C>(h.gates + r.omega * L, r.Kp * L, m.omega);
            std::fill_n(alpha + r.omega * L, r.Kp * L, T(0));
            for (Index l = 0; l < n; ++l) {
                const Index b = tile.b0 + l;
                double dt = p.t[row + l];
                if (p.accumulated) dt -= t ? p.t[plan.row_start[t - 1] + b] : p.t_start[b];
                for (Index k = 0; k < r.K; ++k) {
                    const Index j = k * L + l;
                    m.dtheta[j] = m.dphase[j] + (p.accumulated ? m.dtheta[j] : 0.0);
                    alpha[r.omega * L + j] = T(dt * m.dtheta[j] * m.omega[j] * (1.0 - m.omega[j] / two_pi));
                }
            }
        } else if (p.domega) {
            for (Index k = 0; k < r.K; ++k)
                for (Index l = 0; l < n; ++l) s.omega[k * L + l] += p.t[row + l] * double(m.dphase[k * L + l]);
        }
    }

    // What the gates read at this step, [x | z of the step before, masked], in rows.
    void copy_beside(const TilePlan& tile, Index t, Index n, T* rows) const {
        const T* mask = (const T*)p.mask;
        for (Index l = 0; l < L; ++l) {
            T* to = rows + l * width;
            if (l >= n) {
                std::fill_n(to, r.N + r.M, T(0));
                continue;
            }
            const Index b = tile.b0 + l;
            const T* z = t ? (const T*)p.z + (plan.row_start[t - 1] + b) * r.M : (const T*)p.z_start + b * r.M;
            std::memcpy(to, (const T*)p.x + (plan.row_start[t] + b) * r.N, r.N * sizeof(T));
            std::memcpy(to + r.N, z, r.M * sizeof(T));
            if (mask)
                for (Index j = 0; j < r.M; ++j) to[r.N + j] *= mask[b * r.M + j];
        }
    }

    void add_gradients(Memory& m, Sums& s, Index steps) const {
        Left<T> alpha{m.alphas, steps, alphas * L, L, L};
        add_outer<Whole<T>>(alpha, r.all, m.beside, r.N + r.M, width, s.VW, width);
        for (Index k = 0; k < r.K && !narrow; ++k) {
            const T* A = m.A_rows + k * chunk * L * A_width;
            T* UW = s.UW + 2 * k * r.Mp * A_width;
            alpha.values = m.alphas + (r.gates + k * r.Mp) * L;
            add_outer<Whole<T>>(alpha, r.Mp, A, r.D, A_width, UW, A_width);
            alpha.values = m.alphas + (r.all + k * r.Mp) * L;
            add_outer<Whole<T>>(alpha, r.Mp, A, r.D, A_width, UW + r.Mp * A_width, A_width);
        }
        for (Index row = 0; row < alphas; row += C::step) {
            T* b = s.b + row * bias_width;
            V sum = C::load(b);
            for (Index step = 0; step < steps; ++step)
                for (int v = 0; v < NV; ++v) sum += C::load(m.alphas + (step * alphas + row) * L + v * W);
            C::store(b, sum);
        }
    }

    // Sums over the groups, in their order, without the padding.
    void write_gradients() const {
        T *dV = (T*)p.dV, *dW = (T*)p.dW, *db = (T*)p.db, *dU = (T*)p.dU_o, *dWz = (T*)p.dW_z, *dbz = (T*)p.db_z;
        for (Index row = 0; row < r.all; ++row) {
            const Index to = r.source(row, p.adaptive);
            if (to < 0) continue;
            copy_sum(&Sums::VW, row * width, r.N, dV + to * r.N);
            copy_sum(&Sums::VW, row * width + r.N, r.M, dW + to * r.M);
            db[to] = lane_sum(&Sums::b, row * bias_width, bias_width);
        }
        for (Index k = 0; k < r.K; ++k)
            for (Index m = 0; m < r.M; ++m)
                dbz[k * r.M + m] = lane_sum(&Sums::b, (r.all + k * r.Mp + m) * bias_width, bias_width);
        for (Index j = 0; j < r.K * r.D && narrow; ++j) {
            dU[j] = lane_sum(&Sums::UW, 2 * j * W, W);
            dWz[j] = lane_sum(&Sums::UW, (2 * j + 1) * W, W);
        }
        for (Index k = 0; k < r.K && !narrow; ++k)
            for (Index m = 0; m < r.M; ++m) {
                const Index from = (2 * k * r.Mp + m) * A_width, to = (k * r.M + m) * r.D;
                copy_sum(&Sums::UW, from, r.D, dU + to);
                copy_sum(&Sums::UW, from + r.Mp * A_width, r.D, dWz + to);
            }
        for (Index k = 0; k < r.K && p.domega; ++k) {
            p.domega[k] = 0.0;
            for (const Sums& s : sums)
                for (Index l = 0; l < L; ++l) p.domega[k] += s.omega[k * L + l];
        }
    }

    void copy_sum(T* Sums::*member, Index from, Index count, T* to) const {
        std::memcpy(to, sums[0].*member + from, count * sizeof(T));
        for (std::size_t g = 1; g < sums.size(); ++g)
            for (Index j = 0; j < count; ++j) to[j] += (sums[g].*member)[from + j];
    }

    T lane_sum(T* Sums::*member, Index from, Index lanes) const {
        T sum = 0;
        for (const Sums& s : sums)
            for (Index l = 0; l < lanes; ++l) sum += (s.*member)[from + l];
        return sum;
    }
};

// -- the door

template <class C>
void plan_forward(Problem& p) {
    p.scratch_bytes = Forward<C>(p, nullptr).used;
    p.history_bytes = p.keep ? Tiles<C>(p).history * sizeof(typename C::T) : 0;
}

template <class C>
void run_forward(Problem& p) {
    Forward<C>(p, p.scratch).run();
}

template <class C>
void plan_backward(Problem& p) {
    p.scratch_bytes = Backward<C>(p, nullptr).used;
}

template <class C>
void run_backward(Problem& p) {
    Backward<C>(p, p.scratch).run();
}

template <class C>
void call(Problem& p, int what) {
    if (what == 0) plan_forward<C>(p);
    if (what == 1) run_forward<C>(p);
    if (what == 2) plan_backward<C>(p);
    if (what == 3) run_backward<C>(p);
}

// Wide tiles are the faster ones; narrower ones give every thread something to do.
template <class T>
void choose_tile(Problem& p, int what) {
    constexpr int W = SFM_VECTOR_BYTES / sizeof(T);
    constexpr int half = W > 8 ? W / 2 : W;
    if (p.B == 1) return call<Tile<T, W, 1, true>>(p, what);
    if (p.B <= half) return call<Tile<T, half, 1, false>>(p, what);
    if (p.B <= W || (p.B + 2 * W - 1) / (2 * W) < p.threads) return call<Tile<T, W, 1, false>>(p, what);
    return call<Tile<T, W, 2, false>>(p, what);
}

template <int What>
void door(Problem& p) {
    p.is_double ? choose_tile<double>(p, What) : choose_tile<float>(p, What);
}

}  // namespace
