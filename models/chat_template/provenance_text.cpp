// Run-length provenance: appends merge with the last run, slices find their runs by binary search.
#include "models/chat_template/provenance_text.hpp"

#include <algorithm>

namespace troupe::models::jinja {

void text::append(std::string_view bytes, bool trusted) {
  if (bytes.empty()) return;
  if (bytes_.empty()) {
    borders_.clear();
    first_trusted_ = trusted;
  } else if (last_trusted() != trusted) {
    borders_.push_back(bytes_.size());
  }
  bytes_.append(bytes);
}

void text::append(const text& other, std::size_t begin, std::size_t end) {
  auto border = std::upper_bound(other.borders_.begin(), other.borders_.end(), begin);
  bool trusted = other.trusted_at(begin);
  while (begin < end) {
    const std::size_t stop = border == other.borders_.end() ? end : std::min(*border++, end);
    append(other.view().substr(begin, stop - begin), trusted);
    begin = stop;
    trusted = !trusted;
  }
}

text text::slice(std::size_t begin, std::size_t end) const {
  text part;
  part.append(*this, begin, end);
  return part;
}

bool text::trusted_at(std::size_t offset) const noexcept {
  const auto passed = std::upper_bound(borders_.begin(), borders_.end(), offset) - borders_.begin();
  return first_trusted_ != (passed % 2 == 1);
}

}  // namespace troupe::models::jinja
