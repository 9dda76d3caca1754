#!/usr/bin/env bash
# Builds the tree with CUDA and runs every test that needs a GPU, then the same programs under compute-sanitizer where
# that is installed. Arguments go on to ctest. Run it where a device is; elsewhere the tests say that they were skipped.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/say.sh
source scripts/build.sh

build_tree cuda -- all
ctest --test-dir build/cuda -L gpu --output-on-failure "$@"
# The sanitizer slows a kernel a thousandfold: small cases, each type by itself. Racecheck sees shared memory alone, not the words in
# global memory that blocks of the layers' kernel hand each other; cuBLASLt's kernels, which it complains of, are kept out of its cases.
if command -v compute-sanitizer >/dev/null && nvidia-smi -L >/dev/null 2>&1; then
  check() { say "compute-sanitizer $*"; compute-sanitizer --tool "$1" --error-exitcode 1 "${@:2}"; }
  for tool in memcheck racecheck; do
    for type in bf16 fp8 q8_0 q4_0; do
      check "$tool" build/cuda/tests/gpu/gpu_products_test "$type" quick
      check "$tool" build/cuda/tests/gpu/gpu_resident_test "$type" quick
    done
    check "$tool" build/cuda/tests/gpu/gpu_sampling_test 64
    check "$tool" build/cuda/tests/gpu/gpu_attention_test quick
  done
  check memcheck build/cuda/tests/models/llama/test_llama_cuda "*frequency*"
fi
