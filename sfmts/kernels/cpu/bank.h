// Summaries of a bank of damped oscillators driven by series: the compiled form of _bank/reference.py.
//
// A block has 8 members x 16 groups of oscillators; the members of a group compete with each other. It runs through a
// series chunk by chunk, in three passes over memory that stays in the first-level cache:
//
//     1. Y_t = lambda Y_{t-1} + g (x_t - x_{t-1}) / dt_t,   c_t = Re(m Y_t) + direct x_t
//        with lambda = exp(s dt_t) and g = (exp(s dt_t) - 1) / (exp(s unit) - 1)
//     2. share, longest stretch and moment of the time at which c_t is above its threshold
//     3. for the greatest and for the least of each group: share of time, and sum of its c_t
//
// Steps before the current chunk are not stored, so memory does not grow with the length of a series.
#pragma once

#include "tiles.h"
#include "vectors.h"

// The arguments of one call. `_Problem` in _bank/native.py mirrors this struct field by field. Arrays are contiguous.
// "Slots" are the 8 x 16 oscillators of a block.
struct BankProblem {
    int64_t threads, n_series, n_steps, n_channels, n_blocks, n_features, has_times, is_trace;

    const int64_t* starts;        // (n_series + 1): first step of each series
    const float* x;               // (n_channels, n_steps)
    const double* t;              // (n_steps,), used if has_times
    const double* unit;           // (1,): duration of the first step, and of every step without time stamps
    const float* mix;             // (n_blocks, 8, n_channels): each member's drive is mix . x
    const int64_t* mixes;         // (n_blocks,): 1 if all members of a block have the same drive, otherwise 8
    const int64_t* directions;    // (n_blocks,): 1 forwards, -1 backwards in time
    const int64_t* groups;        // (n_blocks,): groups in use, at most 16
    const int64_t* offsets;       // (n_blocks,): number of the first feature

    // (n_blocks, slots) each
    const float *lambda_re, *lambda_im;     // exp(s unit)
    const double *s_re, *s_im;              // poles, per unit of time
    const double *inverse_re, *inverse_im;  // 1 / (exp(s unit) - 1)
    const float *start_re, *start_im;       // Y of the first step, divided by its x
    const float *m_re, *m_im, *direct, *threshold;

    const int64_t *strides, *trace_starts;  // trace: (n_series,) distance of kept steps; (n_series + 1)
    float* trace;                           // trace: (n_blocks, kept steps, slots)

    void* state;       // stream: n_blocks of BlockState, initially zero, or null
    float* last_x;     // stream: (n_channels,) of the previous step
    double* elapsed;   // stream: (2,) duration so far, time stamp of the previous step
    float* features;   // (n_series, n_features) or null
};

namespace {

constexpr Index members = 8, lanes = 16, slots = members * lanes, chunk = 32;

// The state of a block between chunks. Sums within a chunk are in single precision, and sums over chunks in double:
// in single precision, the sum of a long series would stop growing.
struct BlockState {
    float re[slots], im[slots], run[slots], longest[slots];
    double share[slots], moment[slots], greatest[slots], least[slots], greatest_sum[slots], least_sum[slots];
};

// Returns a where c is true, otherwise 0.
template <class V, class M>
INLINE V where(M c, V a) {
    return (V)((M)a & c);
}
template <class V>
INLINE V greater(V a, V b) {
    return a > b ? a : b;
}
template <class V>
INLINE V smaller(V a, V b) {
    return a < b ? a : b;
}

// One block of oscillators on one series.
class BankBlock {
    static constexpr int W = SFM_VECTOR_BYTES / 4;
    using V = Vec<float, W>;

    const BankProblem& p;
    const Index b;
    BlockState& state;

    alignas(cache_line) float c[chunk * slots];
    float values[members][chunk], slopes[members][chunk], last[members];
    double durations[chunk], last_time = 0;
    float weights[chunk], times[chunk];
    double computed_for = 0;  // duration whose factors lambda and g are stored here:
    alignas(cache_line) float re_of[slots], im_of[slots], g_re[slots], g_im[slots];

