// The SFM recurrence on one tile of sequences, forward and backward, and the loop over tiles.
//
// Letters as in reference.py.  Arrays of a tile are [feature][lane]; [k][d][lane] for the state.  What the backward needs
// of a step is kept in the history: gates, o and y, S, cos and sin of theta.
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
    T *gates, *o, *y, *S, *cosine, *sine;

    static Index size(const Rows<C>& r) {
        const Index count = (r.gates + 2 * r.K * r.Mp + 2 * r.K * r.Dp + 2 * r.Kp) * C::L;
        return (count + C::W - 1) / C::W * C::W;
    }
    History(T* base, const Rows<C>& r) {
        constexpr Index L = C::L;
        gates = base, o = gates + r.gates * L, y = o + r.K * r.Mp * L, S = y + r.K * r.Mp * L;
        cosine = S + 2 * r.K * r.Dp * L, sine = cosine + r.Kp * L;
    }
};

// -- between packed rows and tiles

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
        Index f = 0;
        for (; f + W <= features; f += W) {
            typename C::V block[W];
#pragma GCC unroll 16
            for (int i = 0; i < W; ++i) block[i] = C::load(lane + i < n ? rows + (lane + i) * features + f : zeros);
            transpose<T, W>(block);
#pragma GCC unroll 16
            for (int i = 0; i < W; ++i) C::store(tile + (f + i) * L + lane, block[i]);
        }
        for (; f < features; ++f)
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
        Index f = 0;
        for (; f + W <= features; f += W) {
            typename C::V block[W];
#pragma GCC unroll 16
            for (int i = 0; i < W; ++i) block[i] = C::load(tile + (f + i) * L + lane);
            transpose<T, W>(block);
            for (int i = 0; i < count; ++i) C::store(rows + (lane + i) * stride + f, block[i]);
        }
        for (; f < features; ++f)
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
    Index b0, lanes, steps, history;  // first sequence, sequences, steps of the longest, offset into the history
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
            tiles.push_back({b0, std::min<Index>(C::L, p.B - b0), steps, history});
            // the initial state stands before the steps; without a backward two steps' memory serves all
            history += 2 * r.K * r.Dp * C::L + (p.keep ? steps : 2) * History<C>::size(r);
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

// theta (features x lanes, flat, a multiple of the vector) to cosine and sine in T
template <class C>
void turn(const double* theta, Index count, typename C::T* cosine, typename C::T* sine) {
    constexpr int W = SFM_VECTOR_BYTES / 8 < C::W ? SFM_VECTOR_BYTES / 8 : C::W;
    for (Index j = 0; j < count; j += W) {
        Vec<double, W> c, s;
        cosine_sine<W>(load<double, W>(theta + j), c, s);
        store<typename C::T, W>(cosine + j, __builtin_convertvector(c, Vec<typename C::T, W>));
        store<typename C::T, W>(sine + j, __builtin_convertvector(s, Vec<typename C::T, W>));
    }
}

// Within one revolution.  The fused multiply-add makes it as exact as a remainder.
inline double wrap(double theta) {
    constexpr double two_pi = 6.283185307179586;
    return std::fma(-two_pi, std::floor(theta * (1 / two_pi)), theta);
}

// 2 pi sigmoid(a), Eq. 16
template <class C>
void angular_frequencies(const typename C::T* a, Index count, double* omega) {
    constexpr int W = SFM_VECTOR_BYTES / 8 < C::W ? SFM_VECTOR_BYTES / 8 : C::W;
    for (Index j = 0; j < count; j += W) {
        const auto wide = __builtin_convertvector(load<typename C::T, W>(a + j), Vec<double, W>);
        store<double, W>(omega + j, 6.283185307179586 * Activation<double, W>::sigmoid(wide));
    }
}

// -- forward

template <class C>
struct Forward {
    using T = typename C::T;
    using V = typename C::V;
    static constexpr int W = C::W, NV = C::NV, L = C::L;
    using A_ = Activation<T, W>;

    struct Memory {  // of one thread
        T *cat, *A, *z, *mask, *zeros;
        double *theta, *omega, *t, *t_before;
    };

    Problem& p;
    const Rows<C> r;
    const Tiles<C> plan;
    T *gates_w, *o_w, *y_w, *bias, *bias_y;  // packed weights
    std::vector<Memory> memory;
    T* base = nullptr;  // history
    Index used = 0;

