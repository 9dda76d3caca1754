// Writes GGUF files for tests, well-formed ones and, through its open fields, broken ones. Knows no architecture.
#pragma once

#include <cstdint>
#include <cstring>
#include <fstream>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "models/gguf/gguf_types.hpp"

namespace troupe::test {

class gguf_writer {
public:
  // What a test may falsify.
  std::uint32_t magic = 0x46554747;
  std::uint32_t version = 3;
  std::optional<std::uint64_t> claimed_keys;
  std::optional<std::uint64_t> claimed_tensors;
  std::uint64_t alignment = 32;  ///< of the data; the key "general.alignment" is the test's to add

  template <class T>
  void add(std::string_view key, T value) {
    put_string(metadata_, key);
    put(metadata_, static_cast<std::uint32_t>(type_of<T>()));
    put_value(metadata_, value);
    ++keys_;
  }
  template <class T>
  void add_array(std::string_view key, const std::vector<T>& values) {
    add_array_header(key, type_of<T>(), values.size());
    for (const T& value : values) put_value(metadata_, value);
  }
  /// Only the array's head: `count` may be a lie, and the type anything.
  void add_array_header(std::string_view key, models::gguf_type element, std::uint64_t count) {
    put_string(metadata_, key);
    put(metadata_, static_cast<std::uint32_t>(models::gguf_type::array));
    put(metadata_, static_cast<std::uint32_t>(element));
    put(metadata_, count);
    ++keys_;
  }
  /// dims[0] is the row's length. `offset` overrides the place in the data section.
  void add_tensor(std::string_view name, std::vector<std::uint64_t> dims, std::uint32_t type, std::string_view bytes,
                  std::optional<std::uint64_t> offset = {}) {
    data_.resize((data_.size() + alignment - 1) / alignment * alignment, '\0');
    put_string(directory_, name);
    put(directory_, static_cast<std::uint32_t>(dims.size()));
    for (const std::uint64_t size : dims) put(directory_, size);
    put(directory_, type);
    put(directory_, offset.value_or(data_.size()));
    data_ += bytes;
    ++tensors_;
  }
  /// Bytes put in the metadata as they are.
  void add_raw(std::string_view bytes) { metadata_ += bytes; }

  std::string bytes() const {
    std::string all;
    put(all, magic);
    put(all, version);
    put(all, claimed_tensors.value_or(tensors_));
    put(all, claimed_keys.value_or(keys_));
    all += metadata_;
    all += directory_;
    if (!data_.empty()) all.resize((all.size() + alignment - 1) / alignment * alignment, '\0');
    return all + data_;
  }
  bool write(const std::string& path) const {
    std::ofstream file(path, std::ios::binary | std::ios::trunc);
    const std::string all = bytes();
    file.write(all.data(), static_cast<std::streamsize>(all.size()));
    return file.good();
  }

private:
  template <class T>
  static constexpr models::gguf_type type_of() {
    using models::gguf_type;
    if constexpr (std::is_same_v<T, bool>) return gguf_type::boolean;
    else if constexpr (std::is_same_v<T, std::uint8_t>) return gguf_type::uint8;
    else if constexpr (std::is_same_v<T, std::int8_t>) return gguf_type::int8;
    else if constexpr (std::is_same_v<T, std::uint16_t>) return gguf_type::uint16;
    else if constexpr (std::is_same_v<T, std::int16_t>) return gguf_type::int16;
    else if constexpr (std::is_same_v<T, std::uint32_t>) return gguf_type::uint32;
    else if constexpr (std::is_same_v<T, std::int32_t>) return gguf_type::int32;
    else if constexpr (std::is_same_v<T, std::uint64_t>) return gguf_type::uint64;
    else if constexpr (std::is_same_v<T, std::int64_t>) return gguf_type::int64;
    else if constexpr (std::is_same_v<T, float>) return gguf_type::float32;
    else if constexpr (std::is_same_v<T, double>) return gguf_type::float64;
    else return gguf_type::string;
  }
  template <class T>
  static void put(std::string& to, T value) {
    char bytes[sizeof(T)];
    std::memcpy(bytes, &value, sizeof(T));
    to.append(bytes, sizeof(T));
  }
  static void put_string(std::string& to, std::string_view text) {
    put(to, static_cast<std::uint64_t>(text.size()));
    to += text;
  }
  template <class T>
  static void put_value(std::string& to, const T& value) {
    if constexpr (type_of<T>() == models::gguf_type::string) put_string(to, value);
    else if constexpr (std::is_same_v<T, bool>) put(to, static_cast<std::uint8_t>(value));
    else put(to, value);
  }

  std::string metadata_;
  std::string directory_;
  std::string data_;
  std::uint64_t keys_ = 0;
  std::uint64_t tensors_ = 0;
};

}  // namespace troupe::test
