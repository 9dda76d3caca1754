// Which way dense products go, as it was timed: choices, and the text that keeps them.
#include "kernels/cuda/library_choices.hpp"

#include <random>

#include "memory/kept_text.hpp"
#include "support/catch.hpp"
#include "support/random_seed.hpp"

using namespace troupe;
using namespace troupe::kernels::cuda;

namespace {

constexpr const char* device = "NVIDIA H200; driver 13.0; built with CUDA 13.0; cuBLASLt 130100";
using element = library_shape::element;

}  // namespace

TEST_CASE("another way than the usual is taken where it is clearly faster, and nowhere else") {
  library_choices all;
  const library_shape a{element::fp8, true, 4096, 14336, 2048}, b{element::bf16, false, 6144, 4096, 32},
      c{element::f16, true, 96, 64, 24}, d{element::bf16, true, 8, 8, 24};
  all.choose(a, {usual_way, 1000}, {7, 700});
  all.choose(b, {usual_way, 1000}, {own_way, 970});  // a measurement may be wrong by so much
  all.choose(c, {own_way, 1000}, {own_way, 1000});
  CHECK(all.way(a) == 7);
  CHECK(all.way(b) == usual_way);
  CHECK(all.way(c) == own_way);
  CHECK_FALSE(all.way(d));
  all.choose(d, {usual_way, 1000}, {3, 0});  // no way was found to work
  CHECK(all.way(d) == usual_way);
  CHECK(all.measured() == 4);
  CHECK(all.unusual() == 1);
}

TEST_CASE("what was chosen is read again from its text, for the same device, driver and library only") {
  std::mt19937 random(test::random_seed());
  library_choices all;
  std::vector<library_shape> shapes;
  for (int i = 0; i < 200; ++i) {
    shapes.push_back(
        {static_cast<element>(random() % 3), random() % 2 == 0, 8 + static_cast<std::int32_t>(random() % 100000),
         8 + static_cast<std::int32_t>(random() % 100000), 8 + static_cast<std::int32_t>(random() % 8192)});
    all.choose(shapes.back(), {usual_way, 1000},
               {static_cast<library_way>(random() % 13) - 1, 1 + static_cast<std::int64_t>(random() % 1000)});
  }
  const std::string text = all.text(device);
  const auto again = library_choices::of(text, device);
  CHECK(again.measured() == all.measured());
  CHECK(again.unusual() == all.unusual());
  for (const library_shape& shape : shapes) CHECK(again.way(shape) == all.way(shape));
  CHECK(again.text(device) == text);
  CHECK(library_choices::of(text, "NVIDIA H200; driver 13.0; built with CUDA 13.0; cuBLASLt 130101").measured() == 0);
  CHECK(library_choices::of(text.substr(0, text.size() - 3), device).measured() == 0);
}

TEST_CASE("a line that says something else makes a whole text worthless") {
  const std::string good = "fp8 f32 4096 14336 2048 3 170200 177400\n";
  const auto read = [&](const std::string& line) {
    return library_choices::of(memory::kept_text("troupe library choices 1", device, good + line), device).measured();
  };
  CHECK(read("") == 1);
  CHECK(read("bf16 bf16 1 2 3 -1 5 6\n") == 2);
  for (const char* bad : {"fp9 f32 1 2 3 4 5 6\n", "fp8 f16 1 2 3 4 5 6\n", "fp8 f32 1 2 3 -2 5 6\n",
                          "fp8 f32 1 2 3 12 5 6\n", "fp8 f32 1 2 3 4 5\n", "fp8 f32 1 2 3 4 5 6 7\n", "\n"}) {
    CAPTURE(bad);
    CHECK(read(bad) == 0);
  }
}

TEST_CASE("newer choices take the place of older ones, shape by shape") {
  library_choices older, newer;
  const library_shape a{element::fp8, true, 4096, 14336, 2048}, b{element::fp8, true, 4096, 14336, 1024};
  older.choose(a, {usual_way, 1000}, {2, 500});
  older.choose(b, {usual_way, 1000}, {2, 500});
  newer.choose(a, {usual_way, 1000}, {5, 400});
  older.add(newer);
  CHECK(older.way(a) == 5);
  CHECK(older.way(b) == 2);
}