    Forward(Problem& problem, void* scratch) : p(problem), r(problem), plan(problem) {
        Allocator take(scratch);
        gates_w = take.template take<T>(r.gates * (r.N + r.Mp));
        o_w = take.template take<T>(r.K * r.Mp * (r.N + r.Mp + r.D));
        y_w = take.template take<T>(r.K * r.Mp * r.D);
        bias = take.template take<T>(r.all);
        bias_y = take.template take<T>(r.K * r.Mp);
        for (Index thread = 0; thread < std::max<Index>(p.threads, 1); ++thread) {
            Memory m;
            m.cat = take.template take<T>((r.N + r.Mp) * L);
            m.A = take.template take<T>(r.K * r.Dp * L);
            m.z = take.template take<T>(r.Mp * L);
            m.mask = take.template take<T>(r.Mp * L);
            m.zeros = take.template take<T>(std::max(r.N, r.Mp) + W);
            m.theta = take.template take<double>(r.Kp * L);
            m.omega = take.template take<double>(r.Kp * L);
            m.t = take.template take<double>(L);
            m.t_before = take.template take<double>(L);
            memory.push_back(m);
        }
        if (!p.keep) base = take.template take<T>(plan.history);
        used = take.used();
    }

    void pack_weights() {
        const T *Vw = (const T*)p.V, *Ww = (const T*)p.W, *b = (const T*)p.b;
        const T *U = (const T*)p.U_o, *Wz = (const T*)p.W_z, *bz = (const T*)p.b_z;
        const Index N = r.N, M = r.M, D = r.D, cat = r.N + r.Mp;
        std::vector<Index> source(r.all);
        for (Index row = 0; row < r.all; ++row) source[row] = r.source(row, p.adaptive);
        const auto gate = [&](Index row, Index c) -> T {
            if (source[row] < 0 || c >= N + M) return 0;
            return c < N ? Vw[source[row] * N + c] : Ww[source[row] * M + c - N];
        };
        pack<C>(gates_w, r.gates, cat, gate);
        for (Index k = 0; k < r.K; ++k) {
            pack<C>(o_w + k * r.Mp * (cat + D), r.Mp, cat + D, [&](Index m, Index c) -> T {
                if (c < cat) return gate(r.gates + k * r.Mp + m, c);
                return m < M ? U[(k * M + m) * D + c - cat] : 0;
            });
            pack<C>(y_w + k * r.Mp * D, r.Mp, D,
                    [&](Index m, Index c) -> T { return m < M ? Wz[(k * M + m) * D + c] : 0; });
            for (Index m = 0; m < r.Mp; ++m) bias_y[k * r.Mp + m] = m < M ? bz[k * M + m] : 0;
        }
        for (Index row = 0; row < r.all; ++row) bias[row] = source[row] < 0 ? 0 : b[source[row]];
    }

    void run() {
        pack_weights();
        if (p.keep) base = (T*)p.history;
        in_parallel(plan.tiles.size(), p.threads,
                    [&](Index tile, Index thread) { run_tile(plan.tiles[tile], memory[thread]); });
    }