  public:
    BankBlock(const BankProblem& problem, Index block, BlockState& carried) : p(problem), b(block), state(carried) {}

    // Runs through a whole series.
    void run(Index series) {
        const Index begin = p.starts[series], end = p.starts[series + 1], n = end - begin;
        const bool forwards = p.directions[b] > 0;
        double elapsed = 0;
        for (Index done = 0; done < n; done += chunk) {
            const Index count = std::min(chunk, n - done);
            const Index first = forwards ? begin + done : end - 1 - done;
            load(first, count, forwards ? 1 : -1, done == 0, elapsed);
            oscillate(count, done == 0);
            if (p.is_trace) keep(series, done, count);
            else summarize(count);
        }
        if (!p.is_trace) finish(elapsed, p.features + series * p.n_features);
    }

    // Runs through the next steps of a stream. p.elapsed[0] is the duration so far, 0 at the start.
    void advance() {
        double elapsed = p.elapsed[0];
        if (elapsed > 0) {
            last_time = p.elapsed[1];
            for (Index j = 0; j < p.mixes[b]; ++j) last[j] = mixed(j, p.last_x);
        }
        for (Index done = 0; done < p.n_steps; done += chunk) {
            const Index count = std::min(chunk, p.n_steps - done);
            const bool is_start = elapsed == 0;
            load(done, count, 1, is_start, elapsed);
            oscillate(count, is_start);
            summarize(count);
        }
        if (p.features) finish(elapsed, p.features);
    }

  private:
    float mixed(Index member, const float* x) const {
        const float* const w = p.mix + (b * members + member) * p.n_channels;
        float sum = 0;
        for (Index k = 0; k < p.n_channels; ++k) sum += w[k] * x[k];
        return sum;
    }

    // Returns the unit or the last duration if `duration` differs from it by rounding only: their factors are known.
    double snapped(double duration) const {
        for (const double known : {*p.unit, computed_for})
            if (std::abs(duration - known) < 1e-9 * known) return known;
        return duration;
    }

    // Loads values, slopes, durations and weights of `count` steps from step `first` on.
    void load(Index first, Index count, Index step, bool is_start, double& elapsed) {
        const double unit = *p.unit;
        for (Index i = 0; i < count; ++i) {
            const Index now = first + i * step;
            const bool opening = is_start && i == 0;
            durations[i] = opening || !p.has_times ? unit : snapped(step * (p.t[now] - last_time));
            if (p.has_times) last_time = p.t[now];
            elapsed += durations[i];
            weights[i] = durations[i], times[i] = elapsed;
        }
        for (Index j = 0; j < p.mixes[b]; ++j) {
            const float* const w = p.mix + (b * members + j) * p.n_channels;
            float* const value = values[j];
            std::fill_n(value, count, 0.0f);
            for (Index k = 0; k < p.n_channels; ++k) {
                if (w[k] == 0) continue;
                const float* const x = p.x + k * p.n_steps + first;
                for (Index i = 0; i < count; ++i) value[i] += w[k] * x[i * step];
            }
            const float per_unit = float(1 / unit);  // g has the factor unit / duration, which may be huge
            float before = is_start ? value[0] : last[j];
            for (Index i = 0; i < count; ++i) {
                slopes[j][i] = (value[i] - before) * per_unit;
                before = value[i];
            }
            last[j] = before;
        }
    }

    // lambda = exp(s dt) and g = (lambda - 1) / (exp(s unit) - 1) * unit / dt in double precision, for dt != unit
    void compute_factors(double duration) {
        if (duration == computed_for) return;
        computed_for = duration;
        constexpr int D = W / 2;
        using Wide = Vec<double, D>;
        for (Index i = 0; i < slots; i += D) {
            const Index at = b * slots + i;
            const Wide decay = exponential<D>(load_wide(p.s_re + at) * duration);
            Wide cosine, sine;
            cosine_sine<D>(load_wide(p.s_im + at) * duration, cosine, sine);
            const Wide re = decay * cosine, im = decay * sine, e = re - 1.0;
            const double rest = *p.unit / duration;
            const Wide inverse_re = load_wide(p.inverse_re + at) * rest, inverse_im = load_wide(p.inverse_im + at) * rest;
            const Wide gr = e * inverse_re - im * inverse_im, gi = e * inverse_im + im * inverse_re;
            for (int lane = 0; lane < D; ++lane) {
                re_of[i + lane] = re[lane], im_of[i + lane] = im[lane];
                g_re[i + lane] = gr[lane], g_im[i + lane] = gi[lane];
            }
        }
    }
    static INLINE Vec<double, W / 2> load_wide(const double* at) { return ::load<double, W / 2>(at); }

