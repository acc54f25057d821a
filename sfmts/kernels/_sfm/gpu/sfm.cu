// The SFM recurrence on a GPU: one persistent block runs TILE sequences from their first step to their last.
//
// cuda.py and gpu/layout.py choose the macros below; gpu/program.py compiles this file once for each set of sizes
// (-DFORWARD or -DBACKWARD) and launches it. Letters and rows are those of reference.py; equations are the paper's.
//
// * A recurrence is a chain of small products, so latency dominates. Blocks are independent: no synchronisation across
//   the grid, and a few barriers per step. As many weights as fit stay in registers and shared memory, and the others
//   are streamed from the L2 cache (matrix.h).
// * Libraries compute the products that do not depend on the recurrence: U = X V^T + b for all rows before the forward
//   kernel, and the gradients of all weights from the gradients alpha of the pre-activations after the backward kernel.
// * The global memory that a step reads is copied STAGES - 1 steps ahead into a ring in shared memory.
// * Each sequence of a tile has its own length. After its last step it writes nothing and keeps its state.
// * The state S, its gradient and all sums are `real` for all types of weights; phases are double.
//
// Forward step:   gates     a = U + W z', activated in place (Eqs. 6, 7, 9, 10)  (thread: row of W)
//                 state     S = f S' + p e^{j theta}, A = |S| (Eqs. 1-4, 8)      (thread: d, k)
//                 read_out  o = sigmoid(U_o A + a_o), y = tanh(W_z A + b_z)      (thread: k, m or a part of it)
//                 sum_up    z = sum over k of o y (Eqs. 11-13)                   (thread: m)
// Backward step:  read_out_gradient   alpha_o, alpha_y from dz = e + r           (thread: k, m)
//                 amplitude_gradient  dA = U_o^T alpha_o + W_z^T alpha_y         (thread: d, k or a part of it)
//                 state_gradient      dS and its products with S', cos, sin      (thread: d, k)
//                 gate_gradient       all other alpha                            (thread: d; k)
//                 feedback_gradient   r = W^T alpha                              (thread: m, a part of it)
//
// A C++ compiler reads the same file and runs the phases thread by thread (platform.h). That tests arithmetic, indices,
// lengths, residency and the order of copies. It cannot test the instructions of a GPU (cp.async, __expf, rsqrtf), the
// order in which hardware accesses memory, or speed.
//
// Macros: D, K, M; REAL (float, double), EPSILON, WEIGHT_BITS (64, 32, 16 for bfloat16); ADAPTIVE, ACCUMULATED (0, 1);
// TILE sequences and THREADS threads per block; STAGES of the ring; for each of the two matrices its SPLIT and the
// chunks of a slot IN_REGISTERS and IN_SHARED; SHARED_BYTES, the shared memory that layout.py computes for all this.

#include "matrix.h"

constexpr double TWO_PI = 6.283185307179586476925286766559;
constexpr int FRE = D, G = D + K, I = 2 * D + K, OMEGA = 3 * D + K;  // first rows of the gates; ste is at 0
constexpr int O = OMEGA + (ADAPTIVE ? K : 0);
constexpr int R = O + K * M;
constexpr int KM = K * M, KD = K * D;

#ifdef FORWARD
typedef Matrix<R, M, 1, GATES_SPLIT, GATES_IN_REGISTERS, GATES_IN_SHARED> Gates;               // W
typedef Matrix<KM, D, 2, STATES_SPLIT, STATES_IN_REGISTERS, STATES_IN_SHARED> States;          // U_o, W_z
#else
constexpr int PADDED_D = up(D, 4);
typedef Matrix<M, R, 1, GATES_SPLIT, GATES_IN_REGISTERS, GATES_IN_SHARED> Gates;               // W'
typedef Matrix<KD, 2 * M, 1, STATES_SPLIT, STATES_IN_REGISTERS, STATES_IN_SHARED> States;      // [U_o; W_z]'
#endif

