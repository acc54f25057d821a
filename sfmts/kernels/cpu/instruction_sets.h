// Selects the instruction set of the rest of a file. Standard headers come before it: the linker keeps one copy of each
// of their inline functions, which must run on every processor.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#if defined(__x86_64__)
#define SFM_X86
#include <immintrin.h>
#endif

#define SFM_PRAGMA(text) _Pragma(#text)
#if defined(__clang__)
#define SFM_TARGET_BEGIN(sets) \
    SFM_PRAGMA(clang attribute push(__attribute__((target(sets))), apply_to = function))
#define SFM_TARGET_END SFM_PRAGMA(clang attribute pop)
#else
#define SFM_TARGET_BEGIN(sets) SFM_PRAGMA(GCC push_options) SFM_PRAGMA(GCC target(sets))
#define SFM_TARGET_END SFM_PRAGMA(GCC pop_options)
#endif

// Treats denormal numbers as 0 while an object exists. A decayed S is full of them, and arithmetic on them takes a
// hundred times as long.
class FlushDenormals {
#if defined(SFM_X86)
  public:
    FlushDenormals() : before_(_mm_getcsr()) { _mm_setcsr(before_ | 0x8040); }
    ~FlushDenormals() { _mm_setcsr(before_); }

  private:
    unsigned before_;
#elif defined(__aarch64__)
  public:
    FlushDenormals() {
        asm volatile("mrs %0, fpcr" : "=r"(before_));
        asm volatile("msr fpcr, %0" : : "r"(before_ | (1u << 24)));
    }
    ~FlushDenormals() { asm volatile("msr fpcr, %0" : : "r"(before_)); }

  private:
    uint64_t before_;
#endif
};
