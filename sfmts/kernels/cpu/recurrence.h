// Runs a pass of the SFM kernel with the number type and the tile width that fit a problem.
#pragma once

#include "backward.h"
#include "forward.h"

namespace {

template <class C>
void run_pass(Problem& p, Pass pass) {
    switch (pass) {
        case Pass::plan_forward:
            p.scratch_bytes = Forward<C>(p, nullptr).take.used();
            p.history_bytes = p.keep ? Tiles<C>(p).history * sizeof(typename C::T) : 0;
            break;
        case Pass::forward: Forward<C>(p, p.scratch).run(); break;
        case Pass::plan_backward: p.scratch_bytes = Backward<C>(p, nullptr).take.used(); break;
        case Pass::backward: Backward<C>(p, p.scratch).run(); break;
    }
}

// Wide tiles are faster. Narrow ones are used where wide ones would leave threads without work.
template <class T>
void choose_tile(Problem& p, Pass pass) {
    constexpr int W = SFM_VECTOR_BYTES / sizeof(T);
    constexpr int half = W > 8 ? W / 2 : W;
    if (p.B == 1) return run_pass<Tile<T, W, 1, true>>(p, pass);
    if (p.B <= half) return run_pass<Tile<T, half, 1, false>>(p, pass);
    if (p.B <= W || (p.B + 2 * W - 1) / (2 * W) < p.threads) return run_pass<Tile<T, W, 1, false>>(p, pass);
    return run_pass<Tile<T, W, 2, false>>(p, pass);
}

void run_kernel(Problem& p, Pass pass) { p.is_double ? choose_tile<double>(p, pass) : choose_tile<float>(p, pass); }

}  // namespace
