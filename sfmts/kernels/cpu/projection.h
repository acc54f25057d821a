// The pre-activations of a layer and their gradients: a matrix product, and a filter across the steps.
//
//     p_t = V x_t,   a_t = p_t + b + sum_j w_j p_{t-j}
//     dp_t += da_t + sum_j w_j da_{t+j},   dw_j = sum_t da_t p_{t-j},   dV = sum_t dp_t x_t^T,   dx_t = V^T dp_t
//
// The rows of a few steps are filtered while they are still in the caches.
#pragma once

#include "tiles.h"

// The arguments of one call. `_Projection` in _resonator/projection.py mirrors this struct field by field. Arrays are
// contiguous, of float or double (`is_double`). Without lags, p, w and their gradients are not used.
struct Projection {
    int64_t is_double, is_backward, threads;
    int64_t T, B, N, R, n_lags;

    const void *x, *V, *b, *w;  // (T, B, N), (R, N), (R,) or null: zeros, (n_lags, R)
    void* p;                    // (n_lags + T, B, R): the first n_lags are inputs, the forward pass writes the others
    void* a;                    // (T, B, R)

    const void *da, *dp;   // (T, B, R), and other gradients of p, (n_lags + T, B, R) or null
    void* dx;              // null if not needed
    double *dV, *db, *dw;  // (R, N), (R,), (n_lags, R); sums are added to their values
};

namespace {

// Returns the distance of two rows: whole vectors, but not a multiple of 1024 bytes, at which all rows would compete
// for a few sets of the cache.
template <class T>
Index row_stride(Index numbers) {
    constexpr Index W = Whole<T>::W, refused = 1024 / Index(sizeof(T));
    const Index whole = (numbers + W - 1) / W * W;
    return whole % refused ? whole : whole + W;
}

// Copies rows x columns numbers to rows that are `stride` apart, and pads them with zeros.
template <class T>
void pad_rows(const T* from, Index rows, Index columns, Index stride, T* to) {
    for (Index r = 0; r < rows; ++r) {
        std::copy_n(from + r * columns, columns, to + r * stride);
        std::fill(to + r * stride + columns, to + (r + 1) * stride, T(0));
    }
}

// total += left * right, where left has `rows` rows of `inner` numbers
template <class T>
void add_product(const T* left, Index left_stride, Index rows, Index inner, const T* right, Index right_stride,
                 Index columns, T* total, Index total_stride) {
    add_outer<Whole<T>>(Left<T>{left, 1, 0, left_stride, inner}, rows, right, columns, right_stride, total,
                        total_stride);
}

// total += left^T * right, where left has rows of `columns` and right of `right_columns` numbers
template <class T>
void add_transposed_product(const T* left, Index left_stride, Index columns, Index rows, const T* right,
                            Index right_stride, Index right_columns, T* total, Index total_stride) {
    add_outer<Whole<T>>(Left<T>{left, rows, left_stride, 1, 1}, columns, right, right_columns, right_stride, total,
                        total_stride);
}

// y += factors * x
template <class T>
void add_scaled(const T* __restrict factors, const T* __restrict x, T* __restrict y, Index count) {
    for (Index c = 0; c < count; ++c) y[c] += factors[c] * x[c];
}

template <class T>
void add(const T* __restrict x, T* __restrict y, Index count) {
    for (Index c = 0; c < count; ++c) y[c] += x[c];
}

// Runs some sequences through all steps, in blocks of steps that give about block_rows rows.
template <class T>
class Projector {
    const Projection& p;
    const Index b0, n, steps;         // first sequence, number of sequences, steps per block
    const Index x_stride, stride;     // of rows of N and of R numbers
    Allocator take;
    T *const inputs, *const outputs;  // rows of a block: x (N), and p or its gradient (R)
    T* const input_gradients;         // rows of a block (N)
    T* const sums;                    // (1 + n_lags, R): a block's share of db and dw

  public:
    // Takes `count` sequences; the memory is for `most`.
    Projector(const Projection& projection, Index first, Index count, Index most, void* memory)
        : p(projection), b0(first), n(count), steps(std::min<Index>(p.T, std::max<Index>(block_rows / most, 1))),
          x_stride(row_stride<T>(p.N)), stride(row_stride<T>(p.R)), take(memory),
          inputs(take.template take<T>(steps * n * x_stride)), outputs(take.template take<T>(steps * n * stride)),
          input_gradients(take.template take<T>(p.dx ? steps * n * x_stride : 0)),
          sums(take.template take<T>(p.is_backward ? (1 + p.n_lags) * p.R : 0)) {}

    static constexpr Index block_rows = 128;
    static Index bytes(const Projection& p, Index n) { return Projector(p, 0, n, n, nullptr).take.used(); }

    // `matrix` is V^T in rows of `stride`.
    void forward(const T* matrix) {
        for (Index t = 0; t < p.T; t += steps) {
            const Index count = std::min(steps, p.T - t);
            read_inputs(t, count);
            std::fill_n(outputs, count * n * stride, T(0));
            add_product(inputs, x_stride, count * n, p.N, matrix, stride, p.R, outputs, stride);
            for (Index s = 0; s < count; ++s)
                for (Index i = 0; i < n; ++i) filter(t + s, i, outputs + (s * n + i) * stride);
        }
    }

