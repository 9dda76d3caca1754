// Element types and a non-owning view of a dense tensor. Knows nothing of devices, files or models.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace troupe::memory {

/// Element types that weights and activations have. Quantised types store blocks of 32 or 256 elements
/// (layouts: the GGUF specification's "GGML quantization types"; mxfp4: the OCP Microscaling Formats specification).
enum class dtype : std::uint8_t {
  f32,
  f16,
  bf16,
  q4_0,
  q4_1,
  q5_0,
  q5_1,
  q8_0,
  q2_k,
  q3_k,
  q4_k,
  q5_k,
  q6_k,
  iq4_nl,
  iq4_xs,
  mxfp4,
  i32
};

struct dtype_info {
  std::string_view name;
  std::int32_t block;        ///< elements a block
  std::int32_t block_bytes;  ///< bytes a block
};

constexpr dtype_info info(dtype type) noexcept {
  switch (type) {
    case dtype::f32: return {"F32", 1, 4};
    case dtype::f16: return {"F16", 1, 2};
    case dtype::bf16: return {"BF16", 1, 2};
    case dtype::q4_0: return {"Q4_0", 32, 18};
    case dtype::q4_1: return {"Q4_1", 32, 20};
    case dtype::q5_0: return {"Q5_0", 32, 22};
    case dtype::q5_1: return {"Q5_1", 32, 24};
    case dtype::q8_0: return {"Q8_0", 32, 34};
    case dtype::q2_k: return {"Q2_K", 256, 84};
    case dtype::q3_k: return {"Q3_K", 256, 110};
    case dtype::q4_k: return {"Q4_K", 256, 144};
    case dtype::q5_k: return {"Q5_K", 256, 176};
    case dtype::q6_k: return {"Q6_K", 256, 210};
    case dtype::iq4_nl: return {"IQ4_NL", 32, 18};
    case dtype::iq4_xs: return {"IQ4_XS", 256, 136};
    case dtype::mxfp4: return {"MXFP4", 32, 17};
    case dtype::i32: return {"I32", 1, 4};
  }
  return {"?", 1, 1};
}

/// A [rows, cols] view, rows contiguous in memory and `stride_bytes` apart. Does not own; trivially copied.
/// Vectors are [1, n]. For quantised types cols is a multiple of the block.
struct tensor_view {
  void* data = nullptr;
  dtype type = dtype::f32;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t stride_bytes = 0;

  std::int64_t bytes() const noexcept { return rows * stride_bytes; }
  std::byte* row_bytes(std::int64_t r) const noexcept { return static_cast<std::byte*>(data) + r * stride_bytes; }
  float* f32(std::int64_t r = 0) const noexcept { return reinterpret_cast<float*>(row_bytes(r)); }
  tensor_view slice_rows(std::int64_t first, std::int64_t count) const noexcept {
    return {row_bytes(first), type, count, cols, stride_bytes};
  }
};

/// Bytes of one contiguous row of `cols` elements.
constexpr std::int64_t row_size(dtype type, std::int64_t cols) noexcept {
  return cols / info(type).block * info(type).block_bytes;
}

}  // namespace troupe::memory
