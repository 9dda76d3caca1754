// The layout of a GGUF file, checked as it is read. Knows nothing of what keys mean but "general.alignment".
#include "models/gguf/gguf_parser.hpp"

#include <algorithm>
#include <bit>
#include <limits>
#include <numeric>

namespace troupe::models {
namespace {

constexpr std::uint32_t magic = 0x46554747;  // "GGUF"
constexpr std::uint64_t least_key_bytes = 8 + 4 + 1;
constexpr std::uint64_t least_tensor_bytes = 8 + 4 + 8 + 4 + 8;
// Far above any model known, and low enough that the directories stay small whatever the file claims.
constexpr std::uint64_t most_keys = 1 << 16;
constexpr std::uint64_t most_tensors = 1 << 17;
constexpr std::uint64_t longest_name = 1 << 16;
constexpr std::uint32_t most_dimensions = 4;
constexpr std::uint64_t most_alignment = 1 << 20;

std::string quoted(std::string_view name) { return "\"" + std::string(name.substr(0, 128)) + "\""; }

}  // namespace

result<void> gguf_parser::run() {
  for (auto step : {&gguf_parser::read_counts, &gguf_parser::read_metadata, &gguf_parser::read_alignment,
                    &gguf_parser::read_tensors, &gguf_parser::place_tensors, &gguf_parser::refuse_overlaps}) {
    if (auto done = (this->*step)(); !done) return done;
  }
  return {};
}

result<void> gguf_parser::read_counts() {
  auto mark = cursor_.read<std::uint32_t>();
  if (!mark) return std::move(mark).why();
  if (*mark != magic) return cursor_.corrupt_at(0, "not a GGUF file (it does not start with \"GGUF\")");
  auto version = cursor_.read<std::uint32_t>();
  if (!version) return std::move(version).why();
  if (*version == 0x02000000 || *version == 0x03000000)
    return cursor_.corrupt_at(4, "a big-endian GGUF file cannot be read");
  if (*version != 2 && *version != 3) {
    return cursor_.corrupt_at(4, "GGUF version " + std::to_string(*version) + " is not known (2 and 3 are)");
  }
  for (std::uint64_t* count : {&tensors_, &keys_}) {
    auto read = cursor_.read<std::uint64_t>();
    if (!read) return std::move(read).why();
    *count = *read;
  }
  if (tensors_ > most_tensors || tensors_ > cursor_.left() / least_tensor_bytes) {
    return cursor_.corrupt_at(8, "claims " + std::to_string(tensors_) + " tensors, more than the file can hold");
  }
  if (keys_ > most_keys || keys_ > cursor_.left() / least_key_bytes) {
    return cursor_.corrupt_at(16, "claims " + std::to_string(keys_) + " keys, more than the file can hold");
  }
  return {};
}

result<void> gguf_parser::read_metadata() {
  for (std::uint64_t i = 0; i < keys_; ++i) {
    const std::uint64_t start = cursor_.offset();
    auto key = cursor_.read_string();
    if (!key) return std::move(key).why();
    if (key->empty() || key->size() >= longest_name) return cursor_.corrupt_at(start, "a key is empty or too long");
    auto type = cursor_.read<std::uint32_t>();
    if (!type) return std::move(type).why();
    const auto size = gguf_type_size(*type);
    if (!size) return cursor_.corrupt("key " + quoted(*key) + " has unknown type " + std::to_string(*type));
    gguf_file::value value;
    value.type = static_cast<gguf_type>(*type);
    if (value.type == gguf_type::array) {
      if (auto read = read_array(value); !read) return read;
    } else if (value.type == gguf_type::string) {
      auto text = cursor_.read_string();
      if (!text) return std::move(text).why();
      value.bytes = std::as_bytes(std::span(*text));
    } else {
      auto bytes = cursor_.take(1, *size);
      if (!bytes) return std::move(bytes).why();
      value.bytes = *bytes;
    }
    if (!file_.values_.emplace(*key, value).second)
      return cursor_.corrupt_at(start, "key " + quoted(*key) + " appears twice");
  }
  return {};
}

result<void> gguf_parser::read_array(gguf_file::value& value) {
  auto type = cursor_.read<std::uint32_t>();
  if (!type) return std::move(type).why();
  const auto size = gguf_type_size(*type);
  if (!size) return cursor_.corrupt("an array has unknown element type " + std::to_string(*type));
  value.array.element = static_cast<gguf_type>(*type);
  // No known model nests arrays, and refusing them here leaves no depth to recurse into.
  if (value.array.element == gguf_type::array) return cursor_.corrupt("an array holds arrays");
  auto count = cursor_.read<std::uint64_t>();
  if (!count) return std::move(count).why();
  value.array.count = *count;
  if (value.array.element != gguf_type::string) {
    auto bytes = cursor_.take(*count, *size);
    if (!bytes) return std::move(bytes).why();
    value.array.bytes = *bytes;
    return {};
  }
  auto texts = cursor_.take_strings(*count);
  if (!texts) return std::move(texts).why();
  value.array.bytes = *texts;
  return {};
}

result<void> gguf_parser::read_alignment() {
  auto alignment = file_.unsigned_integer_or("general.alignment", alignment_);
  if (!alignment) return std::move(alignment).why();
  // The specification asks for a multiple of 8; all writers use powers of two, and tensors' offsets rely on it.
  if (*alignment < 8 || *alignment > most_alignment || !std::has_single_bit(*alignment)) {
    return cursor_.corrupt("general.alignment is " + std::to_string(*alignment) +
                           ", not a power of two from 8 to 2^20");
  }
  alignment_ = *alignment;
  return {};
}

result<void> gguf_parser::read_tensors() {
  file_.tensors_.reserve(tensors_);
  for (std::uint64_t i = 0; i < tensors_; ++i) {
    const std::uint64_t start = cursor_.offset();
    gguf_tensor tensor;
    auto name = cursor_.read_string();
    if (!name) return std::move(name).why();
    if (name->empty() || name->size() >= longest_name)
      return cursor_.corrupt_at(start, "a tensor's name is empty or too long");
    tensor.name = *name;
    if (auto read = read_shape(tensor); !read) return read;
    auto offset = cursor_.read<std::uint64_t>();
    if (!offset) return std::move(offset).why();
    if (*offset % alignment_ != 0 || *offset > static_cast<std::uint64_t>(file_.size_)) {
      return cursor_.corrupt("tensor " + quoted(*name) + " lies at " + std::to_string(*offset) +
                             ", past the end or not aligned to " + std::to_string(alignment_));
    }
    tensor.offset = static_cast<std::int64_t>(*offset);
    if (!file_.by_name_.emplace(*name, file_.tensors_.size()).second) {
      return cursor_.corrupt_at(start, "tensor " + quoted(*name) + " appears twice");
    }
    file_.tensors_.push_back(tensor);
  }
  return {};
}

result<void> gguf_parser::read_shape(gguf_tensor& tensor) {
  auto dimensions = cursor_.read<std::uint32_t>();
  if (!dimensions) return std::move(dimensions).why();
  if (*dimensions < 1 || *dimensions > most_dimensions) {
    return cursor_.corrupt("tensor " + quoted(tensor.name) + " has " + std::to_string(*dimensions) + " dimensions");
  }
  std::uint64_t rows = 1;
  for (std::uint32_t i = 0; i < *dimensions; ++i) {
    auto size = cursor_.read<std::uint64_t>();
    if (!size) return std::move(size).why();
    // A dimension fits the file even at 1/8 byte an element, which no type goes below: products below cannot wrap.
    const std::uint64_t most = static_cast<std::uint64_t>(file_.size_) * 8;
    if (*size < 1 || *size > most || (i > 0 && rows > most / *size)) {
      return cursor_.corrupt("tensor " + quoted(tensor.name) + " has dimensions that the file cannot hold");
    }
    if (i == 0) tensor.cols = static_cast<std::int64_t>(*size);
    if (i > 0) rows *= *size;
  }
  tensor.rows = static_cast<std::int64_t>(rows);
  auto number = cursor_.read<std::uint32_t>();
  if (!number) return std::move(number).why();
  tensor.type = find_ggml_type(*number);
  if (tensor.type == nullptr) {
    return cursor_.corrupt("tensor " + quoted(tensor.name) + " has unknown type " + std::to_string(*number));
  }
  if (tensor.cols % tensor.type->block != 0) {
    return cursor_.corrupt("tensor " + quoted(tensor.name) + ": rows of " + std::to_string(tensor.cols) +
                           " are not whole blocks of " + std::string(tensor.type->name));
  }
  return {};
}

result<void> gguf_parser::place_tensors() {
  const std::uint64_t size = static_cast<std::uint64_t>(file_.size_);
  // At most the file's size plus 2^20: no overflow. Without tensors the padding may be missing.
  const std::uint64_t data = (cursor_.offset() + alignment_ - 1) / alignment_ * alignment_;
  for (gguf_tensor& tensor : file_.tensors_) {
    const std::uint64_t row = static_cast<std::uint64_t>(tensor.cols) / tensor.type->block * tensor.type->block_bytes;
    const auto rows = static_cast<std::uint64_t>(tensor.rows);
    const std::uint64_t start = data + static_cast<std::uint64_t>(tensor.offset);
    if (start > size || rows > (size - start) / row) {
      return cursor_.corrupt_at(start, "tensor " + quoted(tensor.name) + " reaches past the end of the file");
    }
    tensor.offset = static_cast<std::int64_t>(start);
    tensor.bytes = static_cast<std::int64_t>(rows * row);
  }
  return {};
}

result<void> gguf_parser::refuse_overlaps() {
  std::vector<std::size_t> order(file_.tensors_.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(),
            [this](std::size_t a, std::size_t b) { return file_.tensors_[a].offset < file_.tensors_[b].offset; });
  for (std::size_t i = 1; i < order.size(); ++i) {
    const gguf_tensor& before = file_.tensors_[order[i - 1]];
    const gguf_tensor& after = file_.tensors_[order[i]];
    if (before.offset + before.bytes > after.offset) {
      return cursor_.corrupt_at(static_cast<std::uint64_t>(after.offset),
                                "tensors " + quoted(before.name) + " and " + quoted(after.name) + " overlap");
    }
  }
  return {};
}

}  // namespace troupe::models
