// Typed access to a checked GGUF file. Knows no architecture; gguf_parser.cpp does the checking.
#include "models/gguf/gguf_file.hpp"

#include <algorithm>
#include <cstring>

#include "models/gguf/gguf_parser.hpp"

namespace troupe::models {
namespace {

template <class T>
T load(std::span<const std::byte> bytes) noexcept {
  T value;
  std::memcpy(&value, bytes.data(), sizeof(T));
  return value;
}

constexpr std::int64_t first_header = 2 << 20;
constexpr std::int64_t longest_header = 256 << 20;  // ten times the largest vocabulary known

error shrunk(const std::string& path) {
  return {errc::io, path + ": the file has been cut short or cannot be read any more", {}};
}

}  // namespace

std::vector<std::string_view> gguf_array::strings() const {
  std::vector<std::string_view> all;
  if (element != gguf_type::string) return all;
  all.reserve(count);
  for (std::size_t at = 0; at < bytes.size();) {  // lengths were checked when the file was opened
    const auto length = load<std::uint64_t>(bytes.subspan(at));
    all.emplace_back(reinterpret_cast<const char*>(bytes.data() + at + sizeof length), length);
    at += sizeof length + length;
  }
  return all;
}

result<gguf_file> gguf_file::open(const std::string& path) {
  auto mapped = memory::mapped_file::open(path);
  if (!mapped) return std::move(mapped).why();
  const auto owned = std::make_shared<const memory::mapped_file>(*std::move(mapped));
  // Where the header ends is known when it has been read: more and more of the file is taken until that fits.
  for (std::int64_t taken = std::min(first_header, owned->size());; taken = std::min(4 * taken, owned->size())) {
    if (taken > longest_header) return error{errc::corrupt_file, path + ": the header does not end within 256 MiB", {}};
    gguf_file file;
    file.name_ = path;
    auto room = memory::allocate_host(taken);
    if (!room) return std::move(room).why();
    file.owned_header_ = *std::move(room);
    const std::span<std::byte> header(static_cast<std::byte*>(file.owned_header_.data()),
                                      static_cast<std::size_t>(taken));
    if (!owned->read(0, header)) return shrunk(path);
    file.header_ = header;
    file.bytes_ = owned->bytes().data();
    file.size_ = owned->size();
    gguf_parser parser(file);
    auto parsed = parser.run();
    if (!parsed && parser.wants_more()) continue;
    if (!parsed) return std::move(parsed).why();
    file.file_ = owned;
    return file;
  }
}

result<gguf_file> gguf_file::parse(std::string name, std::span<const std::byte> bytes) {
  gguf_file file;
  file.name_ = std::move(name);
  file.header_ = bytes;
  file.bytes_ = bytes.data();
  file.size_ = static_cast<std::int64_t>(bytes.size());
  auto parsed = gguf_parser(file).run();
  if (!parsed) return std::move(parsed).why();
  return file;
}

result<const gguf_file::value*> gguf_file::find(std::string_view key, std::string_view wanted) const {
  const auto at = values_.find(key);
  if (at != values_.end()) return &at->second;
  return error{
      errc::corrupt_file, name_ + ": key \"" + std::string(key) + "\" (" + std::string(wanted) + ") is missing", {}};
}

error gguf_file::wrong_type(std::string_view key, std::string_view wanted, const value& found) const {
  std::string is(gguf_type_name(found.type));
  if (found.type == gguf_type::array) is += " of " + std::string(gguf_type_name(found.array.element));
  return {errc::corrupt_file,
          name_ + ": key \"" + std::string(key) + "\" is " + is + ", expected " + std::string(wanted),
          {}};
}

result<std::uint64_t> gguf_file::unsigned_integer(std::string_view key) const {
  constexpr std::string_view wanted = "a non-negative integer";
  auto found = find(key, wanted);
  if (!found) return std::move(found).why();
  const auto bytes = (*found)->bytes;
  std::int64_t value = 0;
  switch ((*found)->type) {
    case gguf_type::uint8: return load<std::uint8_t>(bytes);
    case gguf_type::uint16: return load<std::uint16_t>(bytes);
    case gguf_type::uint32: return load<std::uint32_t>(bytes);
    case gguf_type::uint64: return load<std::uint64_t>(bytes);
    case gguf_type::int8: value = load<std::int8_t>(bytes); break;
    case gguf_type::int16: value = load<std::int16_t>(bytes); break;
    case gguf_type::int32: value = load<std::int32_t>(bytes); break;
    case gguf_type::int64: value = load<std::int64_t>(bytes); break;
    default: return wrong_type(key, wanted, **found);
  }
  if (value < 0) {
    return error{errc::corrupt_file, name_ + ": key \"" + std::string(key) + "\" is " + std::to_string(value), {}};
  }
  return static_cast<std::uint64_t>(value);
}

result<double> gguf_file::number(std::string_view key) const {
  constexpr std::string_view wanted = "a float";
  auto found = find(key, wanted);
  if (!found) return std::move(found).why();
  if ((*found)->type == gguf_type::float32) return static_cast<double>(load<float>((*found)->bytes));
  if ((*found)->type == gguf_type::float64) return load<double>((*found)->bytes);
  return wrong_type(key, wanted, **found);
}

result<bool> gguf_file::boolean(std::string_view key) const {
  constexpr std::string_view wanted = "a bool";
  auto found = find(key, wanted);
  if (!found) return std::move(found).why();
  if ((*found)->type != gguf_type::boolean) return wrong_type(key, wanted, **found);
  return load<std::uint8_t>((*found)->bytes) != 0;
}

result<std::string_view> gguf_file::string(std::string_view key) const {
  constexpr std::string_view wanted = "a string";
  auto found = find(key, wanted);
  if (!found) return std::move(found).why();
  if ((*found)->type != gguf_type::string) return wrong_type(key, wanted, **found);
  return std::string_view(reinterpret_cast<const char*>((*found)->bytes.data()), (*found)->bytes.size());
}

result<gguf_array> gguf_file::array(std::string_view key, gguf_type element) const {
  const std::string wanted = "array of " + std::string(gguf_type_name(element));
  auto found = find(key, wanted);
  if (!found) return std::move(found).why();
  if ((*found)->type != gguf_type::array || (*found)->array.element != element) return wrong_type(key, wanted, **found);
  return (*found)->array;
}

result<std::uint64_t> gguf_file::unsigned_integer_or(std::string_view key, std::uint64_t otherwise) const {
  if (!has(key)) return otherwise;
  return unsigned_integer(key);
}

result<double> gguf_file::number_or(std::string_view key, double otherwise) const {
  if (!has(key)) return otherwise;
  return number(key);
}

result<bool> gguf_file::boolean_or(std::string_view key, bool otherwise) const {
  if (!has(key)) return otherwise;
  return boolean(key);
}

result<std::string_view> gguf_file::string_or(std::string_view key, std::string_view otherwise) const {
  if (!has(key)) return otherwise;
  return string(key);
}

const gguf_tensor* gguf_file::find_tensor(std::string_view name) const noexcept {
  const auto at = by_name_.find(name);
  return at == by_name_.end() ? nullptr : &tensors_[at->second];
}

result<memory::tensor_view> gguf_file::view(std::string_view name) const {
  const gguf_tensor* tensor = find_tensor(name);
  if (tensor == nullptr) {
    return error{errc::corrupt_file, name_ + ": tensor \"" + std::string(name) + "\" is missing", {}};
  }
  if (!tensor->type->readable) {
    return error{errc::unsupported,
                 name_ + ": tensor \"" + std::string(name) + "\" has type " + std::string(tensor->type->name) +
                     "; Troupe computes with " + readable_types(),
                 {}};
  }
  const memory::dtype type = *tensor->type->readable;
  auto* data = const_cast<std::byte*>(bytes_) + tensor->offset;
  return memory::tensor_view{data, type, tensor->rows, tensor->cols, memory::row_size(type, tensor->cols)};
}

result<void> gguf_file::read(const gguf_tensor& tensor, std::span<std::byte> into) const {
  const std::size_t bytes = std::min(into.size(), static_cast<std::size_t>(tensor.bytes));
  if (!file_) std::memcpy(into.data(), bytes_ + tensor.offset, bytes);
  else if (!file_->read(tensor.offset, into.first(bytes))) return shrunk(name_);
  return {};
}

}  // namespace troupe::models