// `_Arguments` in cuda.py mirrors this struct field by field; each field has 8 bytes. P rows of packed steps, B
// sequences. Buffers marked * hold only the rows of this launch, from row `first` on.
struct Arguments {
    const uint4* W;             // packed in the order of matrix.h
    const uint4* UW;            // the same
    const real* b_z;            // (K, M)
    const long long* start;     // (T + 1,) first row of each step
    const long long* length;    // (B,) steps of each sequence, non-increasing
    const double* tau;          // (P,) factor of omega: t, or time since the previous step; adaptive only
    const real* mask;           // (B, M) factors of z where gates read it, or null
    real* gates;                // (P*, R) in: U; out: gates (forward with y). Backward: (P, R), only read
    real* cs;                   // (P*, 2, K) cos and sin of the phase; adaptive: out. Backward: (P, 2, K), only read
    real* y;                    // (P, K, M), or null without a backward pass
    real* S;                    // (P, 2, K, D), or null if it is not kept
    real* z;                    // (P, M)
    real* S_carry;              // (B, 2, K, D) in: state before; out: state after. Backward: before `begin`
    real* z_carry;              // (B, M)
    double* theta_carry;        // (B, K)
    const real* e;              // (P, M) gradient of z
    real* alpha;                // (P*, R) gradients of the pre-activations
    real* alpha_y;              // (P*, K, M) gradients of the pre-activations of y
    double* dtheta;             // (P, K) gradient of the phases, or null
    real* dS_carry;             // (B, 2, K, D) in: gradient of the state after; out: of the state before
    real* r_carry;              // (B, M) the same for the masked z
    double* dtheta_carry;       // (B, K) the same for the accumulated phase
    long long first, begin, end, batch;  // rows before this launch; steps from begin to end; B
};

// One stage of the ring. Each direction uses a part of it.
struct Stage {
    alignas(16) real gates[TILE * R];
    alignas(16) real cs[TILE * 2 * K];
    alignas(16) double tau[ADAPTIVE ? TILE : 2];
#ifdef BACKWARD
    alignas(16) real y[TILE * KM];
    alignas(16) real before[TILE * 2 * KD];  // S of the previous step
    alignas(16) real e[TILE * M];
#endif
};

struct Shared {
    Gates::Memory W;
    States::Memory UW;
    Stage ring[STAGES];
    alignas(16) int length[up(TILE, 4)];  // 0 for places of a tile without a sequence
    alignas(16) real mask[TILE * M];
    alignas(16) real S[TILE * 2 * KD];
#ifdef FORWARD
    alignas(16) double theta[TILE * K];
    alignas(16) real b_z[KM];
    alignas(16) real fed[TILE * Gates::WIDTH];         // masked z of the previous step
    alignas(16) real A[TILE * K * States::WIDTH];
    alignas(16) real sums[States::SPLIT * 2 * TILE * KM];  // parts of U_o A and W_z A
    alignas(16) real oy[TILE * KM];
#else
    alignas(16) double dtheta[TILE * K];
    alignas(16) real dS[TILE * 2 * KD];
    alignas(16) real alpha[TILE * Gates::WIDTH];
    alignas(16) real alpha_oy[TILE * K * States::WIDTH];   // for each k, alpha_o followed by alpha_y
    alignas(16) real dA[States::SPLIT * TILE * KD];        // parts
    alignas(16) real r[Gates::SPLIT * TILE * M];           // parts, before the mask
    alignas(16) real dp[TILE * KD];                        // terms of a sum over k
    alignas(16) real df_ste[TILE * KD];                    // terms of a sum over k
    alignas(16) real df_fre[TILE * K * PADDED_D];          // terms of a sum over d
    alignas(16) real turn[TILE * K * PADDED_D];            // terms of a sum over d: gradient of the phase
#endif
};

static_assert(sizeof(Shared) == SHARED_BYTES, "layout.py computes another size of the shared memory");

// State that a thread keeps over all steps.
struct Held {
    Gates::Registers W;
    States::Registers UW;
    Waiting waiting;
};

DEVICE real tanh_of(real x) { return 2 * sigmoid(2 * x) - 1; }

// Returns a row of the packed batch.
DEVICE long long row_of(const Arguments& a, int step, int sequence) { return load_constant(a.start + step) + sequence; }

DEVICE int last_step(const Arguments& a, const Shared& s, int b) {
    return smaller(s.length[b], static_cast<int>(a.end)) - 1;
}

