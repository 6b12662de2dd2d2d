// Which pins of a chip may be outputs of rules. The one table there is: the core asks it before it drives a pin, and no HAL has
// another. SystemInfo::sensor_pins adds what only some builds have.
//
// Refused are pins the chip or the firmware needs, those that cannot be outputs, and those that a chip sets by itself while it
// starts: what is wired there would be switched on by every reset. Sources: ESP-IDF's API reference, "GPIO Summary" of each chip;
// datasheets of ESP32, ESP32-S3 and ESP32-C3, "Strapping Pins", "Power-Up Glitches on Pins" and "IO MUX" (pull-ups after reset).
#pragma once

#include <cstdint>

namespace edgeward {

constexpr uint32_t kMostPins = 64;  // of any chip

// Why rules may not drive this pin, static text; null where they may. `chip` as hal::SystemInfo has it.
const char* pin_refusal(const char* chip, uint32_t pin);

}  // namespace edgeward