    // Pass 1, in runs of steps of equal duration
    void oscillate(Index count, bool is_start) {
        const Index at = b * slots;
        if (is_start) begin();
        for (Index first = is_start; first < count;) {
            Index end = first + 1;
            while (end < count && durations[end] == durations[first]) ++end;
            if (durations[first] == *p.unit) {
                turn<true>(p.lambda_re + at, p.lambda_im + at, first, end);
            } else {
                compute_factors(durations[first]);
                turn<false>(re_of, im_of, first, end);
            }
            first = end;
        }
    }

    // The first step: Y_0 = start x_0 and c_0 = 0. An exact 0, because rounding must not decide which one is greatest.
    void begin() {
        for (Index i = 0; i < slots; i += W) {
            const Index at = b * slots + i;
            const V x = splat<float, W>(values[p.mixes[b] == 1 ? 0 : i / lanes][0]);
            put(state.re + i, get(p.start_re + at) * x), put(state.im + i, get(p.start_im + at) * x);
            put(c + i, V{});
        }
    }

    // Y = lambda Y + g slope;  c = Re(m Y) + direct x. For steps of one unit, g is 1.
    template <bool is_unit>
    void turn(const float* lambda_re, const float* lambda_im, Index first, Index end) {
        constexpr int together = 2;  // vectors in parallel, because each depends on its own previous step
        for (Index slot = 0; slot < slots; slot += together * W) {
            V a[together], s[together], u[together], v[together], x[together], y[together];
            const float *value[together], *slope[together];
            V gr[together], gi[together];
            for (int k = 0; k < together; ++k) {
                const Index i = slot + k * W, at = b * slots + i, row = p.mixes[b] == 1 ? 0 : i / lanes;
                a[k] = get(lambda_re + i), s[k] = get(lambda_im + i);
                u[k] = get(p.m_re + at), v[k] = get(p.m_im + at);
                x[k] = get(state.re + i), y[k] = get(state.im + i);
                value[k] = values[row], slope[k] = slopes[row];
                if (!is_unit) gr[k] = get(g_re + i), gi[k] = get(g_im + i);
            }
            for (Index t = first; t < end; ++t)
                for (int k = 0; k < together; ++k) {
                    const Index i = slot + k * W;
                    const V drive = splat<float, W>(slope[k][t]);
                    V re, im;
                    if constexpr (is_unit) {
                        re = a[k] * x[k] + (drive - s[k] * y[k]), im = a[k] * y[k] + s[k] * x[k];
                    } else {
                        re = a[k] * x[k] + (gr[k] * drive - s[k] * y[k]);
                        im = a[k] * y[k] + (gi[k] * drive + s[k] * x[k]);
                    }
                    x[k] = re, y[k] = im;
                    put(c + t * slots + i, u[k] * re + (get(p.direct + b * slots + i) * value[k][t] - v[k] * im));
                }
            for (int k = 0; k < together; ++k) put(state.re + slot + k * W, x[k]), put(state.im + slot + k * W, y[k]);
        }
    }

    // Passes 2 and 3: share += above w; run = above (run + w); longest = max(longest, run); moment += above w elapsed
    void summarize(Index count) {
        for (Index i = 0; i < slots; i += W) {
            const V threshold = get(p.threshold + b * slots + i);
            V share{}, moment{}, run = get(state.run + i), longest = get(state.longest + i);
            for (Index t = 0; t < count; ++t) {
                const auto above = get(c + t * slots + i) > threshold;
                const V weight = splat<float, W>(weights[t]);
                share += where(above, weight);
                run = where(above, run + weight);
                longest = greater(run, longest);
                moment += where(above, splat<float, W>(weights[t] * times[t]));
            }
            put(state.run + i, run), put(state.longest + i, longest);
            add(share, state.share + i), add(moment, state.moment + i);
        }
        compete(count, state.greatest, state.greatest_sum, [](V a, V b) { return greater(a, b); });
        compete(count, state.least, state.least_sum, [](V a, V b) { return smaller(a, b); });
    }