// Copies at most MOST numbers. The bound is a constant, so the loop is unrolled.
template <int MOST, class T>
DEVICE void copy_rows(Waiting& waiting, T* to, const T* from, int numbers, int tid) {
    constexpr int ROUNDS = (MOST + THREADS - 1) / THREADS;
    UNROLL(ROUNDS < 16 ? ROUNDS : 16)
    for (int round = 0; round < ROUNDS; ++round) {
        const int j = tid + round * THREADS;
        if (j < numbers) copy_later(waiting, to + j, from + j);
    }
}

DEVICE void fill(real* to, int numbers, real value, int tid) {
    for (int j = tid; j < numbers; j += THREADS) to[j] = value;
}

DEVICE void prepare_tile(const Arguments& a, Shared& s, Held& own, int b0, int tid) {
    Gates::load(a.W, own.W, s.W, tid);
    States::load(a.UW, own.UW, s.UW, tid);
    for (int b = tid; b < TILE; b += THREADS) {
        s.length[b] = b0 + b < a.batch ? static_cast<int>(a.length[b0 + b]) : 0;
    }
    for (int j = tid; j < TILE * M; j += THREADS) {
        s.mask[j] = a.mask && b0 + j / M < a.batch ? a.mask[static_cast<long long>(b0) * M + j] : real(1);
    }
}

#ifdef FORWARD

DEVICE void prepare(const Arguments& a, Shared& s, Held& own, int b0, int tid) {
    prepare_tile(a, s, own, b0, tid);
    const int sequences = smaller(static_cast<int>(a.batch) - b0, TILE);
    for (int j = tid; j < TILE * 2 * KD; j += THREADS) {
        s.S[j] = j < sequences * 2 * KD ? a.S_carry[static_cast<long long>(b0) * 2 * KD + j] : real(0);
    }
    for (int j = tid; j < TILE * K; j += THREADS) {
        s.theta[j] = j < sequences * K ? a.theta_carry[static_cast<long long>(b0) * K + j] : 0.0;
    }
    for (int j = tid; j < TILE * Gates::WIDTH; j += THREADS) {
        const int b = j / Gates::WIDTH, m = j % Gates::WIDTH;
        real z = 0;
        if (m < M && b < sequences) {
            const long long at = static_cast<long long>(b0 + b) * M + m;
            z = a.z_carry[at] * (a.mask ? a.mask[at] : real(1));
        }
        s.fed[j] = z;
    }
    for (int j = tid; j < KM; j += THREADS) s.b_z[j] = a.b_z[j];
    fill(s.A, TILE * K * States::WIDTH, 0, tid);
}

// Starts the copies of what a step reads.
DEVICE void fetch(const Arguments& a, Shared& s, Held& own, int b0, int step, int tid) {
    if (step < a.end) {
        Stage& stage = s.ring[step % STAGES];
        const long long row = row_of(a, step, b0);
        const int n = static_cast<int>(smaller<long long>(load_constant(a.start + step + 1) - row, TILE));
        copy_rows<TILE * R>(own.waiting, stage.gates, a.gates + (row - a.first) * R, n * R, tid);
        if (ADAPTIVE) {
            copy_rows<TILE>(own.waiting, stage.tau, a.tau + row, n, tid);
        } else {
            copy_rows<TILE * 2 * K>(own.waiting, stage.cs, a.cs + (row - a.first) * 2 * K, n * 2 * K, tid);
        }
    }
    close_group(own.waiting);
}

// Computes share = omega_t / 2 pi = sigmoid(x) from the pre-activation x (Eq. 16), and cosine and sine of the phase
// theta = omega_t t, or theta' + omega_t (t - t') if it is accumulated.
DEVICE real advance_phase(const Arguments& a, Shared& s, Stage& stage, int b0, int b, int k, int step, real x) {
    const double share = sigmoid(static_cast<double>(x));
    double theta = (ACCUMULATED ? s.theta[b * K + k] : 0.0) + TWO_PI * share * stage.tau[b];
    theta = fma(-floor(theta * (1 / TWO_PI)), TWO_PI, theta);
    s.theta[b * K + k] = theta;
    real c, sine;
    cos_sin_pi(static_cast<real>(theta * (2 / TWO_PI)), c, sine);
    stage.cs[b * 2 * K + k] = c;
    stage.cs[b * 2 * K + K + k] = sine;
    if (a.y) {
        real* cs = a.cs + (row_of(a, step, b0 + b) - a.first) * 2 * K;
        cs[k] = c;
        cs[K + k] = sine;
    }
    if (step == last_step(a, s, b)) a.theta_carry[static_cast<long long>(b0 + b) * K + k] = theta;
    return static_cast<real>(share);
}

