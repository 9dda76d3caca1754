// libFuzzer target: any bytes as weights of any type are refused or mean what the oracle says, and give the same
// products on every instruction set.
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "kernels/cpu/cpu_lane.hpp"
#include "tests/support/dequantise.hpp"

using namespace troupe;
using memory::dtype;
using memory::tensor_view;

namespace {

using lanes = std::vector<std::unique_ptr<kernels::cpu_lane>>;

void require(bool holds) {
  if (!holds) std::abort();
}

lanes make_lanes(bool repack) {
  lanes all;
  for (const kernels::isa which : kernels::available_isas())
    all.push_back(kernels::make_cpu_lane({1, which, repack}).value_or_throw());
  return all;
}

void require_same(const std::vector<float>& a, const std::vector<float>& b) {
  for (std::size_t i = 0; i < a.size(); ++i)
    require(std::memcmp(&a[i], &b[i], 4) == 0 || (std::isnan(a[i]) && std::isnan(b[i])));
}

tensor_view floats(std::vector<float>& values, std::int64_t rows) {
  const auto cols = static_cast<std::int64_t>(values.size()) / rows;
  return {values.data(), dtype::f32, rows, cols, cols * 4};
}

/// Whether the lane took the weights; then `out` is their product with `x`, and their rows are the oracle's if
/// `finite`.
bool multiply(kernels::lane& on, tensor_view weights, std::vector<float>& x, std::int64_t tokens, bool finite,
              std::vector<float>& out) {
  const auto packed = on.pack(std::vector{weights});
  if (!packed) return require(packed.why().code == errc::corrupt_file), false;
  std::vector<std::int32_t> ids(static_cast<std::size_t>(weights.rows));
  std::iota(ids.begin(), ids.end(), 0);
  std::vector<float> rows(ids.size() * static_cast<std::size_t>(weights.cols));
  on.embed(**packed, ids, floats(rows, weights.rows));
  if (finite) require_same(rows, test::dequantise(weights));
  out.resize(static_cast<std::size_t>(tokens * weights.rows));
  on.linear(**packed, floats(x, tokens), floats(out, tokens));
  return true;
}

}  // namespace

// Three bytes choose the type, the rows and the tokens; the rest is the weights, as many blocks a row as there are.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const lanes repacked = make_lanes(true), from_the_map = make_lanes(false);
  if (size < 4) return 0;
  const auto type = static_cast<dtype>(data[0] % static_cast<int>(dtype::i32));
  const std::int64_t rows = 1 + data[1] % 35, tokens = 1 + data[2] % 20;
  const std::int64_t block = memory::info(type).block_bytes;
  const std::int64_t blocks = (static_cast<std::int64_t>(size) - 3) / (rows * block);
  if (blocks == 0) return 0;
  std::string bytes(reinterpret_cast<const char*>(data) + 3, static_cast<std::size_t>(rows * blocks * block));
  const tensor_view weights{bytes.data(), type, rows, blocks * memory::info(type).block, blocks * block};
  std::vector<float> x(static_cast<std::size_t>(tokens * weights.cols));
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(data[i % size]) - 100.0f;
  std::vector<float> expected, out;
  const bool taken = multiply(*repacked.front(), weights, x, tokens, true, expected);
  for (const auto& lane : repacked) {
    require(multiply(*lane, weights, x, tokens, true, out) == taken);
    if (taken && memory::info(type).block > 1) require_same(out, expected);
  }
  // Scales are not looked at before weights are used from the map: they may poison results, but do no harm.
  for (const auto& lane : from_the_map) require(multiply(*lane, weights, x, tokens, taken, out));
  return 0;
}
