// The kernels compiled for processors with AVX-512.
#include "instruction_sets.h"

#if defined(SFM_X86)
SFM_TARGET_BEGIN("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma")
#define SFM_AVX512
#define SFM_VECTOR_BYTES 64
#define SFM_REGISTERS 32
#include "bank.h"
#include "projection.h"
#include "recurrence.h"
#include "resonator.h"
extern const Kernel avx512_kernel;
const Kernel avx512_kernel = {"avx512", run_kernel, resonate, project, summarize_bank};
SFM_TARGET_END
#endif