// a = U + W z';  f_ste, f_fre, g = sigmoid(a);  i = tanh(a);  a_o stays a pre-activation    (Eqs. 6, 7, 9, 10)
DEVICE void gates(const Arguments& a, Shared& s, const Held& own, int b0, int step, int tid) {
    Stage& stage = s.ring[step % STAGES];
    UNROLL(Gates::UNROLLED)
    for (int round = 0; round < Gates::ROUNDS; ++round) {
        const int row = tid + round * THREADS;
        if (row < R) {
            real sums[1][TILE];
            Gates::multiply(a.W, own.W, s.W, round, row, s.fed, Gates::WIDTH, sums);
            const bool modulation = row >= I;  // tanh x = 2 sigmoid(2 x) - 1
            UNROLL(TILE)
            for (int b = 0; b < TILE; ++b) {
                if (step >= s.length[b]) continue;
                real value = stage.gates[b * R + row] + sums[0][b];
                if (row < OMEGA) {
                    value = sigmoid(modulation ? 2 * value : value);
                    value = modulation ? 2 * value - 1 : value;
                } else if (row < O) {
                    value = advance_phase(a, s, stage, b0, b, row - OMEGA, step, value);
                }
                stage.gates[b * R + row] = value;
                if (a.y && row < O) a.gates[(row_of(a, step, b0 + b) - a.first) * R + row] = value;
            }
        }
    }
}

// S = f_ste f_fre S' + g i (cos theta, sin theta);  A = sqrt(Re^2 + Im^2 + epsilon)    (Eqs. 1-4, 8)
DEVICE void state(const Arguments& a, Shared& s, int b0, int step, int tid) {
    const Stage& stage = s.ring[step % STAGES];
    for (int j = tid; j < TILE * KD; j += THREADS) {
        const int b = j / KD, k = j / D % K, d = j % D;
        if (step >= s.length[b]) continue;
        const real* gate = stage.gates + b * R;
        const real f = gate[d] * gate[FRE + k], p = gate[G + d] * gate[I + d];
        const int at = b * 2 * KD + k * D + d;
        const real re = f * s.S[at] + p * stage.cs[b * 2 * K + k];
        const real im = f * s.S[at + KD] + p * stage.cs[b * 2 * K + K + k];
        const real power = re * re + im * im + real(EPSILON);
        s.A[(b * K + k) * States::WIDTH + d] = power * inverse_root(power);
        s.S[at] = re;
        s.S[at + KD] = im;
        if (a.S) {
            real* S = a.S + row_of(a, step, b0 + b) * 2 * KD + k * D + d;
            S[0] = re;
            S[KD] = im;
        }
        if (step == last_step(a, s, b)) {
            real* S = a.S_carry + static_cast<long long>(b0 + b) * 2 * KD + k * D + d;
            S[0] = re;
            S[KD] = im;
        }
    }
}

// o = sigmoid(a_o + U_o A);  y = tanh(b_z + W_z A), from the sums U_o A and W_z A; row is k * M + m    (Eqs. 11, 12)
DEVICE void activate(const Arguments& a, Shared& s, int b0, int b, int step, int row, real sum_o, real sum_y) {
    if (step >= s.length[b]) return;
    const real o = sigmoid(s.ring[step % STAGES].gates[b * R + O + row] + sum_o);
    const real y = tanh_of(s.b_z[row] + sum_y);
    s.oy[b * KM + row] = o * y;
    if (a.y) {
        const long long at = row_of(a, step, b0 + b);
        a.gates[(at - a.first) * R + O + row] = o;
        a.y[at * KM + row] = y;
    }
}

