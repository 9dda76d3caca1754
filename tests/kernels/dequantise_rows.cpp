// For dequantise_differential.py: what weights of a type mean to the lane, and to the tests' own oracle.
//   dequantise_rows             prints the types, one a line
//   dequantise_rows TYPE COLS   reads rows as a file holds them from stdin; writes each row three times in f32: as the
//   lane
//                               looks it up in its tiles, as it does without repacking, and as the oracle has it
#include <cstdio>
#include <iostream>
#include <iterator>
#include <numeric>
#include <string>

#include "kernels/cpu/cpu_lane.hpp"
#include "tests/support/dequantise.hpp"

using namespace troupe;
using memory::dtype;
using memory::tensor_view;

namespace {

std::vector<float> looked_up(tensor_view rows, bool repack) {
  const auto lane = kernels::make_cpu_lane({1, kernels::isa::scalar, repack}).value_or_throw();
  const kernels::matrix packed = lane->pack(std::vector{rows}).value_or_throw();
  std::vector<std::int32_t> ids(static_cast<std::size_t>(rows.rows));
  std::iota(ids.begin(), ids.end(), 0);
  std::vector<float> out(ids.size() * static_cast<std::size_t>(rows.cols));
  lane->embed(*packed, ids, {out.data(), dtype::f32, rows.rows, rows.cols, rows.cols * 4});
  return out;
}

void write(const std::vector<float>& values) {
  std::cout.write(reinterpret_cast<const char*>(values.data()), static_cast<std::streamsize>(values.size() * 4));
}

}  // namespace

int main(int argc, char** argv) {
  for (int i = 0; i < static_cast<int>(dtype::i32); ++i) {
    const auto type = static_cast<dtype>(i);
    if (argc < 3) {
      std::cout << memory::info(type).name << '\n';
      continue;
    }
    if (memory::info(type).name != argv[1]) continue;
    std::string bytes{std::istreambuf_iterator<char>(std::cin), {}};
    const std::int64_t cols = std::stoll(argv[2]);
    const std::int64_t row = memory::row_size(type, cols);
    const tensor_view rows{bytes.data(), type, static_cast<std::int64_t>(bytes.size()) / row, cols, row};
    write(looked_up(rows, true));
    write(looked_up(rows, false));
    write(test::dequantise(rows));
  }
}