    // won += w where c is the best of its group;  sum += w c there. Ties count for all of the tied members.
    template <class Best>
    void compete(Index count, double* times_won, double* sums, Best best) {
        for (Index lane = 0; lane < lanes; lane += W) {
            V won[members] = {}, sum[members] = {};
            for (Index t = 0; t < count; ++t) {
                const float* const from = c + t * slots + lane;
                V of[members];
                for (Index j = 0; j < members; ++j) of[j] = get(from + j * lanes);
                const V winner = best(best(best(of[0], of[1]), best(of[2], of[3])),
                                      best(best(of[4], of[5]), best(of[6], of[7])));
                const V weight = splat<float, W>(weights[t]), gain = weight * winner;
                for (Index j = 0; j < members; ++j) {
                    const auto wins = of[j] == winner;
                    won[j] += where(wins, weight), sum[j] += where(wins, gain);
                }
            }
            for (Index j = 0; j < members; ++j)
                add(won[j], times_won + j * lanes + lane), add(sum[j], sums + j * lanes + lane);
        }
    }

    // Trace: copies every stride-th step, in the order in which the block reads them.
    void keep(Index series, Index done, Index count) {
        const Index stride = p.strides[series], first = p.trace_starts[series];
        const Index kept = p.trace_starts[p.n_series];
        for (Index t = 0; t < count; ++t)
            if ((done + t) % stride == 0)
                std::memcpy(p.trace + (b * kept + first + (done + t) / stride) * slots, c + t * slots,
                            slots * sizeof(float));
    }

    // Converts sums to features: in the order of SUMMARIES, then members, then groups.
    void finish(double elapsed, float* features) const {
        const double per = 1 / elapsed, per_square = per * per;
        float* to = features + p.offsets[b];
        const auto each = [&](const auto* sums, auto feature) {
            alignas(cache_line) float all[slots];  // whole vectors; only the groups in use are copied
            for (Index i = 0; i < slots; ++i) all[i] = float(feature(sums[i]));
            for (Index j = 0; j < members; ++j, to += p.groups[b]) std::copy_n(all + j * lanes, p.groups[b], to);
        };
        const auto mean = [per](double sum) { return sum * per; };
        const auto root = [per](double sum) { return std::sqrt(float(sum * per)); };
        each(state.share, mean);
        each(state.longest, mean);
        each(state.moment, [per_square](double sum) { return sum * per_square; });
        each(state.greatest, root);
        each(state.least, root);
        each(state.greatest_sum, mean);
        each(state.least_sum, mean);
    }

    static INLINE V get(const float* from) { return ::load<float, W>(from); }
    static INLINE void put(float* to, V v) { store<float, W>(to, v); }
    static INLINE void add(V v, double* sum) {
        constexpr int half = W / 2;
        float numbers[W];
        put(numbers, v);
        for (int lane = 0; lane < W; lane += half) {
            const auto wide = __builtin_convertvector((::load<float, half>(numbers + lane)), Vec<double, half>);
            store<double, half>(sum + lane, ::load<double, half>(sum + lane) + wide);
        }
    }
};

void summarize_bank(const BankProblem& p) {
    if (p.state) {
        const FlushDenormals flush;
        for (Index b = 0; b < p.n_blocks; ++b) BankBlock(p, b, static_cast<BlockState*>(p.state)[b]).advance();
        return;
    }
    in_parallel(p.n_series, std::max<Index>(p.threads, 1), [&](Index series, Index) {
        for (Index b = 0; b < p.n_blocks; ++b) {
            BlockState state{};
            BankBlock(p, b, state).run(series);
        }
    });
}

}  // namespace
