// The forward pass of the SFM kernel: a tile runs through all its steps on one thread. One step computes
//
//     a = V x + W z' + b,   f_ste, f_fre, g = sigmoid(a),   i = tanh(a)      (Eqs. 6, 7, 9, 10)
//     theta = omega t,  or for an accumulated phase  theta' + omega (t - t')
//     S = f_ste f_fre S' + g i (cos theta, sin theta),   A = |S|             (Eqs. 1-4, 8)
//     o = sigmoid(U_o A + a_o),   y = tanh(W_z A + b_z),   z = sum_k o y     (Eqs. 11-13)
#pragma once

#include "tiles.h"

namespace {

template <class C>
struct Forward {
    using T = typename C::T;
    using V = typename C::V;
    static constexpr int W = C::W, NV = C::NV, L = C::L;
    static constexpr Index block = 32;  // steps whose V x a solo tile computes together
    using Curve = Activation<T, W>;

    struct Memory {  // working memory of one thread
        T *fed, *S, *p, *A, *z, *mask, *zeros, *steps;
        double *theta, *omega, *t, *t_before;
    };

    Problem& p;
    const Rows<C> r;
    const Tiles<C> plan;
    const bool narrow;         // M = 1: the loop over states also computes the read-out
    const Index inputs;        // features of x in [x | z], which the gates read
    const Index fed;           // features of [x | z]
    const Index gate_rows;     // rows of the product for the gates
    const Index o_stride;      // between the o and y of two frequencies; 0 without history: they share memory
    T *gates_w, *o_w, *y_w, *V_w, *bias, *bias_y;  // packed weights
    Allocator take;
    std::vector<Memory> memory;

    Forward(Problem& problem, void* scratch)
        : p(problem), r(problem), plan(problem), narrow(!C::solo && r.M == 1), inputs(C::solo ? 0 : r.N),
          fed(inputs + r.M), gate_rows(narrow ? r.all : r.gates),
          o_stride(p.keep || C::solo || narrow ? r.Mp * L : 0), take(scratch) {
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

    // U = V x + b for the next steps at once. A solo tile is the only sequence, so its rows are adjacent.
    void project(const TilePlan& tile, Memory& m, Index t) const {
        const Index count = std::min(block, tile.steps - t), size = History<C>::size(r);
        T* U = step(tile, m, t);
        for (Index s = 0; s < count; ++s) std::memcpy(U + s * size, bias, r.all * sizeof(T));
        add_outer<Whole<T>>({(const T*)p.x + t * r.N, 1, 0, r.N, r.N}, count, V_w, r.all, r.all, U, size);
    }

    // f_ste, f_fre, g = sigmoid(a);  i = tanh(a)    (Eqs. 6, 7, 9, 10)
    void gates(History<C>& h) const {
        for (Index j = 0; j < r.i * L; j += W) C::store(h.gates + j, Curve::sigmoid(C::load(h.gates + j)));
        for (Index j = r.i * L; j < r.omega * L; j += W) C::store(h.gates + j, Curve::tanh(C::load(h.gates + j)));
    }

    // theta = omega t, or theta' + omega (t - t'), reduced to one revolution, in double; then cos and sin in T
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

    // All sequences are at the same time, as on index time: compute one lane and copy it.
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

    // S = f S' + p (cos theta, sin theta);  A = |S|    (Eqs. 1-4, 8)
    void states(const History<C>& h, Memory& m) const {
        for (Index k = 0; k < r.K; ++k) {
            T* A = m.A + k * r.Dp * L;
            advance(r, k, h, m.p, m.S, m.S,
                    [&](Index j, int, V re, V im) { C::store(A + j, amplitude<C>(re, im).root); });
        }
    }

    // The same for M = 1, together with the sums U_o A + a_o and W_z A + b_z.
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

    // o = sigmoid(U_o A + a_o);  y = tanh(W_z A + b_z);  z = sum_k o y    (Eqs. 11-13)
    void read_out(const History<C>& h, Memory& m, Ahead& ahead) const {
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

    // Writes the last state of the sequences that end at this step.
    void end_lanes(const TilePlan& tile, Index begin, Index end, const Memory& m) const {
        write_state<C>(m.S, r, tile.b0, begin, end, p.re_last);
        write_state<C>(m.S + r.state() / 2, r, tile.b0, begin, end, p.im_last);
        if (!p.adaptive) return;
        for (Index l = begin; l < end; ++l)
            for (Index k = 0; k < r.K; ++k) p.theta_last[(tile.b0 + l) * r.K + k] = m.theta[k * L + l];
    }
};

}  // namespace
