// A weight matrix that stays close to a block, and its product with the vectors of TILE sequences.
//
// A chunk is 16 bytes: CHUNK weights of one row. The chunks of a row are cut into SPLIT parts. A slot is one part of
// one row, which one thread multiplies; the reader of the result adds the sums of all parts. The first IN_REGISTERS
// chunks of a slot are in the registers of its thread, the next IN_SHARED in shared memory. The others are read from
// global memory (in practice, the L2 cache) at every step. The packed order in all three places is part, chunk, matrix,
// row.
// Neighbouring threads own neighbouring rows, so reads are coalesced and without bank conflicts, and all of them read
// the same number of the vector at a time.
#pragma once

#include "platform.h"

typedef REAL real;

constexpr int CHUNK = 128 / WEIGHT_BITS;     // weights in 16 bytes
constexpr int REALS = 16 / sizeof(real);     // numbers of a vector in 16 bytes
constexpr int CHAINS = TILE == 1 ? 4 : TILE == 2 ? 2 : 1;  // independent sums, to hide the latency of an addition

DEVICE constexpr int up(int value, int multiple) { return (value + multiple - 1) / multiple * multiple; }

DEVICE void unpack_reals(const uint4& from, real* to) {
    if (sizeof(real) == 4) {
        to[0] = as_float(from.x);
        to[1] = as_float(from.y);
        to[REALS - 2] = as_float(from.z);
        to[REALS - 1] = as_float(from.w);
    } else {
        to[0] = as_double(from.x, from.y);
        to[1] = as_double(from.z, from.w);
    }
}

DEVICE void unpack_weights(const uint4& from, real (&to)[CHUNK]) {
    if (WEIGHT_BITS > 16) {
        unpack_reals(from, to);
        return;
    }
    const unsigned words[4] = {from.x, from.y, from.z, from.w};
    UNROLL(4)
    for (int j = 0; j < 4; ++j) {  // a bfloat16 is the upper half of a float
        to[(2 * j) % CHUNK] = as_float(words[j] << 16);
        to[(2 * j + 1) % CHUNK] = as_float(words[j] & 0xffff0000u);
    }
}

template <int ROWS_, int COLUMNS, int MATRICES, int SPLIT_, int IN_REGISTERS, int IN_SHARED>
struct Matrix {
    static constexpr int ROWS = ROWS_;
    static constexpr int SPLIT = SPLIT_;
    static constexpr int SLOTS = ROWS * SPLIT;
    static constexpr int ROUNDS = (SLOTS + THREADS - 1) / THREADS;
    static constexpr int CHUNKS = ((COLUMNS + CHUNK - 1) / CHUNK + SPLIT - 1) / SPLIT;  // per slot
    static constexpr int PART = CHUNKS * CHUNK;                                        // columns per slot
    static constexpr int WIDTH = SPLIT * PART;                                         // length of a padded vector
    static constexpr int UNROLLED = IN_REGISTERS ? ROUNDS : 1;

    struct Registers {
        uint4 chunks[ROUNDS * IN_REGISTERS * MATRICES + 1];
    };
    struct Memory {
        uint4 chunks[SPLIT * IN_SHARED * MATRICES * ROWS + 1];
    };

    static_assert(IN_REGISTERS + IN_SHARED <= CHUNKS, "a chunk cannot be in two places");

    DEVICE static void load(const uint4* packed, Registers& held, Memory& memory, int tid) {
        UNROLL(UNROLLED)
        for (int round = 0; round < ROUNDS; ++round) {
            const int slot = tid + round * THREADS;
            UNROLL(IN_REGISTERS * MATRICES + 1)
            for (int j = 0; j < IN_REGISTERS * MATRICES; ++j) {
                if (slot < SLOTS) {
                    const int at = slot / ROWS * CHUNKS * MATRICES + j;
                    held.chunks[round * IN_REGISTERS * MATRICES + j] = packed[at * ROWS + slot % ROWS];
                }
            }
        }
        for (int j = tid; j < SPLIT * IN_SHARED * MATRICES * ROWS; j += THREADS) {
            const int part = j / (IN_SHARED_OR_1 * MATRICES * ROWS), rest = j % (IN_SHARED_OR_1 * MATRICES * ROWS);
            memory.chunks[j] = packed[(part * CHUNKS + IN_REGISTERS) * MATRICES * ROWS + rest];
        }
    }

