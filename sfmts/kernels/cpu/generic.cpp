// The kernels compiled for any processor, with vectors of 16 bytes.
#include "instruction_sets.h"

#define SFM_VECTOR_BYTES 16
#define SFM_REGISTERS 16
#include "bank.h"
#include "projection.h"
#include "recurrence.h"
#include "resonator.h"
extern const Kernel generic_kernel;
const Kernel generic_kernel = {"generic", run_kernel, resonate, project, summarize_bank};
