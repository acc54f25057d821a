// Matrix products on a tile of sequences. Arrays are [feature][lane]; a tile has L lanes.
//
// A batched tile holds one sequence per lane and multiplies vectors of lanes by single weights. A solo tile (L = 1)
// holds one sequence and multiplies single features by vectors of weights. Both read weights packed in panels: H rows
// of the matrix, column by column.
#pragma once

#include "vectors.h"

namespace {

// The layout of a tile in vectors of W numbers: NV vectors of lanes, or a solo tile whose features fill the vectors.
template <class T_, int W_, int NV_, bool Solo_>
struct Tile {
    using T = T_;
    using V = Vec<T_, W_>;
    static constexpr int W = W_, NV = NV_;
    static constexpr bool solo = Solo_;
    static constexpr int L = Solo_ ? 1 : W_ * NV_;
    static constexpr int step = Solo_ ? W_ : 1;  // unit in which rows are counted
    static constexpr int chunk = L < 128 ? 128 / L : 1;  // steps whose weight gradients are formed together
    // Rows whose accumulators fit into the registers together with the operands.
    static constexpr int panel = Solo_ ? 8 : (SFM_REGISTERS - 4) / NV_;

    static INLINE V load(const T* p) { return ::load<T, W>(p); }
    static INLINE void store(T* p, V v) { ::store<T, W>(p, v); }
    static INLINE V splat(T s) { return ::splat<T, W>(s); }
    static Index padded(Index features) { return (features + step - 1) / step * step; }
};

// Products of rows with rows use whole vectors, even if the tile has fewer lanes.
template <class T>
using Whole = Tile<T, SFM_VECTOR_BYTES / sizeof(T), 1, false>;

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

// Packs the columns of one panel. row(r) points to the first number of row r, or is null for a row of zeros.
template <class C, class Row>
typename C::T* pack_rows(typename C::T* packed, Index first, Index height, Index columns, Row row) {
    using T = typename C::T;
    constexpr int W = C::W;
    static const T zeros[W] = {};
    Index c = 0;
    if (C::solo)
        for (; c + W <= columns; c += W)
            for (Index r = 0; r < height; r += W) {
                typename C::V block[W];
#pragma GCC unroll 16
                for (int i = 0; i < W; ++i) {
                    const T* from = row(first + r + i);
                    block[i] = C::load(from ? from + c : zeros);
                }
                transpose<T, W>(block);
#pragma GCC unroll 16
                for (int i = 0; i < W; ++i) C::store(packed + (c + i) * height + r, block[i]);
            }
    for (Index r = 0; r < height && c < columns; ++r) {
        const T* from = row(first + r);
        for (Index j = c; j < columns; ++j) packed[j * height + r] = from ? from[j] : T(0);
    }
    return packed + height * columns;
}

// Packs a matrix of `rows` rows; those after the first `count` are zero. column(c) points to the contiguous numbers of
// column c, or is null for a column of zeros.
template <class C, class Column>
void pack_columns(typename C::T* packed, Index rows, Index count, Index columns, Column column) {
    using T = typename C::T;
    for_each_panel<C>(rows, [&](Index first, Index height) {
        const Index there = std::max<Index>(std::min(height, count - first), 0);
        for (Index c = 0; c < columns; ++c, packed += height) {
            const T* from = column(c);
            for (Index r = 0; r < there; ++r) packed[r] = from ? from[first + r] : T(0);
            for (Index r = there; r < height; ++r) packed[r] = T(0);
        }
    });
}

// Memory that the next steps read. A history is much larger than the caches, so products prefetch one line at a time
// while they compute.
class Ahead {
  public:
    template <class T>
    void add(const T* values, Index count) {
        if (last_ < capacity) ranges_[last_++] = {(const char*)values, (const char*)(values + count)};
    }
    // Returns where the next `lines` prefetches begin, and sets their stride; 0 if nothing is left.
    INLINE const char* take(Index lines, Index& stride) {
        while (first_ < last_ && ranges_[first_].at >= ranges_[first_].end) ++first_;
        stride = first_ < last_ ? line : 0;
        if (!stride) return (const char*)this;
        ranges_[first_].at += lines * line;
        return ranges_[first_].at - lines * line;
    }

