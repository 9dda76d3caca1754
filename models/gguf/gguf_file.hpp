// A GGUF file (versions 2 and 3) read from mapped bytes: metadata by key, tensors by name. Knows no architecture.
// Source: the GGUF specification (ggml repository, docs/gguf.md). The file is hostile until checked: every count,
// length, offset and dimension is held against the file's size before it is used, and nothing outside is ever read.
#pragma once

#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <troupe/result.hpp>

#include "memory/buffer.hpp"
#include "memory/mapped_file.hpp"
#include "memory/tensor_view.hpp"
#include "models/gguf/gguf_types.hpp"

namespace troupe::models {

/// An array in the file. Views the header's bytes.
struct gguf_array {
  gguf_type element = gguf_type::uint8;
  std::uint64_t count = 0;
  std::span<const std::byte> bytes;

  /// Element i of an array of numbers; T must be the element's own type.
  template <class T>
  T at(std::uint64_t i) const noexcept {
    T value;
    std::memcpy(&value, bytes.data() + i * sizeof(T), sizeof(T));
    return value;
  }
  /// All elements of an array of strings, in order. Linear.
  std::vector<std::string_view> strings() const;
};

/// One tensor of the directory. Element order is row-major; dims[0] is the row's length.
struct gguf_tensor {
  std::string_view name;
  const ggml_type_info* type = nullptr;
  std::int64_t rows = 0;    ///< product of all dimensions but the first
  std::int64_t cols = 0;    ///< the first dimension
  std::int64_t offset = 0;  ///< from the start of the file
  std::int64_t bytes = 0;
};

/// Immutable after open; may be read from many threads. Getters' errors name the key.
class gguf_file {
public:
  /// Maps the file; reads and checks the whole header. Errors: those of mapped_file::open, io, corrupt_file (file,
  /// offset, reason).
  static result<gguf_file> open(const std::string& path);
  /// The same over bytes that the caller keeps alive; `name` is for error texts.
  static result<gguf_file> parse(std::string name, std::span<const std::byte> bytes);

  const std::string& name() const noexcept { return name_; }
  std::int64_t size() const noexcept { return size_; }

  // Metadata. Missing or of another type: corrupt_file. Integers of any width are read as one kind, negative refused.
  bool has(std::string_view key) const noexcept { return values_.contains(key); }
  result<std::uint64_t> unsigned_integer(std::string_view key) const;
  result<double> number(std::string_view key) const;
  result<bool> boolean(std::string_view key) const;
  result<std::string_view> string(std::string_view key) const;
  result<gguf_array> array(std::string_view key, gguf_type element) const;
  // The same where the key may be missing; of another type is still an error.
  result<std::uint64_t> unsigned_integer_or(std::string_view key, std::uint64_t otherwise) const;
  result<double> number_or(std::string_view key, double otherwise) const;
  result<bool> boolean_or(std::string_view key, bool otherwise) const;
  result<std::string_view> string_or(std::string_view key, std::string_view otherwise) const;

  /// In the file's order.
  const std::vector<gguf_tensor>& tensors() const noexcept { return tensors_; }
  /// nullptr: not there.
  const gguf_tensor* find_tensor(std::string_view name) const noexcept;
  /// The tensor as [rows, cols]; read-only although tensor_view cannot say so, and no longer-lived than this file.
  /// Errors: corrupt_file when missing, unsupported for types that Troupe does not compute with.
  result<memory::tensor_view> view(std::string_view name) const;

  /// Copies a tensor's bytes, as many as it has, without touching the map. Errors: io where the file has shrunk.
  result<void> read(const gguf_tensor& tensor, std::span<std::byte> into) const;
  /// What `view` shows bytes of; null for a file made by parse().
  const memory::mapped_file* mapped() const noexcept { return file_.get(); }

private:
  friend class gguf_parser;
  struct value {
    gguf_type type = gguf_type::uint8;
    gguf_array array;                  ///< set for arrays
    std::span<const std::byte> bytes;  ///< of a number or a string
  };
  gguf_file() = default;
  result<const value*> find(std::string_view key, std::string_view wanted) const;
  error wrong_type(std::string_view key, std::string_view wanted, const value& found) const;

  std::string name_;
  std::shared_ptr<const memory::mapped_file> file_;
  memory::buffer owned_header_;        ///< a copy: who cuts the file short does not harm it
  std::span<const std::byte> header_;  ///< the file's first bytes: metadata and the tensors' directory
  const std::byte* bytes_ = nullptr;   ///< the whole file, mapped or given
  std::int64_t size_ = 0;
  std::map<std::string_view, value, std::less<>> values_;
  std::vector<gguf_tensor> tensors_;
  std::map<std::string_view, std::size_t, std::less<>> by_name_;
};

}  // namespace troupe::models
