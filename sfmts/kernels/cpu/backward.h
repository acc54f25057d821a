// The backward pass of the SFM kernel: a tile runs from its last step to its first. With e the gradient of z from
// outside, r the gradient that the next step fed back, and dS = (dR, dI) the gradient of S, one step computes
//
//     dz = e + r,   alpha_o = dz y o (1 - o),   alpha_y = dz o (1 - y^2)
//     dA = U_o^T alpha_o + W_z^T alpha_y,   dS += dA S / A
//     dp = sum_k (dR cos theta + dI sin theta),   dtheta = sum_d p (dI cos theta - dR sin theta)
//     dF = dR R' + dI I',   df_ste = sum_k dF f_fre,   df_fre = sum_d dF f_ste
//     dS' = f_ste f_fre dS,   r = W^T alpha
//
// where alpha are the gradients of all pre-activations. The gradients of weights are sums of alpha [x | z']^T,
// alpha_o A^T and alpha_y A^T. They are added up chunk by chunk, while alpha is still in the caches.
#pragma once

#include "tiles.h"

namespace {

template <class C>
struct Backward {
    using T = typename C::T;
    using V = typename C::V;
    static constexpr int W = C::W, NV = C::NV, L = C::L;
    static constexpr Index chunk = C::chunk, max_groups = 16;

    struct Sums {  // weight gradients of one group of tiles
        T *VW, *UW, *b;
        double* omega;
    };
    // Working memory of one thread. alphas, beside ([x | z'] of each lane) and A_rows hold a chunk of steps, and states
    // holds S after each of them.
    struct Memory {
        T *alphas, *beside, *A_rows, *states, *p, *dA, *dS, *dz, *r, *dx, *mask, *zeros, *dp, *df_ste, *df_fre, *dphase;
        double *dtheta, *omega;
    };

    Problem& p;
    const Rows<C> r;
    const Tiles<C> plan;
    const bool narrow, phase;    // M = 1; whether the phase has a gradient
    const Index inputs;          // rows of the gradient of x; 0 if it is not needed
    const Index alphas;          // rows of alphas: all pre-activations, then those of y
    const Index width, A_width;  // columns of [x | z] and of A, in whole vectors
    Index groups;                // of tiles, independent of the threads, so that sums are too
    T *x_w, *z_w, *dA_w;  // packed weights
    Allocator take;
    std::vector<Sums> sums;
    std::vector<Memory> memory;

    Backward(Problem& problem, void* scratch)
        : p(problem), r(problem), plan(problem), narrow(!C::solo && r.M == 1), phase(p.adaptive || p.domega),
          inputs(p.dx ? C::padded(r.N) : 0), alphas(r.all + r.K * r.Mp), width(whole_vectors(r.N + r.M)),
          A_width(whole_vectors(r.D)), take(scratch) {
        groups = std::min<Index>(plan.tiles.size(), max_groups);
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

    // Returns the memory to prefetch: the read-out of the previous step, and the gates that the next rescan reads.
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

    // Recomputes S of the steps from `first` to `end`, from the checkpoint before them.
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

    // Adds the sequences that end at this step, with the gradients of their last state.
    void begin_lanes(const TilePlan& tile, Index begin, Index end, Memory& m) const {
        read_state<C>(p.dre_last, r, tile.b0, begin, end, m.dS);
        read_state<C>(p.dim_last, r, tile.b0, begin, end, m.dS + r.state() / 2);
        for (Index l = begin; l < end; ++l) {
            for (Index j = 0; j < r.M; ++j) m.r[j * L + l] = 0;  // values from before belong to no sequence
            for (Index k = 0; k < r.K; ++k) m.dtheta[k * L + l] = p.dtheta_last[(tile.b0 + l) * r.K + k];
        }
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

    // dz = e + r;  alpha_o = dz y o (1 - o);  alpha_y = dz o (1 - y^2)
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

    // One frequency: dS += dA S / A, its terms of dp, df_ste, df_fre and dtheta, and dS' = f_ste f_fre dS. Overwrites
    // dA by A, which the gradients of U_o and W_z need. For M = 1 this loop also computes dA = U_o alpha_o + W_z
    // alpha_y and sums the gradients of U_o and W_z.
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

    // alpha_ste = df_ste f (1 - f);  alpha_g = dp i g (1 - g);  alpha_i = dp g (1 - i^2);  alpha_fre = df_fre f (1 - f)
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

    // alpha_omega = t dtheta omega (1 - omega / 2 pi), with t - t' in place of t and the sum of all later dtheta for an
    // accumulated phase; without adaptive frequencies, domega += t dtheta
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

    // Copies what the gates read at this step, [x | z' masked], to rows.
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

    // [dV | dW] += alpha [x | z']^T;  dU_o += alpha_o A^T;  dW_z += alpha_y A^T;  db, db_z += alpha, over a chunk
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

    // Writes the sums over all groups, in fixed order and without padding.
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

}  // namespace