    void run_tile(const TilePlan& tile, Memory& m) {
        const Index state = 2 * r.K * r.Dp * L, step = History<C>::size(r);
        T *initial = base + tile.history, *steps = initial + state, *S = initial, *fed = m.cat + r.N * L;
        std::fill_n(initial, state, T(0));
        read_state<C>(p.re, r, tile.b0, 0, tile.lanes, initial);
        read_state<C>(p.im, r, tile.b0, 0, tile.lanes, initial + state / 2);
        std::fill_n(m.zeros, std::max(r.N, r.Mp) + W, T(0));
        std::fill_n(fed, r.Mp * L, T(0));
        std::fill_n(m.theta, r.Kp * L, 0.0);
        gather<C>((const T*)p.z_start + tile.b0 * r.M, r.M, tile.lanes, m.zeros, fed);
        for (Index l = 0; l < L; ++l) {
            const Index b = tile.b0 + std::min(l, tile.lanes - 1);
            m.t[l] = p.t_start[b];
            for (Index k = 0; k < r.K; ++k) m.theta[k * L + l] = p.theta_start[b * r.K + k];
        }
        if (p.mask) {
            std::fill_n(m.mask, r.Mp * L, T(0));
            gather<C>((const T*)p.mask + tile.b0 * r.M, r.M, tile.lanes, m.zeros, m.mask);
            multiply(fed, m.mask, r.Mp * L);
        }
        for (Index t = 0; t < tile.steps; ++t) {
            History<C> h(steps + (p.keep ? t : t % 2) * step, r);
            const Index row = plan.row_start[t] + tile.b0, n = running(tile, t);
            gather<C>((const T*)p.x + row * r.N, r.N, n, m.zeros, m.cat);
            product<C>(gates_w, r.gates, {m.cat, r.N + r.Mp}, {nullptr, 0}, bias, h.gates);
            gates(h);
            phases(h, m, row, n);
            states(h, S, m);
            read_out(h, m);
            S = h.S;
            scatter<C>(m.z, r.M, n, (T*)p.z + row * r.M, r.M);
            if (p.amplitudes) write_state<C>(m.A, r, row, 0, n, p.amplitudes);
            const Index next = t + 1 < tile.steps ? running(tile, t + 1) : 0;
            write_state<C>(S, r, tile.b0, next, n, p.re_last);
            write_state<C>(S + state / 2, r, tile.b0, next, n, p.im_last);
            if (p.adaptive)
                for (Index l = next; l < n; ++l)
                    for (Index k = 0; k < r.K; ++k) p.theta_last[(tile.b0 + l) * r.K + k] = m.theta[k * L + l];
            std::memcpy(fed, m.z, r.Mp * L * sizeof(T));
            if (p.mask) multiply(fed, m.mask, r.Mp * L);
        }
    }

    Index running(const TilePlan& tile, Index t) const {
        return std::min<Index>(tile.lanes, p.batch_sizes[t] - tile.b0);
    }

    static void multiply(T* values, const T* factors, Index count) {
        for (Index j = 0; j < count; j += W) C::store(values + j, C::load(values + j) * C::load(factors + j));
    }

    void gates(History<C>& h) const {  // Eqs. 6, 7, 9, 10
        for (Index j = 0; j < r.i * L; j += W) C::store(h.gates + j, A_::sigmoid(C::load(h.gates + j)));
        for (Index j = r.i * L; j < r.omega * L; j += W) C::store(h.gates + j, A_::tanh(C::load(h.gates + j)));
    }

    void phases(History<C>& h, Memory& m, Index row, Index n) const {
        std::swap(m.t, m.t_before);
        for (Index l = 0; l < L; ++l) m.t[l] = p.t[row + std::min(l, n - 1)];
        if (p.adaptive) angular_frequencies<C>(h.gates + r.omega * L, r.Kp * L, m.omega);
        for (Index k = 0; k < r.K; ++k)
            for (Index l = 0; l < L; ++l) {
                double& theta = m.theta[k * L + l];
                const double omega = p.adaptive ? m.omega[k * L + l] : p.omega[k];
                theta = wrap(p.accumulated ? theta + omega * (m.t[l] - m.t_before[l]) : omega * m.t[l]);
            }
        turn<C>(m.theta, r.Kp * L, h.cosine, h.sine);
    }

    void states(History<C>& h, const T* S, Memory& m) const {  // Eqs. 1-4 and 8
        const Index plane = r.Dp * L, im = r.K * plane;
        const T *ste = h.gates, *g = h.gates + r.g * L, *i = h.gates + r.i * L;
        constexpr T epsilon = sizeof(T) == 8 ? T(1e-24) : T(1e-12);
        for (Index k = 0; k < r.K; ++k) {
            V f_fre[NV], c[NV], s[NV];
            for (int v = 0; v < NV; ++v) {
                f_fre[v] = across(h.gates + r.fre * L, k, v);
                c[v] = across(h.cosine, k, v), s[v] = across(h.sine, k, v);
            }
            for (Index d = 0; d < plane; d += W * NV)
                for (int v = 0; v < NV; ++v) {
                    const Index j = d + v * W, at = k * plane + j;
                    const V f = C::load(ste + j) * f_fre[v], u = C::load(g + j) * C::load(i + j);
                    const V re = f * C::load(S + at) + u * c[v], imaginary = f * C::load(S + im + at) + u * s[v];
                    C::store(h.S + at, re);
                    C::store(h.S + im + at, imaginary);
                    const V square = re * re + imaginary * imaginary + epsilon;
                    C::store(m.A + at, amplitude(square));
                }
        }
    }

