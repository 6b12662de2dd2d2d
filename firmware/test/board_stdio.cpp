// The firmware with standard input as its serial port: for tests that feed it bytes under a sanitizer and read all it
// said. Time does not pass by itself: the clock advances 1 ms each time nothing is left to read.
//
//   board-stdio FLASH_IMAGE [ARENA_BYTES [PIN]]
//
// A sensor of this board is at PIN.
//
// Ends at the end of input, or with exit code 7 when the firmware restarts the board.
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "core/board.h"
#include "hal/host/host.h"

namespace edgeward::hal {
namespace {

uint64_t g_now_us = 0;
bool g_ended = false;
uint32_t g_retained[kRetainedWords];
uint64_t g_sensor_pins = 0;

}  // namespace

uint64_t clock_us() { return g_now_us; }

size_t serial_read(uint8_t* buffer, size_t capacity) {
  const ssize_t count = read(STDIN_FILENO, buffer, capacity);
  g_ended = count <= 0;
  return g_ended ? 0 : static_cast<size_t>(count);
}

void serial_write(const uint8_t* data, size_t bytes) {
  if (std::fwrite(data, 1, bytes, stdout) != bytes) std::exit(1);
}

void idle(uint32_t max_wait_us) {
  if (max_wait_us > 0) g_now_us += 1000;
}

SystemInfo system_info() {
  SystemInfo info{};
  info.chip = "host";
  info.simulated = true;
  info.reset_reason = ResetReason::power_on;
  info.boot_id = 1;
  info.retained = g_retained;
  info.sensor_pins = g_sensor_pins;
  return info;
}

void restart() {
  std::fflush(stdout);
  std::exit(7);
}

}  // namespace edgeward::hal

int main(int count, char** arguments) {
  using namespace edgeward;
  if (count < 2) return 2;
  if (const char* const problem = hal::open_flash(arguments[1])) {
    std::fprintf(stderr, "%s\n", problem);
    return 2;
  }
  const auto arena_bytes = static_cast<uint32_t>(count > 2 ? std::atoi(arguments[2]) : 256 * 1024);
  if (count > 3) hal::g_sensor_pins = uint64_t{1} << std::atoi(arguments[3]);
  // From the heap, so that a sanitizer guards both ends.
  void* const arena = std::aligned_alloc(16, (arena_bytes + 15) / 16 * 16);
  static Board board(engine(), static_cast<uint8_t*>(arena), arena_bytes);
  board.start();
  while (!hal::g_ended) board.step(1000);
  for (uint32_t waited_us = 0; waited_us <= 2 * kSilenceUs; waited_us += 1000) board.step(1000);
  std::free(arena);
  return std::fflush(stdout) == 0 ? 0 : 1;
}
