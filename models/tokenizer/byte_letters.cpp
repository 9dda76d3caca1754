// Printable Latin-1 characters stand for themselves; the 68 other bytes follow from U+0100 in order.
#include "models/tokenizer/byte_letters.hpp"

#include <array>
#include <cstdint>

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

// Every letter is below U+0144: one byte of UTF-8, or two.
bool append_bytes_of_letters(std::string_view text, std::string& bytes) {
  const size_t before = bytes.size();
  for (size_t i = 0; i < text.size(); ++i) {
    const auto lead = static_cast<uint8_t>(text[i]);
    unsigned letter = lead;
    if (lead >= 0xC2 && lead <= 0xC5 && i + 1 < text.size() && (static_cast<uint8_t>(text[i + 1]) & 0xC0) == 0x80)
      letter = (lead & 0x1Fu) << 6 | (static_cast<uint8_t>(text[++i]) & 0x3Fu);
    else if (lead >= 0x80) letter = byte_of_letter.size();
    if (letter >= byte_of_letter.size() || byte_of_letter[letter] < 0) {
      bytes.resize(before);
      return false;
    }
    bytes.push_back(static_cast<char>(byte_of_letter[letter]));
  }
  return true;
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
