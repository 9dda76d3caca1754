// A reading position in bytes from outside: every read is checked against the end first. Knows no format.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

#include <troupe/result.hpp>

namespace troupe::models {

/// Little-endian, as GGUF is; the hosts that Troupe runs on are too. Does not own the bytes, which may be only the
/// first of a file of `whole` bytes. Errors say file, offset and reason.
class byte_cursor {
public:
  byte_cursor(std::string_view file, std::span<const std::byte> bytes, std::uint64_t whole)
      : file_(file), bytes_(bytes), whole_(whole) {}

  std::uint64_t offset() const noexcept { return offset_; }
  /// In the whole file.
  std::uint64_t left() const noexcept { return whole_ - offset_; }
  /// A read failed for want of bytes that the file has beyond those given.
  bool wants_more() const noexcept { return wants_more_; }

  template <class T>
  result<T> read() {
    static_assert(std::is_arithmetic_v<T>);
    if (!has(sizeof(T))) return truncated();
    T value;
    std::memcpy(&value, bytes_.data() + offset_, sizeof(T));
    offset_ += sizeof(T);
    return value;
  }

  /// `count` elements of `size` bytes; the product may not overflow nor pass the end.
  result<std::span<const std::byte>> take(std::uint64_t count, std::uint64_t size) {
    if (size != 0 && (count > left() / size || !has(count * size))) return truncated();
    const auto taken = bytes_.subspan(offset_, count * size);
    offset_ += count * size;
    return taken;
  }

  /// A length of 64 bits, then that many bytes.
  result<std::string_view> read_string() {
    auto length = read<std::uint64_t>();
    if (!length) return std::move(length).why();
    auto taken = take(*length, 1);
    if (!taken) return std::move(taken).why();
    return std::string_view(reinterpret_cast<const char*>(taken->data()), taken->size());
  }

  /// As many strings as `count`, passed over. A tight loop: a vocabulary has hundreds of thousands.
  result<std::span<const std::byte>> take_strings(std::uint64_t count) {
    const std::uint64_t first = offset_;
    for (; count > 0; --count) {
      std::uint64_t length;
      if (bytes_.size() - offset_ < sizeof length) break;
      std::memcpy(&length, bytes_.data() + offset_, sizeof length);
      if (length > bytes_.size() - offset_ - sizeof length) break;
      offset_ += sizeof length + length;
    }
    for (; count > 0; --count)  // the one that does not fit says so
      if (auto text = read_string(); !text) return std::move(text).why();
    return bytes_.subspan(first, offset_ - first);
  }

  error corrupt(const std::string& reason) const { return corrupt_at(offset_, reason); }
  error corrupt_at(std::uint64_t offset, const std::string& reason) const {
    return {errc::corrupt_file, std::string(file_) + ": at byte " + std::to_string(offset) + ": " + reason, {}};
  }

private:
  bool has(std::uint64_t count) noexcept {
    if (count <= bytes_.size() - offset_) return true;
    wants_more_ = count <= left();
    return false;
  }
  error truncated() const {
    return corrupt("needs more than the " + std::to_string(left()) + " bytes left in the file");
  }

  std::string_view file_;
  std::span<const std::byte> bytes_;
  std::uint64_t whole_;
  std::uint64_t offset_ = 0;
  bool wants_more_ = false;
};

}  // namespace troupe::models