    // `matrix` is V in rows of x_stride. Adds the gradients of these sequences to dV (R, x_stride), and those of b and
    // w to totals (1 + n_lags, R).
    void backward(const T* matrix, T* dV, double* totals) {
        for (Index t = 0; t < p.T; t += steps) {
            const Index count = std::min(steps, p.T - t);
            read_inputs(t, count);
            std::fill_n(sums, (1 + p.n_lags) * p.R, T(0));
            for (Index s = 0; s < count; ++s)
                for (Index i = 0; i < n; ++i) filter_back(t + s, i, outputs + (s * n + i) * stride);
            for (Index j = 0; j < (1 + p.n_lags) * p.R; ++j) totals[j] += sums[j];
            add_transposed_product(outputs, stride, p.R, count * n, inputs, x_stride, p.N, dV, x_stride);
            if (!p.dx) continue;
            std::fill_n(input_gradients, count * n * x_stride, T(0));
            add_product(outputs, stride, count * n, p.R, matrix, x_stride, p.N, input_gradients, x_stride);
            for (Index s = 0; s < count; ++s)
                for (Index i = 0; i < n; ++i)
                    std::copy_n(input_gradients + (s * n + i) * x_stride, p.N, row<T>(p.dx, t + s, i, p.N));
        }
    }

  private:
    template <class Number, class Pointer>
    Number* row(Pointer array, Index t, Index i, Index size) const {
        return static_cast<Number*>(array) + (t * p.B + b0 + i) * size;
    }

    void read_inputs(Index t, Index count) {
        for (Index s = 0; s < count; ++s)
            pad_rows(row<const T>(p.x, t + s, 0, p.N), n, p.N, x_stride, inputs + s * n * x_stride);
    }

    // a_t = p_t + b + sum_j w_j p_{t-j} of one sequence
    void filter(Index t, Index i, const T* projected) {
        T* const a = row<T>(p.a, t, i, p.R);
        std::copy_n(projected, p.R, a);
        if (p.b) add(static_cast<const T*>(p.b), a, p.R);
        if (!p.n_lags) return;
        std::copy_n(projected, p.R, row<T>(p.p, p.n_lags + t, i, p.R));
        for (Index lag = 1; lag <= p.n_lags; ++lag)
            add_scaled(weights(lag), row<const T>(p.p, p.n_lags + t - lag, i, p.R), a, p.R);
    }

    // dp_t = da_t + sum_j w_j da_{t+j} + dp_t from outside, of one sequence;  db += da_t;  dw_j += da_t p_{t-j}
    void filter_back(Index t, Index i, T* dprojected) {
        const T* const da = row<const T>(p.da, t, i, p.R);
        std::copy_n(da, p.R, dprojected);
        std::fill(dprojected + p.R, dprojected + stride, T(0));
        add(da, sums, p.R);
        if (!p.n_lags) return;
        if (p.dp) add(row<const T>(p.dp, p.n_lags + t, i, p.R), dprojected, p.R);
        for (Index lag = 1; lag <= p.n_lags; ++lag) {
            if (t + lag < p.T) add_scaled(weights(lag), row<const T>(p.da, t + lag, i, p.R), dprojected, p.R);
            add_scaled(da, row<const T>(p.p, p.n_lags + t - lag, i, p.R), sums + lag * p.R, p.R);
        }
    }

    const T* weights(Index lag) const { return static_cast<const T*>(p.w) + (lag - 1) * p.R; }
};

// Returns V in the order that the products read: by columns for the forward pass, by rows for the backward pass.
template <class T>
std::vector<T> padded_matrix(const Projection& p) {
    const T* const V = static_cast<const T*>(p.V);
    const Index stride = row_stride<T>(p.is_backward ? p.N : p.R);
    std::vector<T> matrix((p.is_backward ? p.R : p.N) * stride);
    if (p.is_backward) {
        pad_rows(V, p.R, p.N, stride, matrix.data());
    } else {
        for (Index r = 0; r < p.R; ++r)
            for (Index c = 0; c < p.N; ++c) matrix[c * stride + r] = V[r * p.N + c];
    }
    return matrix;
}

// The batch is cut in the same way for any number of threads, so that sums do not depend on it.
template <class T>
void project_as(const Projection& p) {
    constexpr Index fewest = 8, most_items = 16;
    const Index n = std::min(p.B, std::max(fewest, (p.B + most_items - 1) / most_items));
    const Index items = (p.B + n - 1) / n, bytes = Projector<T>::bytes(p, n);
    const Index threads = std::min(std::max<Index>(p.threads, 1), items);
    const Index dV_stride = row_stride<T>(p.N), dV_size = p.R * dV_stride, sums = (1 + p.n_lags) * p.R;
    const Index shares = p.is_backward ? items : 0;
    const std::vector<T> matrix = padded_matrix<T>(p);
    const std::unique_ptr<char[]> memory(new char[threads * bytes + cache_line]);  // not filled with zeros
    char* const aligned = memory.get() + cache_line - reinterpret_cast<uintptr_t>(memory.get()) % cache_line;
    std::vector<T> dV(shares * dV_size);
    std::vector<double> totals(shares * sums);
    in_parallel(items, threads, [&](Index item, Index thread) {
        Projector<T> part(p, item * n, std::min(n, p.B - item * n), n, aligned + thread * bytes);
        if (p.is_backward) part.backward(matrix.data(), dV.data() + item * dV_size, totals.data() + item * sums);
        else part.forward(matrix.data());
    });
    for (Index item = 0; item < shares; ++item) {
        for (Index r = 0; r < p.R; ++r)
            for (Index c = 0; c < p.N; ++c) p.dV[r * p.N + c] += dV[item * dV_size + r * dV_stride + c];
        const double* const total = totals.data() + item * sums;
        for (Index r = 0; r < p.R; ++r) p.db[r] += total[r];
        for (Index j = 0; j < p.n_lags * p.R; ++j) p.dw[j] += total[p.R + j];
    }
}

void project(const Projection& p) { p.is_double ? project_as<double>(p) : project_as<float>(p); }

}  // namespace
