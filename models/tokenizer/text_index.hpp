// From texts to ids, when each id's text is kept elsewhere. Eight bytes an entry and no allocation for any of them: a
// vocabulary is looked up three times a merge while it loads. Immutable once built; any thread may look up.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

#include "models/tokenizer/flat_table.hpp"

namespace troupe::models {

class text_index {
public:
  static constexpr int32_t none = -1;
  static constexpr int32_t crowded = -2;

  struct slot {
    uint32_t tag = 0;
    int32_t id = none;
  };

  /// Room for `count` texts.
  explicit text_index(size_t count = 0) : slots_(std::vector<slot>(std::bit_ceil(2 * count + 2))) { settle(); }

  /// All that there is, a power of two. Who puts another table here, of an index that was made before, calls settle().
  flat_table<slot>& slots() noexcept { return slots_; }
  const flat_table<slot>& slots() const noexcept { return slots_; }
  void settle() noexcept { shift_ = 64 - std::countr_zero(slots_.size()); }

  /// Eight bytes a round; multiplying carries each bit upwards, folding brings the upper ones down again.
  /// Where a text is looked for, worked out ahead of time: prefetch() of a few texts before the first of them is looked
  /// up lets their memory come together.
  static uint64_t hash_of(std::string_view text) noexcept {
    uint64_t hash = text.size() * 0x9E3779B97F4A7C15u;
    const auto mix = [&hash](uint64_t word) {
      hash = (hash ^ word) * 0xD6E8FEB86659FD93u;
      hash ^= hash >> 32;
    };
    for (; text.size() > 8; text.remove_prefix(8)) {
      uint64_t word;
      std::memcpy(&word, text.data(), 8);
      mix(word);
    }
    uint64_t last = 0;
    if (!text.empty()) std::memcpy(&last, text.data(), text.size());  // an empty view may point nowhere
    mix(last);
    return hash * 0x9E3779B97F4A7C15u;
  }
  void prefetch(uint64_t hash) const noexcept { __builtin_prefetch(&slots_[static_cast<size_t>(hash >> shift_)]); }

  /// text_of(id) is the text of an id inserted before. `none`: inserted; else the id that has this text already, or
  /// `crowded`: texts chosen to collide, as no honest file has them.
  template <class TextOf>
  int32_t insert(std::string_view text, int32_t id, const TextOf& text_of) {
    return insert(text, hash_of(text), id, text_of);
  }
  template <class TextOf>
  int32_t insert(std::string_view text, uint64_t hash, int32_t id, const TextOf& text_of) {
    size_t i = static_cast<size_t>(hash >> shift_);
    for (size_t probe = 0; probe < longest_probe; ++probe, i = (i + 1) & (slots_.size() - 1)) {
      const slot& s = slots_[i];
      if (s.id == none) {
        slots_.made(i) = {static_cast<uint32_t>(hash), id};
        return none;
      }
      if (s.tag == static_cast<uint32_t>(hash) && text_of(s.id) == text) return s.id;
    }
    return crowded;
  }

  /// `none`: no id has this text.
  template <class TextOf>
  int32_t find(std::string_view text, const TextOf& text_of) const {
    return find(text, hash_of(text), text_of);
  }
  template <class TextOf>
  int32_t find(std::string_view text, uint64_t hash, const TextOf& text_of) const {
    size_t i = static_cast<size_t>(hash >> shift_);
    for (size_t probe = 0; probe < longest_probe; ++probe, i = (i + 1) & (slots_.size() - 1)) {
      const slot& s = slots_[i];
      if (s.id == none) break;
      if (s.tag == static_cast<uint32_t>(hash) && text_of(s.id) == text) return s.id;
    }
    return none;
  }

private:
  static constexpr size_t longest_probe = 512;  // bounds what a hostile vocabulary can make a look-up cost

  flat_table<slot> slots_;  // open addressing, a power of two, at most half full
  int shift_ = 0;
};

}  // namespace troupe::models
