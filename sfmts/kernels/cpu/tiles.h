// Tiles of a batch, their layout in memory, and the parts of a step that both passes share.
//
// Letters are those of _sfm/reference.py. Arrays of a tile are [feature][lane], and [k][d][lane] for the state. The
// history keeps gates, o, y, and cos and sin of theta of each step for the backward pass. It keeps S only every few
// steps (checkpoints). The backward pass recomputes the states between two checkpoints, which is faster than moving
// them through memory.
#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include "matrix.h"
#include "problem.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace {

constexpr Index cache_line = 64;

// Hands out pieces of one block of memory; without a block, it counts the bytes. With the address sanitizer, a poisoned
// line follows each piece.
class Allocator {
  public:
    explicit Allocator(void* block) : block_(static_cast<char*>(block)) {}
    Allocator(const Allocator&) = delete;
    Allocator& operator=(const Allocator&) = delete;

    template <class T>
    T* take(Index count) {
        const Index begin = used_;
        used_ += (count * Index(sizeof(T)) + cache_line - 1) / cache_line * cache_line;
#if defined(__SANITIZE_ADDRESS__)
        if (block_) ASAN_POISON_MEMORY_REGION(block_ + used_, cache_line);
        used_ += cache_line;
#endif
        return block_ ? reinterpret_cast<T*>(block_ + begin) : nullptr;
    }
#if defined(__SANITIZE_ADDRESS__)
    ~Allocator() {
        if (block_) ASAN_UNPOISON_MEMORY_REGION(block_, used_);
    }
#endif
    Index used() const { return used_; }

  private:
    char* block_;
    Index used_ = 0;
};

// Rows of the pre-activations in a tile. In a solo tile, features are padded to whole vectors.
template <class C>
struct Rows {
    Index N, D, K, M;            // features
    Index Dp, Kp, Mp;            // padded
    Index fre, g, i, omega, gates;  // first row of each gate after ste; number of rows without o
    Index all;                   // number of rows with o (K blocks of M)

    explicit Rows(const Problem& p) : N(p.N), D(p.D), K(p.K), M(p.M) {
        Dp = C::padded(D), Kp = C::padded(K), Mp = C::padded(M);
        fre = Dp, g = fre + Kp, i = g + Dp, omega = i + Dp;
        gates = omega + (p.adaptive ? Kp : 0);
        all = gates + K * Mp;
    }

    Index state() const { return 2 * K * Dp * C::L; }  // numbers in S: real parts, then imaginary parts

    // Returns the row of V, W and b for a padded row, or -1 for padding.
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

// -- copies between packed rows and tiles

// Calls f(first feature) for blocks of W features. The last block overlaps the previous one instead of being shorter.
template <int W, class F>
INLINE void for_each_block(Index features, F f) {
    if (features < W) return;
    for (Index first = 0; first + W < features; first += W) f(first);
    f(features - W);
}

// Copies n rows of `features` numbers into tile[feature][lane]. The other lanes get 0.
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

// Copies the first n lanes of tile[feature][lane] to rows that are `stride` numbers apart.
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

// Copies between (B, D, K) arrays and the lanes from `begin` to `end` of the tile whose first sequence is `b0`.
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
    Index b0, lanes, steps;      // first sequence, number of sequences, steps of the longest one
    Index history, checkpoints;  // offsets in the history
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

// Runs work(item, thread) for all items on up to `threads` threads including the caller's.
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

// Converts theta (features x lanes, flat, whole vectors) to cosine and sine in T.
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

// omega = 2 pi sigmoid(a)    (Eq. 16)
template <class C>
void angular_frequencies(const typename C::T* a, Index count, double* omega) {
    constexpr int W = wide_lanes<C>;
    for (Index j = 0; j < count; j += W) {
        const auto wide = __builtin_convertvector(load<typename C::T, W>(a + j), Vec<double, W>);
        store<double, W>(omega + j, 6.283185307179586 * Activation<double, W>::sigmoid(wide));
    }
}

// -- parts of a step that both passes share

// Returns the values of frequency k for the vector v of lanes.
template <class C>
INLINE typename C::V across(const typename C::T* values, Index k, int v) {
    return C::solo ? C::splat(values[k]) : C::load(values + k * C::L + v * C::W);
}

template <class C>
INLINE void multiply(typename C::T* values, const typename C::T* factors, Index count) {
    for (Index j = 0; j < count; j += C::W) C::store(values + j, C::load(values + j) * C::load(factors + j));
}

// S_next = f_ste f_fre S + p (cos theta, sin theta) at frequency k    (Eqs. 1-3 and 8).
// Calls each(j, v, re, im) with the new state at offset j of the plane.
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

// p = g i, the drive of the state
template <class C>
INLINE void drive(const Rows<C>& r, const History<C>& h, typename C::T* p) {
    for (Index j = 0; j < r.Dp * C::L; j += C::W)
        C::store(p + j, C::load(h.gates + r.g * C::L + j) * C::load(h.gates + r.i * C::L + j));
}

// A = sqrt(Re^2 + Im^2 + epsilon) and 1 / A    (Eq. 4); epsilon keeps the gradient finite
template <class C>
INLINE Root<typename C::T, C::W> amplitude(typename C::V re, typename C::V im) {
    constexpr auto epsilon = sizeof(typename C::T) == 8 ? 1e-24 : 1e-12;
    return Root<typename C::T, C::W>(re * re + (im * im + typename C::T(epsilon)));
}

}  // namespace
