// Fills a gguf_file from its bytes, checking everything. Knows the format's layout, not what keys mean.
#pragma once

#include <cstdint>

#include "models/gguf/byte_cursor.hpp"
#include "models/gguf/gguf_file.hpp"

namespace troupe::models {

class gguf_parser {
public:
  explicit gguf_parser(gguf_file& file)
      : file_(file), cursor_(file.name_, file.header_, static_cast<std::uint64_t>(file.size_)) {}
  result<void> run();
  /// run() failed only because the header goes on beyond the bytes that the file object was given.
  bool wants_more() const noexcept { return cursor_.wants_more(); }

private:
  result<void> read_counts();
  result<void> read_metadata();
  result<void> read_array(gguf_file::value& value);
  result<void> read_alignment();
  result<void> read_tensors();
  result<void> read_shape(gguf_tensor& tensor);
  result<void> place_tensors();
  result<void> refuse_overlaps();

  gguf_file& file_;
  byte_cursor cursor_;
  std::uint64_t keys_ = 0;
  std::uint64_t tensors_ = 0;
  std::uint64_t alignment_ = 32;
};

}  // namespace troupe::models
