#!/usr/bin/env bash
# All that a GPU is needed for, in stages that together take at most 10 minutes. No stage stops the next.
#
#   benchmarks/gpu.sh [FOLDER]   on a machine with a GPU, Python, PyTorch with CUDA, cuda-bindings and this checkout
#   benchmarks/gpu.sh --report   on a machine with nvcc and no GPU: registers, spills and shared memory
#
# FOLDER, build/gpu by default, gets a log of each stage and, unless XDG_CACHE_HOME is set, the compiled kernels: name
# the same folder again, or a copy of it on the next machine, and they are not compiled again. PYTHON names the
# interpreter. The exit status is 1 if a stage failed.
set -uo pipefail
logs=$(realpath -m "${1:-$(dirname "$0")/../build/gpu}")
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
PATH=$PATH:/usr/local/cuda/bin  # where compute-sanitizer is found on many machines

if [[ ${1:-} == --report ]]; then
    exec "$python" benchmarks/gpu.py "$@"
fi

if [[ ! ${XDG_CACHE_HOME:-} ]]; then
    export XDG_CACHE_HOME=$logs/cache
    chmod -R go-w "$XDG_CACHE_HOME" 2>/dev/null  # code that other users could have written is not run
fi
mkdir -p "$logs"
skip="" failed=0

# stage NAME SECONDS ARGUMENT...: run gpu.py with these arguments for at most so long, and print a verdict.
stage() {
    local name=$1 seconds=$2 log=$logs/$1.log begin=$SECONDS code=77 verdict reason=$skip
    if [[ ! $skip ]]; then
        timeout --kill-after=5 "$seconds" "$python" benchmarks/gpu.py "${@:3}" >"$log" 2>&1
        code=$?
        tail -n 60 "$log"
        reason=$(tail -n 1 "$log")
    fi
    case $code in
        0) verdict=passed reason="" ;;
        75) verdict=inconclusive ;;
        77) verdict=skipped ;;
        124 | 137) verdict=inconclusive reason="it had not ended after $seconds s" ;;
        *) verdict=failed failed=1 ;;
    esac
    echo "stage $name: $verdict in $((SECONDS - begin)) s${reason:+ ($reason)}"
}

stage environment 25 --environment
if ! grep -q "^GPU: " "$logs/environment.log"; then
    skip="no GPU"
elif ! compgen -G "sfmts/kernels/_native*.so" >/dev/null; then
    timeout 100 "$python" setup.py build_ext --inplace >"$logs/build.log" 2>&1 &
fi
stage kernel 110 --tests tests/test_cuda.py -k "the_gpu or stream_of_its_own"
wait
stage networks 110 --tests tests/test_gpu.py
stage speed 150
stage fits 65 --fits
stage memcheck 50 --sanitize memcheck
stage racecheck 50 --sanitize racecheck
exit "$failed"
