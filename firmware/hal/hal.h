// Everything the firmware asks of a board. Some twenty functions; one implementation is linked per target
// (hal/host, hal/esp32, hal/c3_bare), chosen by the build, never by #ifdef.
#pragma once

#include <cstddef>
#include <cstdint>

namespace edgeward::hal {

// Two slots for models, one flash sector for the keys that sign them, three for where the board belongs, two places for programs,
// and two sectors that say which of those the boot loader starts (hal/firmware.h).
enum class Slot : uint8_t { a = 0, b = 1, keys = 2, network = 3, app_a = 4, app_b = 5, choice = 6 };
constexpr uint32_t kSlotCount = 7;

// A slot as mapped into the address space, read only. `data` is null when the partition does not exist.
// The address is at least 16-byte aligned and stays valid until restart; it shows what slot_write() wrote.
struct SlotView {
  const uint8_t* data;
  uint32_t bytes;
};

enum class ResetReason : uint8_t { unknown, power_on, restart, crash, watchdog, brown_out, deep_sleep };

constexpr uint32_t kRetainedWords = 8;
constexpr uint32_t kFlashSectorBytes = 4096;

struct SystemInfo {
  const char* chip;         // "esp32", "esp32c3", "host", ...: static text, no quotes or control characters
  bool simulated;           // true wherever clock_us() is not the time of silicon
  ResetReason reset_reason;
  uint32_t boot_id;         // random, not 0, constant until the next restart
  uint32_t heap_free_bytes;        // 0 where there is no heap to ask
  uint32_t heap_least_free_bytes;  // least since boot
  uint32_t stack_least_free_bytes; // of the task that runs the firmware; 0 where unknown
  // kRetainedWords words that survive a restart or a crash but not loss of power (RTC memory). Their content after
  // power-on is arbitrary: code that uses them adds a check value. Null where the target has no such memory.
  volatile uint32_t* retained;
  // Bit N: GPIO N is a sensor's that only some builds have (core/pins.h has those of all), so no rule may drive it.
  uint64_t sensor_pins;
};

// Microseconds since boot, monotonic.
uint64_t clock_us();

// Takes what has arrived, without waiting; returns the number of bytes, 0 when there are none.
size_t serial_read(uint8_t* buffer, size_t capacity);

// Sends all bytes; waits for room when the transmitter is full.
void serial_write(const uint8_t* data, size_t bytes);

SlotView slot_map(Slot slot);

// Bytes of a slot without mapping it, 0 where there is none. And the end of a mapping, whose addresses are void then: a place for a
// program takes more of the address space than a chip has to spare.
uint32_t slot_bytes(Slot slot);
void slot_unmap(Slot slot);

// Sets whole sectors to 0xFF. `offset` and `bytes` are multiples of kFlashSectorBytes. False when out of range or the
// flash reported an error.
bool slot_erase(Slot slot, uint32_t offset, uint32_t bytes);

// Flash semantics: clears bits, never sets them; the range must have been erased. `offset` and `bytes` are multiples
// of 4. False when out of range or the flash reported an error.
bool slot_write(Slot slot, uint32_t offset, const uint8_t* data, uint32_t bytes);

// What becomes of a sample that was not measured, or for which there was no room: the last one again, so that windows keep
// their length; or a gap, which source_missed() counts.
enum class Missed : uint8_t { repeated, counted };

// Starts taking samples of `channels` values at `rate_hz` from a source of this board: "file" on the host, "adc", "imu"
// and "mic" on an ESP32, and "user" everywhere (hooks/hooks.h). False when the target does not have it, it does not answer,
// or it has another number of channels.
bool source_open(const char* name, uint32_t rate_hz, uint32_t channels, Missed missed);
void source_close();

// Takes values that have been measured, channel after channel, without waiting; returns how many.
size_t source_read(int16_t* values, size_t capacity);

// How many samples are missing between the values read so far and the next one. To be called where source_read() gave nothing.
uint32_t source_missed();

// An output that rules drive; core/pins.h says which pins there may be. `hz` 0: a level, else a square wave that is active for
// `duty_percent` of the time.
struct Pin {
  uint32_t number;
  bool active_low;
  uint32_t hz;
  uint32_t duty_percent;
};

// Every pin rules may have, as after power-on: an output no more. A restart need not do that by itself.
void pins_release();

// Makes a pin an output that is not active. False where this target cannot. It stays that until pins_release(), or until it is
// claimed for something else.
bool pin_claim(const Pin& pin);

// Active from now on, and no longer than `for_us` (at least 1): a target with a timer ends it even while the firmware is busy.
void pin_on(const Pin& pin, uint64_t for_us);
void pin_off(const Pin& pin);

SystemInfo system_info();

// Gives the processor away until serial input arrives or `max_wait_us` have passed, whichever is first; also feeds the
// watchdog. May return early.
void idle(uint32_t max_wait_us);

[[noreturn]] void restart();

}  // namespace edgeward::hal
