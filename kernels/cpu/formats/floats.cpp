// F32, F16, BF16: 16 numbers for each column. What is no number stays what it is. Knows no other family.
#include <bit>
#include <cstring>

#include "kernels/cpu/formats/tile_format.hpp"
#include "kernels/cpu/half.hpp"
#include "kernels/cpu/packed_tiles.hpp"

namespace troupe::kernels {
namespace {

template <class Element>
bool pack_floats(const tensor_view& source, std::int64_t first, std::int64_t rows, std::byte* out) noexcept {
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::byte* from = source.row_bytes(first + r);
    for (std::int64_t c = 0; c < source.cols; ++c)
      std::memcpy(out + (c * tile_rows + r) * static_cast<std::int64_t>(sizeof(Element)),
                  from + c * static_cast<std::int64_t>(sizeof(Element)), sizeof(Element));
  }
  return true;
}

template <class Element, float (*ToFloat)(Element) noexcept>
void read_floats(const std::byte* tile, std::int64_t row, std::int64_t cols, float* out) noexcept {
  for (std::int64_t c = 0; c < cols; ++c) {
    Element bits;
    std::memcpy(&bits, tile + (c * tile_rows + row) * static_cast<std::int64_t>(sizeof(Element)), sizeof(Element));
    out[c] = ToFloat(bits);
  }
}

float from_f16(std::uint16_t bits) noexcept { return f16_to_f32(bits); }
float from_bf16(std::uint16_t bits) noexcept { return bf16_to_f32(bits); }
float from_f32(std::uint32_t bits) noexcept { return std::bit_cast<float>(bits); }

}  // namespace

const tile_format f16_tiles{pack_floats<std::uint16_t>, read_floats<std::uint16_t, from_f16>};
const tile_format bf16_tiles{pack_floats<std::uint16_t>, read_floats<std::uint16_t, from_bf16>};
const tile_format f32_tiles{pack_floats<std::uint32_t>, read_floats<std::uint32_t, from_f32>};

}  // namespace troupe::kernels