  private:
    static constexpr Index line = 64, capacity = 4;
    struct Range {
        const char *at, *end;
    };
    Range ranges_[capacity];
    Index first_ = 0, last_ = 0;
};

INLINE void ask_for(const char* address) { __builtin_prefetch(address, 0, 2); }

// A factor of a matrix: features [count][L].
template <class T>
struct Operand {
    const T* values;
    Index count;
};

// out[H rows] = initial + panel * (first; second), where initial is the bias or, without one, zero. In a solo tile, the
// bias may be `out` itself.
template <class C, int H>
void panel_product(const typename C::T* w, Operand<typename C::T> first, Operand<typename C::T> second,
                   const typename C::T* bias, typename C::T* out, const char* ahead, Index stride) {
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
        for (Index c = 0; c < operand->count; ++c, in += L, w += H * C::step, ahead += stride) {
            ask_for(ahead);
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
    using Function = void (*)(const T*, Operand<T>, Operand<T>, const T*, T*, const char*, Index);
    template <std::size_t... H>
    static Function choose(Index height, std::index_sequence<H...>) {
        static constexpr Function functions[] = {panel_product<C, int(H) + 1>...};
        return functions[height - 1];
    }
};

// out (rows x L) = bias + matrix * (first; second)
template <class C>
void product(const typename C::T* packed, Index rows, Operand<typename C::T> first, Operand<typename C::T> second,
             const typename C::T* bias, typename C::T* out, Ahead& ahead) {
    for_each_panel<C>(rows, [&](Index row, Index height) {
        Index stride;
        const char* line = ahead.take(first.count + second.count, stride);
        const auto function = PanelTable<C>::choose(height / C::step, std::make_index_sequence<C::panel>{});
        function(packed, first, second, bias ? bias + row : nullptr, out + row * C::L, line, stride);
        packed += height * (first.count + second.count);
    });
}

// -- sums of outer products, for the gradients of weights

// A matrix whose entry (row, step, lane) is values[step * step_stride + row * row_stride + lane].
template <class T>
struct Left {
    const T* values;
    Index steps, step_stride, row_stride, lanes;
};

// total[H rows][NC vectors] += sum over steps and lanes of left[row, step, lane] * right[step, lane][column]
template <class C, int H, int NC>
void outer_block(Left<typename C::T> left, const typename C::T* right, Index right_stride, typename C::T* total,
                 Index total_stride) {
    using V = typename C::V;
    constexpr int W = C::W;
    V sum[H][NC];
#pragma GCC unroll 32
    for (int h = 0; h < H; ++h)
#pragma GCC unroll 2
        for (int v = 0; v < NC; ++v) sum[h][v] = C::load(total + h * total_stride + v * W);
    const Index stride = left.row_stride;
    for (Index s = 0; s < left.steps; ++s) {
        const typename C::T* entry = left.values + s * left.step_stride;
        for (Index l = 0; l < left.lanes; ++l, ++entry, right += right_stride) {
            V x[NC];
#pragma GCC unroll 2
            for (int v = 0; v < NC; ++v) x[v] = C::load(right + v * W);
#pragma GCC unroll 32
            for (int h = 0; h < H; ++h) {
                const V a = C::splat(entry[h * stride]);
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
struct OuterTable {
    using T = typename C::T;
    using Function = void (*)(Left<T>, const T*, Index, T*, Index);
    template <std::size_t... H>
    static Function choose(Index height, std::index_sequence<H...>) {
        static constexpr Function functions[] = {outer_block<C, int(H) + 1, NC>...};
        return functions[height - 1];
    }
};

// total (rows x columns) += left * right, summed over steps and lanes. Rows of `right` and `total` are padded to whole
// vectors, right_stride and total_stride. At most two vectors of columns at a time: GCC 12 spills more sums.
template <class C>
void add_outer(Left<typename C::T> left, Index rows, const typename C::T* right, Index columns, Index right_stride,
               typename C::T* total, Index total_stride) {
    constexpr int H = (SFM_REGISTERS - 4) / 2, half = C::W > 8 ? C::W / 2 : C::W;
    using Heights = std::make_index_sequence<H>;
    using Half = Tile<typename C::T, half, 1, false>;
    const Index panels = (rows + H - 1) / H;
    for (Index column = 0; column < columns; column += 2 * C::W) {
        const Index rest = columns - column;
        Index row = 0;
        for (Index p = 0; p < panels; ++p) {
            const Index height = (rows + p) / panels;
            const auto function = rest > C::W   ? OuterTable<C, 2>::choose(height, Heights{})
                                  : rest > half ? OuterTable<C, 1>::choose(height, Heights{})
                                                : OuterTable<Half, 1>::choose(height, Heights{});
            Left<typename C::T> part = left;
            part.values += row * left.row_stride;
            function(part, right + column, right_stride, total + row * total_stride + column, total_stride);
            row += height;
        }
    }
}

}  // namespace
