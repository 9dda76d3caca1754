// A string that remembers which of its characters came from the template and which from a user.
// Knows nothing of templates or of characters wider than a byte: offsets are bytes.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace troupe::models::jinja {

/// Bytes plus the offsets at which trust changes. Text of one kind costs no more than a std::string.
class text {
public:
  text() = default;
  text(std::string bytes, bool trusted) : bytes_(std::move(bytes)), first_trusted_(trusted) {}

  std::string_view view() const noexcept { return bytes_; }
  std::size_t size() const noexcept { return bytes_.size(); }
  bool empty() const noexcept { return bytes_.empty(); }

  void append(std::string_view bytes, bool trusted);
  void append(const text& other) { append(other, 0, other.size()); }
  /// Appends bytes [begin, end) of `other`, which must not be *this.
  void append(const text& other, std::size_t begin, std::size_t end);
  text slice(std::size_t begin, std::size_t end) const;

  /// Whether the byte at `offset` is the template's own.
  bool trusted_at(std::size_t offset) const noexcept;

  /// Calls visit(std::string_view bytes, bool trusted) for each maximal run, in order.
  template <class Visit>
  void for_each_run(Visit visit) const {
    std::size_t begin = 0;
    bool trusted = first_trusted_;
    for (std::size_t border : borders_) {
      visit(view().substr(begin, border - begin), trusted);
      begin = border;
      trusted = !trusted;
    }
    if (begin < size()) visit(view().substr(begin), trusted);
  }

private:
  bool last_trusted() const noexcept { return first_trusted_ != (borders_.size() % 2 == 1); }

  std::string bytes_;
  std::vector<std::size_t> borders_;  // strictly increasing, strictly inside (0, size)
  bool first_trusted_ = true;
};

}  // namespace troupe::models::jinja
