// Words of commands, parsed without surprises.
#pragma once

#include <cstdint>

namespace edgeward {

// A number of decimal digits and nothing else, up to `most`.
inline bool parse_count(const char* text, uint32_t most, uint32_t* out) {
  uint64_t value = 0;
  const char* p = text;
  for (; *p >= '0' && *p <= '9'; ++p) {
    value = value * 10 + static_cast<uint32_t>(*p - '0');
    if (value > most) return false;
  }
  *out = static_cast<uint32_t>(value);
  return p != text && *p == 0;
}

// `bytes` bytes as small hex digits and nothing else.
inline bool parse_hex(const char* text, uint8_t* out, uint32_t bytes) {
  for (uint32_t i = 0; i < 2 * bytes; ++i) {
    const char c = text[i];
    const bool digit = c >= '0' && c <= '9', letter = c >= 'a' && c <= 'f';
    if (!digit && !letter) return false;
    const auto half = static_cast<uint8_t>(digit ? c - '0' : c - 'a' + 10);
    out[i / 2] = i % 2 == 0 ? half : static_cast<uint8_t>(out[i / 2] << 4 | half);
  }
  return text[2 * bytes] == 0;
}

// The next word of a line, cut out in place; null at its end.
inline char* next_word(char** line) {
  char* p = *line;
  while (*p == ' ') ++p;
  if (*p == 0) return nullptr;
  char* const word = p;
  while (*p != 0 && *p != ' ') ++p;
  if (*p != 0) *p++ = 0;
  *line = p;
  return word;
}

}  // namespace edgeward
