// The kernels compiled for processors with AVX2.
#include "instruction_sets.h"

#if defined(SFM_X86)
SFM_TARGET_BEGIN("avx2,fma")
#define SFM_AVX2
#define SFM_VECTOR_BYTES 32
#define SFM_REGISTERS 16
#include "bank.h"
#include "projection.h"
#include "recurrence.h"
#include "resonator.h"
extern const Kernel avx2_kernel;
const Kernel avx2_kernel = {"avx2", run_kernel, resonate, project, summarize_bank};
SFM_TARGET_END
#endif