    static INLINE V amplitude(V square) {
        if (sizeof(T) == 8) return square_root<T, W>(square);
        return square * reciprocal_square_root<T, W>(square);
    }

    // What belongs to frequency k, for the vector v of lanes.
    static INLINE V across(const T* values, Index k, int v) {
        return C::solo ? C::splat(values[k]) : C::load(values + k * L + v * W);
    }

    void read_out(History<C>& h, Memory& m) const {  // Eqs. 11-13
        const Index width = r.Mp * L, cat = r.N + r.Mp;
        for (Index k = 0; k < r.K; ++k) {
            T *o = h.o + k * width, *y = h.y + k * width;
            const Operand<T> A{m.A + k * r.Dp * L, r.D};
            product<C>(o_w + k * r.Mp * (cat + r.D), r.Mp, {m.cat, cat}, A, bias + r.gates + k * r.Mp, o);
            product<C>(y_w + k * r.Mp * r.D, r.Mp, A, {nullptr, 0}, bias_y + k * r.Mp, y);
            for (Index j = 0; j < width; j += W) {
                const V o_j = A_::sigmoid(C::load(o + j)), y_j = A_::tanh(C::load(y + j));
                C::store(o + j, o_j);
                C::store(y + j, y_j);
                C::store(m.z + j, k == 0 ? o_j * y_j : C::load(m.z + j) + o_j * y_j);
            }
        }
    }
};

// -- backward

template <class C>
struct Backward {
    using T = typename C::T;
    using V = typename C::V;
    static constexpr int W = C::W, NV = C::NV, L = C::L;
    static constexpr Index chunk = std::max(1, 128 / L);  // steps whose weight gradients are formed together
    static constexpr Index max_groups = 16;               // tiles are dealt to so many sums, whatever the threads

    struct Sums {  // of one group of tiles
        T *VW, *UW, *b;
        double* omega;
    };
    struct Memory {  // of one thread
        T *alphas, *beside, *A, *dA, *dS, *dz, *r, *e, *mask, *zeros, *dp, *df_ste, *df_fre, *dphase;
        double *dtheta, *omega;
    };

    Problem& p;
    const Rows<C> r;
    const Tiles<C> plan;
    const Index outputs;        // rows of the product that gives dx, if wanted, and the gradient of the fed-back z
    const Index alphas;         // rows of alphas: all pre-activations, then those of y
    const Index width, A_width;  // padded columns of [x | z] and of A
    Index groups;
    T *back_w, *dA_w;
    std::vector<Sums> sums;
    std::vector<Memory> memory;
    Index used = 0;

