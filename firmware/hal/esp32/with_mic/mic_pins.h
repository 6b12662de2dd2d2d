// Where a microphone is wired to a chip. Of the pins that are free for rules (core/pins.h); no pin of JTAG.
#pragma once

#include <cstdint>
#include <initializer_list>

namespace edgeward::hal {

struct MicPins {
  int clock = -1;        // SCK or BCLK
  int word_select = -1;  // WS or LRCL
  int data = -1;         // SD or DOUT
};

constexpr bool same_text(const char* a, const char* b) {
  while (*a != '\0' && *a == *b) {
    ++a;
    ++b;
  }
  return *a == *b;
}

// `chip` as hal::SystemInfo has it. A chip that is not here has no pins that could be right.
constexpr MicPins mic_pins(const char* chip) {
  if (same_text(chip, "esp32")) return {32, 25, 33};
  if (same_text(chip, "esp32s3")) return {9, 10, 11};
  if (same_text(chip, "esp32c3")) return {10, 3, 1};
  return {-1, -1, -1};
}

constexpr bool are_usable(const MicPins& pins) {
  for (const int pin : {pins.clock, pins.word_select, pins.data}) {
    if (pin < 0 || pin > 48) return false;
  }
  return pins.clock != pins.word_select && pins.clock != pins.data && pins.word_select != pins.data;
}

constexpr uint64_t mask_of(const MicPins& pins) {
  return uint64_t{1} << pins.clock | uint64_t{1} << pins.word_select | uint64_t{1} << pins.data;
}

}  // namespace edgeward::hal