// U_o A and W_z A. Without parts, the thread also activates o and y.
DEVICE void read_out(const Arguments& a, Shared& s, const Held& own, int b0, int step, int tid) {
    UNROLL(States::UNROLLED)
    for (int round = 0; round < States::ROUNDS; ++round) {
        const int slot = tid + round * THREADS;
        if (slot < States::SLOTS) {
            const int row = slot % KM, part = slot / KM;
            real sums[2][TILE];
            const real* A = s.A + row / M * States::WIDTH + part * States::PART;
            States::multiply(a.UW, own.UW, s.UW, round, slot, A, K * States::WIDTH, sums);
            UNROLL(TILE)
            for (int b = 0; b < TILE; ++b) {
                if (States::SPLIT == 1) {
                    activate(a, s, b0, b, step, row, sums[0][b], sums[1][b]);
                } else {
                    s.sums[((part * 2 + 0) * TILE + b) * KM + row] = sums[0][b];
                    s.sums[((part * 2 + 1) * TILE + b) * KM + row] = sums[1][b];
                }
            }
        }
    }
}

// Adds the parts that read_out left, and activates o and y.
DEVICE void join_parts(const Arguments& a, Shared& s, int b0, int step, int tid) {
    for (int j = tid; j < TILE * KM; j += THREADS) {
        real sum_o = 0, sum_y = 0;
        UNROLL(States::SPLIT)
        for (int part = 0; part < States::SPLIT; ++part) {
            sum_o += s.sums[(part * 2 + 0) * TILE * KM + j];
            sum_y += s.sums[(part * 2 + 1) * TILE * KM + j];
        }
        activate(a, s, b0, j / KM, step, j % KM, sum_o, sum_y);
    }
}

// z = sum_k o y    (Eq. 13)
DEVICE void sum_up(const Arguments& a, Shared& s, int b0, int step, int tid) {
    for (int j = tid; j < TILE * M; j += THREADS) {
        const int b = j / M, m = j % M;
        if (step >= s.length[b]) continue;
        real z = 0;
        UNROLL(K)
        for (int k = 0; k < K; ++k) z += s.oy[b * KM + k * M + m];
        s.fed[b * Gates::WIDTH + m] = z * s.mask[j];
        a.z[row_of(a, step, b0 + b) * M + m] = z;
        if (step == last_step(a, s, b)) a.z_carry[static_cast<long long>(b0 + b) * M + m] = z;
    }
}

KERNEL(sfm_forward) {
    const int b0 = block * TILE;
    const int begin = static_cast<int>(a.begin), end = static_cast<int>(smaller(a.end, a.length[b0]));
    if (begin >= end) return;
    EACH_THREAD(prepare(a, s, own, b0, tid);)
    EACH_THREAD({
        for (int ahead = 0; ahead < STAGES - 1; ++ahead) fetch(a, s, own, b0, begin + ahead, tid);
        wait_for_copies<STAGES - 2>(own.waiting);
    })
    for (int step = begin; step < end; ++step) {
        EACH_THREAD({
            fetch(a, s, own, b0, step + STAGES - 1, tid);
            gates(a, s, own, b0, step, tid);
        })
        EACH_THREAD(state(a, s, b0, step, tid);)
        EACH_THREAD(read_out(a, s, own, b0, step, tid);)
        if (States::SPLIT > 1) EACH_THREAD(join_parts(a, s, b0, step, tid);)
        EACH_THREAD({
            sum_up(a, s, b0, step, tid);
            wait_for_copies<STAGES - 2>(own.waiting);
        })
    }
}

#else  // BACKWARD

DEVICE void prepare(const Arguments& a, Shared& s, Held& own, int b0, int tid) {
    prepare_tile(a, s, own, b0, tid);
    const int sequences = smaller(static_cast<int>(a.batch) - b0, TILE);
    for (int j = tid; j < TILE * 2 * KD; j += THREADS) {
        const int b = j / (2 * KD);
        real S = 0, dS = 0;
        if (b < sequences && a.length[b0 + b] > a.begin) {
            const int last = static_cast<int>(smaller(a.end, a.length[b0 + b])) - 1;
            S = a.S[row_of(a, last, b0 + b) * 2 * KD + j % (2 * KD)];
            dS = a.dS_carry[static_cast<long long>(b0) * 2 * KD + j];
        }
        s.S[j] = S;
        s.dS[j] = dS;
    }
    for (int j = tid; j < TILE * K; j += THREADS) {
        s.dtheta[j] = j < sequences * K ? a.dtheta_carry[static_cast<long long>(b0) * K + j] : 0.0;
    }
    for (int j = tid; j < Gates::SPLIT * TILE * M; j += THREADS) {
        s.r[j] = j < sequences * M ? a.r_carry[static_cast<long long>(b0) * M + j] : real(0);
    }
    fill(s.df_fre, TILE * K * PADDED_D, 0, tid);
    fill(s.turn, TILE * K * PADDED_D, 0, tid);
    fill(s.alpha, TILE * Gates::WIDTH, 0, tid);
    fill(s.alpha_oy, TILE * K * States::WIDTH, 0, tid);
}

