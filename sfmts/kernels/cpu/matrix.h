// Matrix products on a tile of sequences.  Arrays are [feature][lane]; a tile has L lanes.
//
// Batched tiles hold one sequence in a lane and multiply vectors of lanes by single weights; a solo tile (L = 1) holds
// one sequence and multiplies single features by vectors of weights.  Both read weights packed in panels: H rows of the
// matrix, column by column.
#pragma once

#include "vectors.h"

namespace {

// How a tile lies in vectors of W numbers: NV vectors of lanes, or a solo tile whose features fill the vectors.
template <class T_, int W_, int NV_, bool Solo_>
struct Tile {
    using T = T_;
    using V = Vec<T_, W_>;
    static constexpr int W = W_, NV = NV_;
    static constexpr bool solo = Solo_;
    static constexpr int L = Solo_ ? 1 : W_ * NV_;
    static constexpr int step = Solo_ ? W_ : 1;  // rows are counted in these units
    // Accumulators that fit into the registers beside the operands.
    static constexpr int panel = Solo_ ? 8 : (SFM_REGISTERS - 4) / NV_;

    static INLINE V load(const T* p) { return ::load<T, W>(p); }
    static INLINE void store(T* p, V v) { ::store<T, W>(p, v); }
    static INLINE V splat(T s) { return ::splat<T, W>(s); }
    static Index padded(Index features) { return (features + step - 1) / step * step; }
};

// Calls f(first row, rows) for panels of nearly equal height.
template <class C, class F>
INLINE void for_each_panel(Index rows, F f) {
    const Index units = rows / C::step, panels = (units + C::panel - 1) / C::panel;
    Index first = 0;
    for (Index p = 0; p < panels; ++p) {
        const Index height = (units + p) / panels;
        f(first * C::step, height * C::step);
        first += height;
    }
}

// Packs a matrix of `rows` (padded) rows whose entry (r, c) is at(r, c).
template <class C, class At>
void pack(typename C::T* packed, Index rows, Index columns, At at) {
    for_each_panel<C>(rows, [&](Index first, Index height) {
        for (Index r = 0; r < height; ++r)
            for (Index c = 0; c < columns; ++c) packed[c * height + r] = at(first + r, c);
        packed += height * columns;
    });
}

// A vector that a matrix multiplies: features [count][L].
template <class T>
struct Operand {
    const T* values;
    Index count;
};

// out[H rows] = initial + panel * (first; second), where initial is the bias or, without one, zero.
template <class C, int H>
void panel_product(const typename C::T* w, Operand<typename C::T> first, Operand<typename C::T> second,
                   const typename C::T* bias, typename C::T* out) {
    using V = typename C::V;
    constexpr int W = C::W, NV = C::NV, L = C::L;
    V sum[H][NV];
#pragma GCC unroll 32
    for (int h = 0; h < H; ++h)
#pragma GCC unroll 2
        for (int v = 0; v < NV; ++v) {
            if (C::solo) sum[h][v] = bias ? C::load(bias + h * W) : V{};
            else sum[h][v] = bias ? C::splat(bias[h]) : V{};
        }
    for (const Operand<typename C::T>* operand : {&first, &second}) {
        const typename C::T* in = operand->values;
        for (Index c = 0; c < operand->count; ++c, in += L, w += H * C::step) {
            V x[NV];
#pragma GCC unroll 2
            for (int v = 0; v < NV; ++v) x[v] = C::solo ? C::splat(in[0]) : C::load(in + v * W);
#pragma GCC unroll 32
            for (int h = 0; h < H; ++h) {
                const V weight = C::solo ? C::load(w + h * W) : C::splat(w[h]);
#pragma GCC unroll 2
                for (int v = 0; v < NV; ++v) sum[h][v] += weight * x[v];
            }
        }
    }
#pragma GCC unroll 32
    for (int h = 0; h < H; ++h)
#pragma GCC unroll 2
        for (int v = 0; v < NV; ++v) C::store(out + (C::solo ? h * W : h * L + v * W), sum[h][v]);
}

template <class C>
struct PanelTable {
    using T = typename C::T;
    using Function = void (*)(const T*, Operand<T>, Operand<T>, const T*, T*);
    template <std::size_t... H>
    static Function choose(Index height, std::index_sequence<H...>) {
        static constexpr Function functions[] = {panel_product<C, int(H) + 1>...};
        return functions[height - 1];
    }
};

// out (rows x L) = bias + matrix * (first; second)
template <class C>
void product(const typename C::T* packed, Index rows, Operand<typename C::T> first, Operand<typename C::T> second,
             const typename C::T* bias, typename C::T* out) {
    for_each_panel<C>(rows, [&](Index row, Index height) {
        const auto function = PanelTable<C>::choose(height / C::step, std::make_index_sequence<C::panel>{});
        function(packed, first, second, bias ? bias + row : nullptr, out + row * C::L);
        packed += height * (first.count + second.count);
    });
}

// -- gradients of weights

// The gradients of pre-activations of a chunk of steps: [step][row][lane].
template <class T>
struct Alphas {
    const T* values;
    Index steps, step_stride, lanes;
};

// total[H rows][NC vectors] += sum over steps and lanes of alpha[row] * beside[step, lane][column]
template <class C, int H, int NC>
void gradient_block(Alphas<typename C::T> alphas, const typename C::T* beside, Index beside_stride,
                    typename C::T* total, Index total_stride) {
    using V = typename C::V;
    constexpr int W = C::W, L = C::L;
    V sum[H][NC];
#pragma GCC unroll 32
    for (int h = 0; h < H; ++h)
#pragma GCC unroll 2
        for (int v = 0; v < NC; ++v) sum[h][v] = C::load(total + h * total_stride + v * W);
    for (Index s = 0; s < alphas.steps; ++s) {
        const typename C::T* alpha = alphas.values + s * alphas.step_stride;
        for (Index l = 0; l < alphas.lanes; ++l, ++alpha, beside += beside_stride) {
            V x[NC];
#pragma GCC unroll 2
            for (int v = 0; v < NC; ++v) x[v] = C::load(beside + v * W);
#pragma GCC unroll 32
            for (int h = 0; h < H; ++h) {
                const V a = C::splat(alpha[h * L]);
#pragma GCC unroll 2
                for (int v = 0; v < NC; ++v) sum[h][v] += a * x[v];
            }
        }
    }
#pragma GCC unroll 32
    for (int h = 0; h < H; ++h)
#pragma GCC unroll 2
        for (int v = 0; v < NC; ++v) C::store(total + h * total_stride + v * W, sum[h][v]);
}

template <class C, int NC>
struct GradientTable {
    using T = typename C::T;
    using Function = void (*)(Alphas<T>, const T*, Index, T*, Index);
    template <std::size_t... H>
    static Function choose(Index height, std::index_sequence<H...>) {
        static constexpr Function functions[] = {gradient_block<C, int(H) + 1, NC>...};
        return functions[height - 1];
    }
};

// total (rows x stride) += alphas (rows x steps * lanes) * beside (steps * lanes x stride); stride is a multiple of W.
template <class C>
void add_gradient(Alphas<typename C::T> alphas, Index rows, const typename C::T* beside, Index stride,
                  typename C::T* total) {
    constexpr int H = (SFM_REGISTERS - 4) / 2;
    using Heights = std::make_index_sequence<H>;
    const Index panels = (rows + H - 1) / H;
    for (Index column = 0; column < stride; column += 2 * C::W) {
        const bool pair = stride - column > C::W;
        Index row = 0;
        for (Index p = 0; p < panels; ++p) {
            const Index height = (rows + p) / panels;
            const auto function = pair ? GradientTable<C, 2>::choose(height, Heights{})
                                       : GradientTable<C, 1>::choose(height, Heights{});
            Alphas<typename C::T> part = alphas;
            part.values += row * C::L;
            function(part, beside + column, stride, total + row * stride + column, stride);
            row += height;
        }
    }
}

}  // namespace
