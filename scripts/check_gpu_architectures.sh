#!/usr/bin/env bash
# Compiles every CUDA kernel for other devices than the one that the build is for, and throws the code away: what one
# of them lacks shows here and not on its owner's machine. Arguments: compute capabilities as nvcc writes them; none: the
# oldest and the newest that Troupe is released for. Knows no CMake. About 100 seconds of processor time each.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/say.sh
nvcc=${CUDACXX:-$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)}
test -x "$nvcc" || fail "nvcc was not found: put it on the PATH or set CUDACXX to it"
capabilities=("${@:-}")
[ -n "${capabilities[0]}" ] || capabilities=(80 120)

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
compile() {  # nvcc, capability, file, folder
  "$1" -cubin -O1 -std=c++20 -Werror all-warnings -I. -Iinclude "-gencode=arch=compute_$2,code=sm_$2" \
    -o "$4/$(basename "$3").$2.cubin" "$3" || { echo "$3 does not compile for sm_$2"; exit 1; }
}
export -f compile
for capability in "${capabilities[@]}"; do
  for file in kernels/cuda/*.cu; do printf '%s\0%s\0' "$capability" "$file"; done
done | xargs -0 -n 2 -P "$(nproc)" bash -c 'compile "$0" "$2" "$3" "$1"' "$nvcc" "$folder"
say "kernels compile for sm_${capabilities[*]}"