// Starts the copies of what a step reads.
DEVICE void fetch(const Arguments& a, Shared& s, Held& own, int b0, int step, int tid) {
    if (step >= a.begin) {
        Stage& stage = s.ring[step % STAGES];
        const long long row = row_of(a, step, b0);
        const int n = static_cast<int>(smaller<long long>(load_constant(a.start + step + 1) - row, TILE));
        const real* before = step ? a.S + row_of(a, step - 1, b0) * 2 * KD
                                  : a.S_carry + static_cast<long long>(b0) * 2 * KD;
        copy_rows<TILE * R, real>(own.waiting, stage.gates, a.gates + row * R, n * R, tid);
        copy_rows<TILE * 2 * K, real>(own.waiting, stage.cs, a.cs + row * 2 * K, n * 2 * K, tid);
        copy_rows<TILE * KM, real>(own.waiting, stage.y, a.y + row * KM, n * KM, tid);
        copy_rows<TILE * 2 * KD>(own.waiting, stage.before, before, n * 2 * KD, tid);
        copy_rows<TILE * M>(own.waiting, stage.e, a.e + row * M, n * M, tid);
        if (ADAPTIVE) copy_rows<TILE>(own.waiting, stage.tau, a.tau + row, n, tid);
    }
    close_group(own.waiting);
}

// Returns r = W^T alpha, the gradient of the fed-back z, before the mask.
DEVICE real sum_of_parts(const Shared& s, int b, int m) {
    real r = 0;
    UNROLL(Gates::SPLIT)
    for (int part = 0; part < Gates::SPLIT; ++part) r += s.r[(part * TILE + b) * M + m];
    return r;
}

// dz = e + r;  alpha_o = dz y o (1 - o);  alpha_y = dz o (1 - y^2)
DEVICE void read_out_gradient(const Arguments& a, Shared& s, int b0, int step, int tid) {
    const Stage& stage = s.ring[step % STAGES];
    for (int j = tid; j < TILE * KM; j += THREADS) {
        const int b = j / KM, row = j % KM, k = row / M, m = row % M;
        if (step >= s.length[b]) continue;
        const real dz = stage.e[b * M + m] + s.mask[b * M + m] * sum_of_parts(s, b, m);
        const real o = stage.gates[b * R + O + row], y = stage.y[j];
        const real alpha_o = dz * y * o * (1 - o), alpha_y = dz * o * (1 - y * y);
        s.alpha[b * Gates::WIDTH + O + row] = alpha_o;
        s.alpha_oy[(b * K + k) * States::WIDTH + m] = alpha_o;
        s.alpha_oy[(b * K + k) * States::WIDTH + M + m] = alpha_y;
        const long long at = row_of(a, step, b0 + b) - a.first;
        a.alpha[at * R + O + row] = alpha_o;
        a.alpha_y[at * KM + row] = alpha_y;
    }
}

// dA = U_o^T alpha_o + W_z^T alpha_y
DEVICE void amplitude_gradient(const Arguments& a, Shared& s, const Held& own, int tid) {
    UNROLL(States::UNROLLED)
    for (int round = 0; round < States::ROUNDS; ++round) {
        const int slot = tid + round * THREADS;
        if (slot < States::SLOTS) {
            const int row = slot % KD, part = slot / KD;
            real sums[1][TILE];
            const real* alpha = s.alpha_oy + row / D * States::WIDTH + part * States::PART;
            States::multiply(a.UW, own.UW, s.UW, round, slot, alpha, K * States::WIDTH, sums);
            UNROLL(TILE)
            for (int b = 0; b < TILE; ++b) s.dA[(part * TILE + b) * KD + row] = sums[0][b];
        }
    }
}

