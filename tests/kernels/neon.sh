#!/usr/bin/env bash
# The kernels' tests on ARM: cross-compiled, and run by qemu's user mode. Exits 77, which ctest takes for a skip, where the
# cross compiler or qemu is missing. Usage: neon.sh BUILD_FOLDER
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
out=${1:?where to build}
for tool in aarch64-linux-gnu-g++ qemu-aarch64; do
  command -v "$tool" >/dev/null || { echo "skipped: no $tool (Debian: apt-get install g++-aarch64-linux-gnu qemu-user)"; exit 77; }
done
mkdir -p "$out"

common="-std=c++20 -O2 -ffp-contract=off -pthread -I. -Iinclude -Itests -idirafter /usr/include -DSPDLOG_FMT_EXTERNAL -DFMT_HEADER_ONLY"
sources=(kernels/lane.cpp kernels/cpu/formats/*.cpp
         memory/{buffer,copy_folder,digest,fault_guard,kept_copy,kept_text,mapped_file}.cpp base/{log,machine,topology,result}.cpp
         tests/support/catch_main.cpp tests/support/dequantise.cpp tests/support/random_rows.cpp)
for file in kernels/cpu/*.cpp; do
  case $file in */kernels_avx*|*/kernels_amx*) ;; *) sources+=("$file") ;; esac
done
tests=(attention kv_types linear product_ways row_selection rows sampling shared_prefixes)
{
  echo "objects ="
  for file in "${sources[@]}"; do
    object=$out/${file//\//_}.o flags=$common
    [[ $file == */kernels_neon.cpp ]] && flags+=" -march=armv8.2-a+dotprod+fp16"
    [[ $file == */kernels_neon_i8mm.cpp ]] && flags+=" -march=armv8.2-a+dotprod+fp16+i8mm"
    printf 'objects += %s\n%s: %s\n\taarch64-linux-gnu-g++ %s -MMD -c $< -o $@\n' "$object" "$object" "$file" "$flags"
  done
  for test in "${tests[@]}"; do
    printf '%s: tests/kernels/%s_test.cpp $(objects)\n\taarch64-linux-gnu-g++ %s $^ -o $@\n' "$out/$test" "$test" "$common"
  done
  echo "all: ${tests[*]/#/$out/}"
  echo "-include $out/*.d"
} >"$out/Makefile"
make -s -j"$(nproc)" -f "$out/Makefile" all
for test in "${tests[@]}"; do
  echo "== $test"
  QEMU_CPU=max qemu-aarch64 -L /usr/aarch64-linux-gnu "$out/$test"
done
