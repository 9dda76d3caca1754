// An array that is constant once made: in memory of its own, or somewhere in memory that another holds.
// Knows nothing of what its elements mean.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace troupe::models {

template <class T>
class flat_table {
  static_assert(std::is_trivially_copyable_v<T>);

public:
  flat_table() = default;
  explicit flat_table(std::vector<T> made) : made_(std::move(made)), all_(made_) {}
  /// `elsewhere` outlives this.
  explicit flat_table(std::span<const T> elsewhere) : all_(elsewhere) {}
  flat_table(flat_table&&) noexcept = default;  // a vector's elements stay where they are
  flat_table& operator=(flat_table&&) noexcept = default;

  size_t size() const noexcept { return all_.size(); }
  const T* data() const noexcept { return all_.data(); }
  const T& operator[](size_t i) const noexcept { return all_[i]; }
  std::span<const T> all() const noexcept { return all_; }
  /// Only where it was made here.
  T& made(size_t i) noexcept { return made_[i]; }

private:
  std::vector<T> made_;
  std::span<const T> all_;
};

/// Texts end to end, and where each begins.
struct flat_texts {
  flat_table<char> chars;
  flat_table<uint32_t> starts;  ///< one more than there are texts

  size_t size() const noexcept { return starts.size() == 0 ? 0 : starts.size() - 1; }
  std::string_view operator[](size_t i) const noexcept { return {chars.data() + starts[i], starts[i + 1] - starts[i]}; }
};

}  // namespace troupe::models