// dS += dA S / A;  dF = dR R' + dI I';  dS' = f_ste f_fre dS, and the terms of
// dp = sum_k (dR cos + dI sin),  df_ste = sum_k dF f_fre,  df_fre = sum_d dF f_ste,  dtheta = sum_d p (dI cos - dR sin)
DEVICE void state_gradient(const Arguments& a, Shared& s, int step, int tid) {
    const Stage& stage = s.ring[step % STAGES];
    for (int j = tid; j < TILE * KD; j += THREADS) {
        const int b = j / KD, k = j / D % K, d = j % D;
        if (step >= s.length[b]) continue;
        const real* gate = stage.gates + b * R;
        const int at = b * 2 * KD + k * D + d;
        const real re = s.S[at], im = s.S[at + KD], c = stage.cs[b * 2 * K + k], sine = stage.cs[b * 2 * K + K + k];
        real dA = 0;
        UNROLL(States::SPLIT)
        for (int part = 0; part < States::SPLIT; ++part) dA += s.dA[part * TILE * KD + j];
        dA *= inverse_root(re * re + im * im + real(EPSILON));
        const real d_re = s.dS[at] + dA * re, d_im = s.dS[at + KD] + dA * im;
        const real before_re = stage.before[at], before_im = stage.before[at + KD];
        s.dp[j] = d_re * c + d_im * sine;
        const real dF = d_re * before_re + d_im * before_im;
        const real f_ste = gate[d], f_fre = gate[FRE + k], f = f_ste * f_fre;
        const int padded = (b * K + k) * PADDED_D + d;
        s.df_ste[j] = dF * f_fre;
        s.df_fre[padded] = dF * f_ste;
        if (ADAPTIVE || a.dtheta) s.turn[padded] = gate[G + d] * gate[I + d] * (d_im * c - d_re * sine);
        s.dS[at] = f * d_re;
        s.dS[at + KD] = f * d_im;
        s.S[at] = before_re;
        s.S[at + KD] = before_im;
    }
}

DEVICE void put_alpha(const Arguments& a, Shared& s, int b, long long at, int row, real value) {
    s.alpha[b * Gates::WIDTH + row] = value;
    a.alpha[at * R + row] = value;
}

// alpha_ste = df_ste f (1 - f);  alpha_g = dp i g (1 - g);  alpha_i = dp g (1 - i^2)
DEVICE void gate_gradient_of_state(const Arguments& a, Shared& s, const Stage& stage, int b, int d, long long at) {
    const real* gate = stage.gates + b * R;
    const real f_ste = gate[d], g = gate[G + d], i = gate[I + d];
    real dp = 0, df = 0;
    UNROLL(K)
    for (int k = 0; k < K; ++k) {
        dp += s.dp[(b * K + k) * D + d];
        df += s.df_ste[(b * K + k) * D + d];
    }
    put_alpha(a, s, b, at, d, df * f_ste * (1 - f_ste));
    put_alpha(a, s, b, at, G + d, dp * i * g * (1 - g));
    put_alpha(a, s, b, at, I + d, dp * g * (1 - i * i));
}

