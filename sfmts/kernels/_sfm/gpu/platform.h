// The differences between a CUDA compiler and a C++ compiler.
//
// A kernel is a sequence of phases, EACH_THREAD({...}), with a barrier after each. With a CUDA compiler, the threads of
// a block run at the same time. With a C++ compiler, they run one after another, in either order. All values are the
// same, so a machine without a GPU can test arithmetic and indices, and that no phase reads what another thread of the
// same phase writes. sfm.cu lists what such a test cannot show.
#pragma once

#ifdef __CUDACC__

#define DEVICE __device__ __forceinline__
#define TEXT_OF(text) #text
#define UNROLL(count) _Pragma(TEXT_OF(unroll(count)))
#define EACH_THREAD(...)                 \
    {                                    \
        const int tid = threadIdx.x;     \
        __VA_ARGS__                      \
        __syncthreads();                 \
    }
#define KERNEL(name)                                                                     \
    DEVICE void name##_block(const Arguments& a, int block, Shared& s, Held& own);       \
    extern "C" __global__ void __launch_bounds__(THREADS, 1)                             \
        name(const __grid_constant__ Arguments a) {                                      \
        extern __shared__ uint4 memory[];                                                \
        Held own;                                                                        \
        name##_block(a, blockIdx.x, *reinterpret_cast<Shared*>(memory), own);            \
    }                                                                                    \
    DEVICE void name##_block(const Arguments& a, int block, Shared& s, Held& own)

struct Waiting {};  // the hardware tracks pending copies

DEVICE uint4 load16(const void* from) { return *static_cast<const uint4*>(from); }
DEVICE uint4 load16_constant(const uint4* from) { return __ldg(from); }
DEVICE long long load_constant(const long long* from) { return __ldg(from); }
DEVICE void forget_origin(uint4& value) {  // so that computations on it stay inside a loop
    asm volatile("" : "+r"(value.x), "+r"(value.y), "+r"(value.z), "+r"(value.w));
}
DEVICE float as_float(unsigned bits) { return __uint_as_float(bits); }
DEVICE double as_double(unsigned low, unsigned high) { return __hiloint2double(high, low); }

DEVICE float sigmoid(float x) { return __fdividef(1.0f, 1.0f + __expf(-x)); }
DEVICE double sigmoid(double x) { return 1.0 / (1.0 + exp(-x)); }
DEVICE float inverse_root(float x) { return rsqrtf(x); }
DEVICE double inverse_root(double x) { return rsqrt(x); }
DEVICE void cos_sin_pi(float x, float& c, float& s) { sincospif(x, &s, &c); }
DEVICE void cos_sin_pi(double x, double& c, double& s) { sincospi(x, &s, &c); }

// Starts an asynchronous copy of one number from global to shared memory; wait_for_copies completes it.
template <class T>
DEVICE void copy_later(Waiting&, T* to, const T* from) {
    const unsigned target = static_cast<unsigned>(__cvta_generic_to_shared(to));
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(target), "l"(from), "n"(sizeof(T)) : "memory");
}
DEVICE void close_group(Waiting&) { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits until all copies of this thread are complete, except those of the last PENDING groups.
template <int PENDING>
DEVICE void wait_for_copies(Waiting&) {
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

#else

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <vector>

#define DEVICE inline
#define UNROLL(count)
#define EACH_THREAD(...)                                       \
    for (int turn_ = 0; turn_ < THREADS; ++turn_) {            \
        const int tid = REVERSED ? THREADS - 1 - turn_ : turn_; \
        [[maybe_unused]] Held& own = every[tid];               \
        __VA_ARGS__                                            \
    }
#define KERNEL(name)                                                                         \
    static void name##_block(const Arguments& a, int block, Shared& s, std::vector<Held>&);  \
    extern "C" void name(const Arguments* a, int blocks) {                                   \
        void* memory = aligned_alloc(16, sizeof(Shared));                                    \
        for (int block = 0; block < blocks; ++block) {                                       \
            memset(memory, 0xff, sizeof(Shared)); /* NaN, to find reads of unwritten memory */  \
            std::vector<Held> every(THREADS);                                                \
            name##_block(*a, block, *static_cast<Shared*>(memory), every);                   \
        }                                                                                    \
        free(memory);                                                                        \
    }                                                                                        \
    static void name##_block(const Arguments& a, int block, Shared& s, std::vector<Held>& every)

struct alignas(16) uint4 {
    unsigned x, y, z, w;
};

struct Copy {
    void* to;
    const void* from;
    size_t bytes;
    void make() const { memcpy(to, from, bytes); }
};

struct Waiting {
    std::vector<std::vector<Copy>> groups;
    std::vector<Copy> open;
};

DEVICE uint4 load16(const void* from) {
    uint4 value;
    memcpy(&value, from, sizeof value);
    return value;
}
DEVICE uint4 load16_constant(const uint4* from) { return *from; }
DEVICE long long load_constant(const long long* from) { return *from; }
DEVICE void forget_origin(uint4&) {}
DEVICE float as_float(unsigned bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}
DEVICE double as_double(unsigned low, unsigned high) {
    const unsigned long long bits = static_cast<unsigned long long>(high) << 32 | low;
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

DEVICE float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }
DEVICE double sigmoid(double x) { return 1.0 / (1.0 + exp(-x)); }
DEVICE float inverse_root(float x) { return 1.0f / sqrtf(x); }
DEVICE double inverse_root(double x) { return 1.0 / sqrt(x); }
template <class T>
DEVICE void cos_sin_pi(T x, T& c, T& s) {  // cosine and sine of pi x
    c = static_cast<T>(cos(3.14159265358979323846 * x));
    s = static_cast<T>(sin(3.14159265358979323846 * x));
}

// The two extremes of what hardware may do: copy immediately, or when the copy is waited for.
template <class T>
DEVICE void copy_later(Waiting& waiting, T* to, const T* from) {
    const Copy copy{to, from, sizeof(T)};
    if (COPIES_AT_ONCE) {
        copy.make();
    } else {
        waiting.open.push_back(copy);
    }
}
DEVICE void close_group(Waiting& waiting) {
    waiting.groups.push_back(waiting.open);
    waiting.open.clear();
}
template <int PENDING>
DEVICE void wait_for_copies(Waiting& waiting) {
    while (waiting.groups.size() > PENDING) {
        for (const Copy& copy : waiting.groups.front()) copy.make();
        waiting.groups.erase(waiting.groups.begin());
    }
}

#endif

template <class T>
DEVICE T smaller(T a, T b) {
    return a < b ? a : b;
}
