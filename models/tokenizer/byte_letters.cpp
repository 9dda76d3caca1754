// Printable Latin-1 characters stand for themselves; the 68 other bytes follow from U+0100 in order.
#include "models/tokenizer/byte_letters.hpp"

#include <array>
#include <cstdint>

#include "models/tokenizer/code_point.hpp"

namespace troupe::models {
namespace {

constexpr bool stands_for_itself(unsigned b) {
  return (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || (b >= 0xAE && b <= 0xFF);
}

constexpr auto letter_of_byte = [] {
  std::array<uint16_t, 256> letters{};
  uint16_t next = 0x100;
  for (unsigned b = 0; b < 256; ++b) letters[b] = stands_for_itself(b) ? static_cast<uint16_t>(b) : next++;
  return letters;
}();

constexpr auto byte_of_letter = [] {
  std::array<int16_t, 0x100 + 68> bytes{};
  for (auto& b : bytes) b = -1;
  for (unsigned b = 0; b < 256; ++b) bytes[letter_of_byte[b]] = static_cast<int16_t>(b);
  return bytes;
}();

}  // namespace

std::optional<std::string> bytes_of_letters(std::string_view text) {
  std::string bytes;
  bytes.reserve(text.size());
  while (!text.empty()) {
    const code_point c = read_code_point(text);
    if (!c.valid || c.value >= byte_of_letter.size() || byte_of_letter[c.value] < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(byte_of_letter[c.value]));
    text.remove_prefix(c.length);
  }
  return bytes;
}

std::string letters_of_bytes(std::string_view bytes) {
  std::string text;
  for (const char b : bytes) {
    const uint16_t letter = letter_of_byte[static_cast<uint8_t>(b)];
    if (letter < 0x80) {
      text.push_back(static_cast<char>(letter));
    } else {
      text.push_back(static_cast<char>(0xC0 | (letter >> 6)));
      text.push_back(static_cast<char>(0x80 | (letter & 0x3F)));
    }
  }
  return text;
}

}  // namespace troupe::models
