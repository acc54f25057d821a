#!/usr/bin/env bash
# All that a GPU is needed for, in one call of a few minutes: parity, memory and race checks, speeds.
#
#   benchmarks/gpu.sh            on a machine with a GPU, Python, PyTorch with CUDA, cuda-bindings and this checkout
#   benchmarks/gpu.sh --report   on a machine with nvcc and no GPU: registers, spills and shared memory
#
# PYTHON names the interpreter; compiled kernels stay in ~/.cache/sfmts.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
PATH=$PATH:/usr/local/cuda/bin  # where compute-sanitizer is found on many machines

if [[ ${1:-} == --report ]]; then
    exec "$python" benchmarks/gpu.py "$@"
fi

status=0
"$python" benchmarks/gpu.py "$@" || status=$?

if command -v compute-sanitizer >/dev/null; then
    for tool in memcheck racecheck; do
        echo "compute-sanitizer, $tool:"
        timeout 100 compute-sanitizer --tool "$tool" --error-exitcode 1 --print-limit 5 \
            "$python" benchmarks/gpu.py --tiny 2>&1 | tail -n 12 || status=1
    done
else
    echo "There is no compute-sanitizer, so neither memory accesses nor races are checked."
fi
exit "$status"
