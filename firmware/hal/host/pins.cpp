// Pins of a virtual board: each change is a line in the file that EDGEWARD_BOARD_PINS names, microseconds since boot, pin
// and what it is: `81234 3 high`, `81234 3 low`, `81234 3 pwm 1000 25` with frequency and the percentage of time it is
// high, `0 * released`.
#include <fcntl.h>
#include <unistd.h>

#include <cstdarg>
#include <cstdio>
#include <cstdlib>

#include "core/pins.h"
#include "hal/hal.h"

namespace edgeward::hal {
namespace {

constexpr char kFileVariable[] = "EDGEWARD_BOARD_PINS";

// Whole lines, at once, so a reader sees no part of one.
void note(const char* format, ...) {
  const char* const path = std::getenv(kFileVariable);
  if (path == nullptr) return;
  char line[96];
  int used = std::snprintf(line, sizeof line, "%llu ", static_cast<unsigned long long>(clock_us()));
  va_list values;
  va_start(values, format);
  used += std::vsnprintf(line + used, sizeof line - static_cast<size_t>(used), format, values);
  va_end(values);
  const int file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  const bool written = file >= 0 && write(file, line, static_cast<size_t>(used)) == used;
  if (!written) std::perror("edgeward-board: cannot write the file of pins");
  if (file >= 0) close(file);
}

bool g_on[kMostPins];

void set(const Pin& pin, bool active) {
  g_on[pin.number] = active;
  note("%u %s\n", pin.number, active != pin.active_low ? "high" : "low");
}

}  // namespace

void pins_release() { note("* released\n"); }

bool pin_claim(const Pin& pin) {
  set(pin, false);
  return true;
}

// No timer: the core ends it in time, it only does not while an inference lasts. What goes on is no change.
void pin_on(const Pin& pin, uint64_t /*for_us*/) {
  if (g_on[pin.number]) return;
  if (pin.hz == 0) return set(pin, true);
  g_on[pin.number] = true;
  note("%u pwm %u %u\n", pin.number, pin.hz, pin.active_low ? 100 - pin.duty_percent : pin.duty_percent);
}

void pin_off(const Pin& pin) { set(pin, false); }

}  // namespace edgeward::hal