    Backward(Problem& problem, void* scratch)
        : p(problem), r(problem), plan(problem), outputs((p.dx ? C::padded(r.N) : 0) + r.Mp),
          alphas(r.all + r.K * r.Mp), width((r.N + r.M + W - 1) / W * W), A_width((r.D + W - 1) / W * W) {
        groups = std::min<Index>(plan.tiles.size(), max_groups);
        Allocator take(scratch);
        back_w = take.template take<T>(outputs * r.all);
        dA_w = take.template take<T>(r.K * r.Dp * 2 * r.Mp);
        for (Index g = 0; g < groups; ++g) {
            Sums s;
            s.VW = take.template take<T>(r.all * width);
            s.UW = take.template take<T>(2 * r.K * r.Mp * A_width);
            s.b = take.template take<T>(alphas * (C::solo ? 1 : W));
            s.omega = take.template take<double>(r.Kp * L);
            sums.push_back(s);
        }
        for (Index thread = 0; thread < std::max<Index>(p.threads, 1); ++thread) {
            Memory m;
            m.alphas = take.template take<T>(chunk * alphas * L);
            m.beside = take.template take<T>(chunk * L * width);
            m.A = take.template take<T>(r.K * chunk * L * A_width);
            m.dA = take.template take<T>(r.Dp * L);
            m.dS = take.template take<T>(2 * r.K * r.Dp * L);
            m.dz = take.template take<T>(r.Mp * L);
            m.r = take.template take<T>(outputs * L);
            m.e = take.template take<T>(r.Mp * L);
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

    void pack_weights() {
        const T *Vw = (const T*)p.V, *Ww = (const T*)p.W, *U = (const T*)p.U_o, *Wz = (const T*)p.W_z;
        const Index inputs = outputs - r.Mp, N = r.N, M = r.M, D = r.D;
        std::vector<Index> source(r.all);
        for (Index row = 0; row < r.all; ++row) source[row] = r.source(row, p.adaptive);
        pack<C>(back_w, outputs, r.all, [&](Index row, Index c) -> T {
            if (source[c] < 0) return 0;
            if (row < inputs) return row < N ? Vw[source[c] * N + row] : 0;
            return row - inputs < M ? Ww[source[c] * M + row - inputs] : 0;
        });
        for (Index k = 0; k < r.K; ++k)
            pack<C>(dA_w + k * r.Dp * 2 * r.Mp, r.Dp, 2 * r.Mp, [&](Index d, Index c) -> T {
                const Index m = c % r.Mp;
                return d < D && m < M ? (c < r.Mp ? U : Wz)[(k * M + m) * D + d] : 0;
            });
    }

    void run() {
        pack_weights();
        for (Sums& s : sums) {
            std::fill_n(s.VW, r.all * width, T(0));
            std::fill_n(s.UW, 2 * r.K * r.Mp * A_width, T(0));
            std::fill_n(s.b, alphas * (C::solo ? 1 : W), T(0));
            std::fill_n(s.omega, r.Kp * L, 0.0);
        }
        in_parallel(groups, p.threads, [&](Index group, Index thread) {
            for (Index tile = group; tile < Index(plan.tiles.size()); tile += groups)
                run_tile(plan.tiles[tile], memory[thread], sums[group]);
        });
        write_gradients();
    }

    void run_tile(const TilePlan& tile, Memory& m, Sums& s) {
        const Index state = 2 * r.K * r.Dp * L, step = History<C>::size(r), inputs = outputs - r.Mp;
        T *initial = (T*)p.history + tile.history, *steps = initial + state, *r_z = m.r + inputs * L;
        std::fill_n(m.dS, state, T(0));
        std::fill_n(m.r, outputs * L, T(0));
        std::fill_n(m.e, r.Mp * L, T(0));
        std::fill_n(m.df_fre, r.Kp * L, T(0));
        std::fill_n(m.dphase, r.Kp * L, T(0));
        std::fill_n(m.beside, chunk * L * width, T(0));
        std::fill_n(m.A, r.K * chunk * L * A_width, T(0));
        std::fill_n(m.zeros, std::max(r.N, r.Mp) + W, T(0));
        std::fill_n(m.dtheta, r.Kp * L, 0.0);
        if (p.mask) {
            std::fill_n(m.mask, r.Mp * L, T(0));
            gather<C>((const T*)p.mask + tile.b0 * r.M, r.M, tile.lanes, m.zeros, m.mask);
        }
        Index running = 0, filled = 0;
        for (Index t = tile.steps - 1; t >= 0; --t) {
            const Index n = std::min<Index>(tile.lanes, p.batch_sizes[t] - tile.b0), row = plan.row_start[t] + tile.b0;
            begin_lanes(tile, running, n, m);
            running = n;
            const History<C> h(steps + t * step, r);
            const T* S_before = t ? History<C>(steps + (t - 1) * step, r).S : initial;
            T* alpha = m.alphas + filled * alphas * L;
            gather<C>((const T*)p.dz + row * r.M, r.M, n, m.zeros, m.e);
            read_out(h, m, alpha, r_z);
            for (Index k = 0; k < r.K; ++k) {
                const Index o = (r.gates + k * r.Mp) * L, y = (r.all + k * r.Mp) * L;
                product<C>(dA_w + k * r.Dp * 2 * r.Mp, r.Dp, {alpha + o, r.Mp}, {alpha + y, r.Mp}, nullptr, m.dA);
                if (p.adaptive || p.domega) states<true>(k, h, S_before, m, filled);
                else states<false>(k, h, S_before, m, filled);
            }
            gates(h, m, alpha);
            phases(h, m, alpha, tile, row, n, t, s);
            product<C>(back_w, outputs, {alpha, r.all}, {nullptr, 0}, nullptr, m.r);
            if (p.mask) Forward<C>::multiply(r_z, m.mask, r.Mp * L);
            if (p.dx) scatter<C>(m.r, r.N, n, (T*)p.dx + row * r.N, r.N);
            copy_beside(tile, t, n, m, filled);
            if (++filled == chunk || t == 0) {
                add_gradients(m, s, filled);
                filled = 0;
            }
        }
        write_state<C>(m.dS, r, tile.b0, 0, tile.lanes, p.dre);
        write_state<C>(m.dS + state / 2, r, tile.b0, 0, tile.lanes, p.dim);
        scatter<C>(r_z, r.M, tile.lanes, (T*)p.dz_start + tile.b0 * r.M, r.M);
        for (Index l = 0; l < tile.lanes; ++l)
            for (Index k = 0; k < r.K; ++k) p.dtheta_start[(tile.b0 + l) * r.K + k] = m.dtheta[k * L + l];
    }

    // Sequences that end at this step bring the gradients of their last state.
    void begin_lanes(const TilePlan& tile, Index begin, Index end, Memory& m) const {
        read_state<C>(p.dre_last, r, tile.b0, begin, end, m.dS);
        read_state<C>(p.dim_last, r, tile.b0, begin, end, m.dS + r.K * r.Dp * L);
        for (Index l = begin; l < end; ++l)
            for (Index k = 0; k < r.K; ++k) m.dtheta[k * L + l] = p.dtheta_last[(tile.b0 + l) * r.K + k];
    }

    void read_out(const History<C>& h, Memory& m, T* alpha, const T* r_z) const {
        const Index count = r.Mp * L;
        for (Index j = 0; j < count; j += W) C::store(m.dz + j, C::load(m.e + j) + C::load(r_z + j));
        for (Index k = 0; k < r.K; ++k) {
            T *alpha_o = alpha + r.gates * L + k * count, *alpha_y = alpha + r.all * L + k * count;
            for (Index j = 0; j < count; j += W) {
                const V dz = C::load(m.dz + j), o = C::load(h.o + k * count + j), y = C::load(h.y + k * count + j);
                const V dz_o = dz * o;
                C::store(alpha_o + j, dz_o * y * (T(1) - o));
                C::store(alpha_y + j, dz_o * (T(1) - y * y));
            }
        }
    }

    // One frequency: dA to dS, and its part of the gradients of p = g i, of f and of theta.
    template <bool Phase>
    void states(Index k, const History<C>& h, const T* S_before, Memory& m, Index filled) const {
        const Index plane = r.Dp * L, im = r.K * plane;
        const T *ste = h.gates, *g = h.gates + r.g * L, *i = h.gates + r.i * L;
        constexpr T epsilon = sizeof(T) == 8 ? T(1e-24) : T(1e-12);
        V f_fre[NV], c[NV], s[NV], df_fre[NV], dphase[NV];
        for (int v = 0; v < NV; ++v) {
            f_fre[v] = Forward<C>::across(h.gates + r.fre * L, k, v);
            c[v] = Forward<C>::across(h.cosine, k, v), s[v] = Forward<C>::across(h.sine, k, v);
            df_fre[v] = dphase[v] = V{};
        }
        for (Index d = 0; d < plane; d += W * NV)
            for (int v = 0; v < NV; ++v) {
                const Index j = d + v * W, at = k * plane + j;
                const V re = C::load(h.S + at), imaginary = C::load(h.S + im + at);
                const V square = re * re + imaginary * imaginary + epsilon;
                const V inverse = sizeof(T) == 8 ? T(1) / square_root<T, W>(square)
                                                 : reciprocal_square_root<T, W>(square);
                const V dA = C::load(m.dA + j) * inverse;
                C::store(m.dA + j, square * inverse);  // A takes the place of its gradient
                const V dR = C::load(m.dS + at) + dA * re, dI = C::load(m.dS + im + at) + dA * imaginary;
                const V dp = dR * c[v] + dI * s[v];
                const V f_ste = C::load(ste + j), f = f_ste * f_fre[v];
                const V dF = dR * C::load(S_before + at) + dI * C::load(S_before + im + at);
                C::store(m.dp + j, k == 0 ? dp : C::load(m.dp + j) + dp);
                C::store(m.df_ste + j, k == 0 ? dF * f_fre[v] : C::load(m.df_ste + j) + dF * f_fre[v]);
                df_fre[v] += dF * f_ste;
                if (Phase) dphase[v] += C::load(g + j) * C::load(i + j) * (dI * c[v] - dR * s[v]);
                C::store(m.dS + at, dR * f);
                C::store(m.dS + im + at, dI * f);
            }
        for (int v = 0; v < NV; ++v) {
            reduce(m.df_fre, k, v, df_fre[v]);
            if (Phase) reduce(m.dphase, k, v, dphase[v]);
        }
        scatter<C>(m.dA, r.D, L, m.A + (k * chunk + filled) * L * A_width, A_width);
    }

    static INLINE void reduce(T* values, Index k, int v, V sum) {
        if (C::solo) values[k] = horizontal_sum<T, W>(sum);
        else C::store(values + k * L + v * W, sum);
    }

    void gates(const History<C>& h, Memory& m, T* alpha) const {
        const T *g = h.gates + r.g * L, *i = h.gates + r.i * L;
        for (Index j = 0; j < r.Dp * L; j += W) {
            const V f = C::load(h.gates + j), g_j = C::load(g + j), i_j = C::load(i + j), dp = C::load(m.dp + j);
            C::store(alpha + j, C::load(m.df_ste + j) * f * (T(1) - f));
            C::store(alpha + r.g * L + j, dp * i_j * g_j * (T(1) - g_j));
            C::store(alpha + r.i * L + j, dp * g_j * (T(1) - i_j * i_j));
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
    void copy_beside(const TilePlan& tile, Index t, Index n, Memory& m, Index filled) const {
        const T* mask = (const T*)p.mask;
        for (Index l = 0; l < L; ++l) {
            T* to = m.beside + (filled * L + l) * width;
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
        const Alphas<T> alpha{m.alphas, steps, alphas * L, L};
        add_gradient<C>(alpha, r.all, m.beside, width, s.VW);
        for (Index k = 0; k < r.K; ++k) {
            const T* A = m.A + k * chunk * L * A_width;
            T* UW = s.UW + 2 * k * r.Mp * A_width;
            Alphas<T> part = alpha;
            part.values = m.alphas + (r.gates + k * r.Mp) * L;
            add_gradient<C>(part, r.Mp, A, A_width, UW);
            part.values = m.alphas + (r.all + k * r.Mp) * L;
            add_gradient<C>(part, r.Mp, A, A_width, UW + r.Mp * A_width);
        }
        constexpr int vectors = C::solo ? 1 : NV, units = C::solo ? W : 1;
        for (Index row = 0; row < alphas; row += units) {
            T* b = s.b + row * (C::solo ? 1 : W);
            V sum = C::load(b);
            for (Index step = 0; step < steps; ++step)
                for (int v = 0; v < vectors; ++v) sum += C::load(m.alphas + step * alphas * L + row * L + v * W);
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
            db[to] = bias_sum(row);
        }
        for (Index k = 0; k < r.K; ++k)
            for (Index m = 0; m < r.M; ++m) {
                const Index from = (2 * k * r.Mp + m) * A_width, to = k * r.M + m;
                copy_sum(&Sums::UW, from, r.D, dU + to * r.D);
                copy_sum(&Sums::UW, from + r.Mp * A_width, r.D, dWz + to * r.D);
                dbz[to] = bias_sum(r.all + k * r.Mp + m);
            }
        if (p.domega)
            for (Index k = 0; k < r.K; ++k) {
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

    T bias_sum(Index row) const {
        T sum = 0;
        for (const Sums& s : sums) sum += C::solo ? s.b[row] : horizontal_sum<T, W>(C::load(s.b + row * W));
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

// The tile is chosen by the batch alone, so that results do not depend on the number of threads.
template <class T>
void choose_tile(Problem& p, int what) {
    constexpr int W = SFM_VECTOR_BYTES / sizeof(T);
    if (p.B == 1) return call<Tile<T, W, 1, true>>(p, what);
    if (W > 8 && p.B <= W / 2) return call<Tile<T, (W > 8 ? W / 2 : W), 1, false>>(p, what);
    if (p.B <= W) return call<Tile<T, W, 1, false>>(p, what);
    return call<Tile<T, W, 2, false>>(p, what);
}

template <int What>
void door(Problem& p) {
    p.is_double ? choose_tile<double>(p, What) : choose_tile<float>(p, What);
}

}  // namespace
