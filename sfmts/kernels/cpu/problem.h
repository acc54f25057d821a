// The arguments of one call of the SFM kernel. `_Problem` in _sfm/native.py mirrors this struct field by field.
//
// Arrays are contiguous; pointers that are not needed are null. "Rows" are packed rows as in PackedSequence: time-
// major, with sequences sorted by decreasing length, batch_sizes[t] of which run at step t. Numbers behind void
// pointers are float or double (`is_double`).
#pragma once

#include <cstdint>

struct Problem {
    int64_t is_double, keep, adaptive, accumulated, threads;
    int64_t B, T, N, D, K, M;

    const int64_t* batch_sizes;     // (T,)
    const double* t;                // (P,) time of each row
    const double* t_start;          // (B,) time before the first step
    const double* omega;            // (K,) radians per unit of time; null if adaptive
    const void* x;                  // (P, N)
    const void *V, *W, *b;          // (R, N), (R, M), (R,)
    const void *U_o, *W_z, *b_z;    // (K, M, D), (K, M, D), (K, M)
    const void *re, *im, *z_start;  // (B, D, K), (B, D, K), (B, M)
    const double* theta_start;      // (B, K)
    const void* mask;               // (B, M) factors of z where gates read it

    void* z;                  // (P, M)
    void *re_last, *im_last;  // (B, D, K)
    double* theta_last;       // (B, K), written only if adaptive
    void* amplitudes;         // (P, D, K)

    const void *dz, *dre_last, *dim_last;
    const double* dtheta_last;

    void *dx, *dV, *dW, *db, *dU_o, *dW_z, *db_z;
    double* domega;
    void *dre, *dim, *dz_start;
    double* dtheta_start;

    void* history;  // written by the forward pass, read by the backward pass
    void* scratch;  // working memory of this call
    int64_t history_bytes, scratch_bytes;
};

enum class Pass {
    plan_forward,   // sets history_bytes and scratch_bytes
    forward,
    plan_backward,  // sets scratch_bytes
    backward,
};

struct Resonance;   // see resonator.h
struct Projection;  // see projection.h
struct BankProblem; // see bank.h

// The kernels compiled for one instruction set.
struct Kernel {
    const char* name;
    void (*run)(Problem&, Pass);
    void (*resonate)(const Resonance&);
    void (*project)(const Projection&);
    void (*summarize_bank)(const BankProblem&);
};

// Calls work(context, item, thread) for every item, in any order, on up to `threads` threads including the caller's.
// Rethrows the first exception after all threads have stopped.
void share_work(int64_t items, int64_t threads, void (*work)(void* context, int64_t item, int64_t thread), void* context);
