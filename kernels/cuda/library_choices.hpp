// Which of several ways a dense product of a shape goes on a device, as it was measured there, kept for the next start.
// Knows no CUDA and no product. Where nothing was measured, or nothing clearly faster found, the answer is the usual
// way.
//
//   fp8 f32 4096 14336 2048 3 170200 177400     inputs, out, weight rows, columns, rows up to, way, nanoseconds, of the
//   usual way
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "memory/copy_folder.hpp"

namespace troupe::kernels::cuda {

/// What a dense product's time depends on.
struct library_shape {
  enum class element : std::uint8_t { bf16, f16, fp8 } inputs = element::bf16;
  bool f32_out = false;
  std::int32_t n = 0, k = 0;
  std::int32_t rows = 0;  ///< the most of a range (library_range)
  auto operator<=>(const library_shape&) const = default;
};

/// 0: the library's first proposal, else another of its, in its order; own_way: the kernel of wide_products.cuh.
using library_way = std::int32_t;
constexpr library_way own_way = -1, usual_way = 0, most_library_ways = 12;

/// Nanoseconds of one way, 0: it cannot be taken; the first is of the usual one. What is chosen: the fastest, if it is
/// clearly faster than the usual one.
struct timed_way {
  library_way way = usual_way;
  std::int64_t nanoseconds = 0;
};

class library_choices {
public:
  /// Empty where a file of this fingerprint does not say what text() says.
  static library_choices of(std::string_view text, std::string_view fingerprint);
  std::string text(std::string_view fingerprint) const;

  /// Nothing where this shape was not measured.
  std::optional<library_way> way(const library_shape& shape) const;
  /// Those of `newer` in place of its own of the same shapes.
  void add(const library_choices& newer);
  void choose(const library_shape& shape, timed_way usual, timed_way best);
  std::size_t measured() const noexcept { return chosen_.size(); }
  /// Shapes that do not go the usual way.
  std::size_t unusual() const noexcept;

private:
  struct choice {
    library_way way;
    std::int64_t nanoseconds, usual_nanoseconds;
  };
  std::map<library_shape, choice> chosen_;
};

/// Where those of a device lie.
std::string library_choices_path(const memory::copy_folder& folder, const std::string& device);

}  // namespace troupe::kernels::cuda
