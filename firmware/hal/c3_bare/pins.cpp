// Pins of a bare ESP32-C3, by their registers: technical reference manual, "IO MUX and GPIO Matrix". Levels only: a
// simulator has no use for PWM, and nothing here ends an output while the firmware is busy.
#include "core/pins.h"
#include "hal/hal.h"

namespace edgeward::hal {
namespace {

constexpr uint32_t kPins = 22;
constexpr uint32_t kGpio = 0x60004000, kIoMux = 0x60009000;
constexpr uint32_t kSet = 0x08, kClear = 0x0C, kEnable = 0x24, kDisable = 0x28;
constexpr uint32_t kOutputOf = 0x554;  // of pin n: + 4 n
constexpr uint32_t kPlainOutput = 0x80;
constexpr uint32_t kMuxOf = 0x04;      // of pin n: + 4 n
constexpr uint32_t kAsGpio = 1u << 12;
constexpr uint32_t kStrength = 2u << 10;  // as after a reset

volatile uint32_t& reg(uint32_t address) { return *reinterpret_cast<volatile uint32_t*>(address); }

void set(const Pin& pin, bool active) { reg(kGpio + (active != pin.active_low ? kSet : kClear)) = 1u << pin.number; }

}  // namespace

void pins_release() {
  for (uint32_t pin = 0; pin < kPins; ++pin) {
    if (pin_refusal("esp32c3", pin) == nullptr) reg(kGpio + kDisable) = 1u << pin;
  }
}

bool pin_claim(const Pin& pin) {
  if (pin.number >= kPins || pin.hz != 0) return false;
  set(pin, false);
  reg(kGpio + kOutputOf + 4 * pin.number) = kPlainOutput;
  reg(kIoMux + kMuxOf + 4 * pin.number) = kAsGpio | kStrength;
  reg(kGpio + kEnable) = 1u << pin.number;
  return true;
}

void pin_on(const Pin& pin, uint64_t /*for_us*/) { set(pin, true); }
void pin_off(const Pin& pin) { set(pin, false); }

}  // namespace edgeward::hal
