// The source "file" of a virtual board: a recording of int16 values, channel after channel, played in real time.
#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

#include "hal/hal.h"

namespace edgeward::hal {
namespace {

constexpr char kFileVariable[] = "EDGEWARD_BOARD_SAMPLES";

int g_file = -1;
uint32_t g_values_per_second = 0;
uint64_t g_start_us = 0;
uint64_t g_played = 0;

}  // namespace

bool source_open(const char* name, uint32_t rate_hz, uint32_t channels) {
  source_close();
  const char* const path = std::getenv(kFileVariable);
  if (std::strcmp(name, "file") != 0 || path == nullptr) return false;
  g_file = open(path, O_RDONLY | O_CLOEXEC);
  g_values_per_second = rate_hz * channels;
  g_start_us = clock_us();
  g_played = 0;
  return g_file >= 0;
}

void source_close() {
  if (g_file >= 0) close(g_file);
  g_file = -1;
}

size_t source_read(int16_t* values, size_t capacity) {
  if (g_file < 0) return 0;
  const uint64_t due = (clock_us() - g_start_us) * g_values_per_second / 1000000;
  if (due <= g_played) return 0;
  const size_t wanted = due - g_played < capacity ? static_cast<size_t>(due - g_played) : capacity;
  const ssize_t bytes = read(g_file, values, wanted * sizeof *values);
  const size_t count = bytes > 0 ? static_cast<size_t>(bytes) / sizeof *values : 0;
  g_played += count;
  return count;
}

}  // namespace edgeward::hal