// One thread adds all states of a frequency. Its reads are wide, and four independent sums hide latency.
DEVICE real sum_over_states(const real* padded) {
    real sums[4] = {};
    UNROLL(16)
    for (int d = 0; d < PADDED_D; d += REALS) {
        real values[REALS];
        unpack_reals(load16(padded + d), values);
        UNROLL(REALS)
        for (int j = 0; j < REALS; ++j) sums[(d + j) % 4] += values[j];
    }
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

// alpha_fre = df_fre f (1 - f);  alpha_omega = tau dtheta 2 pi share (1 - share), with omega = 2 pi share
DEVICE void gate_gradient_of_frequency(const Arguments& a, Shared& s, const Stage& stage, int b, int k, long long at) {
    const real* gate = stage.gates + b * R;
    const real f_fre = gate[FRE + k], df = sum_over_states(s.df_fre + (b * K + k) * PADDED_D);
    put_alpha(a, s, b, at, FRE + k, df * f_fre * (1 - f_fre));
    double dtheta = ADAPTIVE || a.dtheta ? sum_over_states(s.turn + (b * K + k) * PADDED_D) : 0;
    if (ADAPTIVE) {
        if (ACCUMULATED) s.dtheta[b * K + k] = dtheta += s.dtheta[b * K + k];
        const double share = gate[OMEGA + k];
        put_alpha(a, s, b, at, OMEGA + k, static_cast<real>(stage.tau[b] * dtheta * TWO_PI * share * (1 - share)));
    } else if (a.dtheta) {
        a.dtheta[(at + a.first) * K + k] = dtheta;
    }
}

DEVICE void gate_gradient(const Arguments& a, Shared& s, int b0, int step, int tid) {
    const Stage& stage = s.ring[step % STAGES];
    constexpr int STATE_THREADS = up(TILE * D, 32);  // so that no warp does both kinds of work
    for (int j = tid; j < STATE_THREADS + TILE * K; j += THREADS) {
        const bool of_state = j < STATE_THREADS;
        const int item = of_state ? j : j - STATE_THREADS, b = of_state ? item / D : item / K;
        if (b >= TILE || step >= s.length[b]) continue;
        const long long at = row_of(a, step, b0 + b) - a.first;
        if (of_state) {
            gate_gradient_of_state(a, s, stage, b, item % D, at);
        } else {
            gate_gradient_of_frequency(a, s, stage, b, item % K, at);
        }
    }
}

// r = W^T alpha, in parts
DEVICE void feedback_gradient(const Arguments& a, Shared& s, const Held& own, int tid) {
    UNROLL(Gates::UNROLLED)
    for (int round = 0; round < Gates::ROUNDS; ++round) {
        const int slot = tid + round * THREADS;
        if (slot < Gates::SLOTS) {
            const int part = slot / M;
            real sums[1][TILE];
            Gates::multiply(a.W, own.W, s.W, round, slot, s.alpha + part * Gates::PART, Gates::WIDTH, sums);
            UNROLL(TILE)
            for (int b = 0; b < TILE; ++b) s.r[(part * TILE + b) * M + slot % M] = sums[0][b];
        }
    }
}

DEVICE void finish(const Arguments& a, const Shared& s, int b0, int tid) {
    const int sequences = smaller(static_cast<int>(a.batch) - b0, TILE);
    for (int j = tid; j < sequences * 2 * KD; j += THREADS) {
        if (s.length[j / (2 * KD)] > a.begin) a.dS_carry[static_cast<long long>(b0) * 2 * KD + j] = s.dS[j];
    }
    for (int j = tid; j < sequences * M; j += THREADS) {
        a.r_carry[static_cast<long long>(b0) * M + j] = sum_of_parts(s, j / M, j % M);
    }
    for (int j = tid; j < sequences * K; j += THREADS) {
        a.dtheta_carry[static_cast<long long>(b0) * K + j] = s.dtheta[j];
    }
}

KERNEL(sfm_backward) {
    const int b0 = block * TILE;
    const int begin = static_cast<int>(a.begin), end = static_cast<int>(smaller(a.end, a.length[b0]));
    if (begin >= end) return;
    EACH_THREAD(prepare(a, s, own, b0, tid);)
    EACH_THREAD({
        for (int ahead = 0; ahead < STAGES - 1; ++ahead) fetch(a, s, own, b0, end - 1 - ahead, tid);
        wait_for_copies<STAGES - 2>(own.waiting);
    })
    for (int step = end - 1; step >= begin; --step) {
        EACH_THREAD({
            fetch(a, s, own, b0, step - (STAGES - 1), tid);
            read_out_gradient(a, s, b0, step, tid);
        })
        EACH_THREAD(amplitude_gradient(a, s, own, tid);)
        EACH_THREAD(state_gradient(a, s, step, tid);)
        EACH_THREAD(gate_gradient(a, s, b0, step, tid);)
        EACH_THREAD({
            feedback_gradient(a, s, own, tid);
            wait_for_copies<STAGES - 2>(own.waiting);
        })
    }
    EACH_THREAD(finish(a, s, b0, tid);)
}

#endif
