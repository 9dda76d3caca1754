// Ids that do not mix: each kind is its own type over 64 bits, with 0 as "none". Knows not how ids are handed out.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>

namespace troupe::base {

/// `Tag` is any type that names the kind: `using sequence_id = base::id<struct sequence_tag>;`
template <class Tag>
struct id {
  std::uint64_t value = 0;

  explicit operator bool() const noexcept { return value != 0; }
  friend auto operator<=>(const id&, const id&) = default;
};

}  // namespace troupe::base

template <class Tag>
struct std::hash<troupe::base::id<Tag>> {
  std::size_t operator()(const troupe::base::id<Tag>& id) const noexcept {
    return std::hash<std::uint64_t>{}(id.value);
  }
};
