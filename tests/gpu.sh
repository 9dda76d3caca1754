#!/usr/bin/env bash
# Builds the tree with CUDA and runs every test that needs a GPU, then the same programs under compute-sanitizer where
# that is installed. Arguments go on to ctest. Run it where a device is; elsewhere the tests say that they were skipped.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/say.sh
source scripts/build.sh

build_tree cuda -- all
ctest --test-dir build/cuda -L gpu --output-on-failure "$@"
if command -v compute-sanitizer >/dev/null && nvidia-smi -L >/dev/null 2>&1; then
  for tool in memcheck racecheck; do
    say "compute-sanitizer $tool"
    compute-sanitizer --tool "$tool" --error-exitcode 1 build/cuda/tests/models/llama/test_llama_cuda "*frequency*"
  done
fi