    // sums[matrix][b] = the part of a row times the same part of vector b, which starts at v + b * stride
    DEVICE static void multiply(const uint4* packed, const Registers& held, const Memory& memory, int round, int slot,
                                const real* v, int stride, real (&sums)[MATRICES][TILE]) {
        const int row = slot % ROWS, part = slot / ROWS;
        real chains[MATRICES][TILE][CHAINS] = {};
        UNROLL(IN_REGISTERS + 1)
        for (int c = 0; c < IN_REGISTERS; ++c) {
            uint4 chunks[MATRICES];
            for (int matrix = 0; matrix < MATRICES; ++matrix) {
                chunks[matrix] = held.chunks[(round * IN_REGISTERS + c) * MATRICES + matrix];
                // Unpacked outside of the loop over steps, bfloat16 weights would take twice the registers.
                if (WEIGHT_BITS == 16) forget_origin(chunks[matrix]);
            }
            add(chunks, 1, v + c * CHUNK, stride, chains);
        }
        const uint4* shared = &memory.chunks[part * IN_SHARED * MATRICES * ROWS + row];
        UNROLL(8 / MATRICES)  // as many pending reads as registers allow
        for (int c = 0; c < IN_SHARED; ++c) {
            add(shared + c * MATRICES * ROWS, ROWS, v + (IN_REGISTERS + c) * CHUNK, stride, chains);
        }
        const uint4* streamed = packed + (part * CHUNKS + IN_REGISTERS + IN_SHARED) * MATRICES * ROWS + row;
        UNROLL(8 / MATRICES)
        for (int c = 0; c < CHUNKS - IN_REGISTERS - IN_SHARED; ++c) {
            uint4 chunks[MATRICES];
            for (int matrix = 0; matrix < MATRICES; ++matrix) {
                chunks[matrix] = load16_constant(streamed + (c * MATRICES + matrix) * ROWS);
            }
            add(chunks, 1, v + (IN_REGISTERS + IN_SHARED + c) * CHUNK, stride, chains);
        }
        for (int matrix = 0; matrix < MATRICES; ++matrix) {
            for (int b = 0; b < TILE; ++b) {
                real sum = chains[matrix][b][0];
                for (int chain = 1; chain < CHAINS; ++chain) sum += chains[matrix][b][chain];
                sums[matrix][b] = sum;
            }
        }
    }

  private:
    static constexpr int IN_SHARED_OR_1 = IN_SHARED ? IN_SHARED : 1;

    DEVICE static void add(const uint4* chunks, int step, const real* v, int stride,
                           real (&chains)[MATRICES][TILE][CHAINS]) {
        real w[MATRICES][CHUNK];
        UNROLL(MATRICES)
        for (int matrix = 0; matrix < MATRICES; ++matrix) unpack_weights(chunks[matrix * step], w[matrix]);
        UNROLL(TILE)
        for (int b = 0; b < TILE; ++b) {
            real x[CHUNK];
            UNROLL(CHUNK / REALS)
            for (int j = 0; j < CHUNK; j += REALS) unpack_reals(load16(v + b * stride + j), x + j);
            UNROLL(MATRICES)
            for (int matrix = 0; matrix < MATRICES; ++matrix) {
                UNROLL(CHUNK)
                for (int j = 0; j < CHUNK; ++j) chains[matrix][b][j % CHAINS] += w[matrix][j] * x[j];
            }
        }
    }
};
