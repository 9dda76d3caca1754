// Norm and activation against plain double loops, and the choice of an instruction set.
#include "support/catch.hpp"

#include "kernels/cpu/cpu_lane.hpp"
#include "kernels/cpu/half.hpp"
#include "tests/kernels/test_tensors.hpp"

using namespace troupe;
using namespace troupe::kernels;
using namespace troupe::kernels::testing;

TEST_CASE("rms_norm divides by the root mean square, at every length") {
  random_source random(1);
  for (const isa which : available_isas())
    for (const std::int64_t n : {1, 7, 16, 17, 64, 100, 576, 4096}) {
      const auto lane = make_cpu_lane({2, which, true}).value_or_throw();
      dense x(9, n, random), gain(1, n, random), out(9, n);
      lane->rms_norm(x.view(), gain.view(), 1e-5f, out.view());
      std::vector<double> expected;
      for (std::int64_t r = 0; r < 9; ++r) {
        double squares = 0;
        for (std::int64_t c = 0; c < n; ++c)
          squares += static_cast<double>(x.at(r, c)) * static_cast<double>(x.at(r, c));
        const double factor = 1 / std::sqrt(squares / static_cast<double>(n) + 1e-5);
        for (std::int64_t c = 0; c < n; ++c)
          expected.push_back(static_cast<double>(x.at(r, c)) * factor * static_cast<double>(gain.at(0, c)));
      }
      INFO(to_string(which) << " " << n);
      CHECK(distance(out.values, expected) < 1e-5);
    }
}

TEST_CASE("silu_mul gates, also far from zero") {
  random_source random(2);
  for (const isa which : available_isas())
    for (const std::int64_t n : {1, 15, 16, 33, 1536}) {
      const auto lane = make_cpu_lane({2, which, true}).value_or_throw();
      dense x(20, 2 * n, random), out(20, n);
      for (std::size_t i = 0; i < x.values.size(); i += 3) x.values[i] *= 40.0f;
      lane->silu_mul(x.view(), out.view());
      for (std::int64_t r = 0; r < 20; ++r)
        for (std::int64_t c = 0; c < n; ++c) {
          const double gate = static_cast<double>(x.at(r, c));
          const double expected = gate / (1 + std::exp(-gate)) * static_cast<double>(x.at(r, n + c));
          INFO(to_string(which) << " " << gate);
          REQUIRE(static_cast<double>(out.at(r, c)) == Approx(expected).epsilon(2e-6).margin(1e-30));
        }
    }
}

TEST_CASE("silu_mul lets NaN and infinity through") {
  for (const isa which : available_isas()) {
    const auto lane = make_cpu_lane({1, which, true}).value_or_throw();
    dense x(1, 64), out(1, 32);
    for (float& v : x.values) v = 1.0f;
    x.values[3] = NAN;
    x.values[4] = INFINITY;
    x.values[5] = -1e30f;
    lane->silu_mul(x.view(), out.view());
    CHECK(std::isnan(out.values[3]));
    CHECK(std::isinf(out.values[4]));
    CHECK(std::fabs(out.values[5]) < 1e-6f);
  }
}

TEST_CASE("halves convert to floats and back without a change") {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<std::uint16_t>(bits);
    if (!f16_is_finite(half)) continue;
    REQUIRE(f32_to_f16(f16_to_f32(half)) == half);
  }
  CHECK(f32_to_f16(65520.0f) == 0x7c00);
  CHECK(f32_to_f16(65519.0f) == 0x7bff);
  CHECK(f32_to_f16(1.0f + 0x1p-11f) == 0x3c00);  // a tie goes to even
  CHECK(f32_to_f16(1.0f + 3 * 0x1p-11f) == 0x3c02);
  CHECK(f32_to_f16(0x1p-25f) == 0);
  CHECK(f32_to_f16(0x1.8p-25f) == 1);
}

TEST_CASE("an instruction set that the machine lacks is refused, not executed") {
  for (const isa which : {isa::scalar, isa::avx2, isa::avx_vnni, isa::avx512vnni, isa::avx512bf16, isa::amx, isa::neon,
                          isa::neon_i8mm, static_cast<isa>(99)}) {
    const auto lane = make_cpu_lane({1, which, true});
    CHECK(lane.ok() == machine_has(which));
    if (!lane) CHECK(lane.why().code == errc::unsupported);
  }
  CHECK_FALSE(machine_has(static_cast<isa>(99)));
  CHECK(machine_has(isa::scalar));
  CHECK(machine_has(best_isa()));
}

TEST_CASE("the names of instruction sets are read back") {
  for (const isa which : available_isas()) CHECK(parse_isa(to_string(which)) == which);
  CHECK_FALSE(parse_isa("mmx"));
}

TEST_CASE("a lane without threads is refused") {
  CHECK(make_cpu_lane({0, isa::scalar, true}).why().code == errc::invalid_argument);
}
