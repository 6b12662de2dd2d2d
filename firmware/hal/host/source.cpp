// The sources of a virtual board: "file", a recording of int16 values, channel after channel, played in real time; and "user".
#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

#include "hal/hal.h"
#include "hal/user_source.h"

namespace edgeward::hal {
namespace {

constexpr char kFileVariable[] = "EDGEWARD_BOARD_SAMPLES";
constexpr uint64_t kRingValues = 2048;  // as many as an ESP32 keeps that nobody has read; only gaps that are counted heed it

UserSource g_user;
int g_file = -1;
uint64_t g_rate_hz = 0;
uint64_t g_channels = 1;
uint64_t g_start_us = 0;
uint64_t g_played = 0;
Missed g_missed_are = Missed::repeated;
bool g_gap = false;
uint64_t g_gap_at = 0;  // the value before which samples are missing

// Values that were measured until now.
uint64_t due() { return (clock_us() - g_start_us) * g_rate_hz / 1000000 * g_channels; }

}  // namespace

bool source_open(const char* name, uint32_t rate_hz, uint32_t channels, Missed missed) {
  source_close();
  if (std::strcmp(name, "user") == 0) return g_user.open(rate_hz, channels, missed);
  const char* const path = std::getenv(kFileVariable);
  if (std::strcmp(name, "file") != 0 || path == nullptr) return false;
  g_file = open(path, O_RDONLY | O_CLOEXEC);
  g_rate_hz = rate_hz;
  g_channels = channels;
  g_start_us = clock_us();
  g_played = 0;
  g_missed_are = missed;
  g_gap = false;
  return g_file >= 0;
}

void source_close() {
  g_user.close();
  if (g_file >= 0) close(g_file);
  g_file = -1;
}

size_t source_read(int16_t* values, size_t capacity) {
  if (g_user.on()) return g_user.read(values, capacity);
  if (g_file < 0) return 0;
  uint64_t until = due();
  if (!g_gap && g_missed_are == Missed::counted && until - g_played > kRingValues) {
    g_gap = true;
    g_gap_at = (g_played + kRingValues) / g_channels * g_channels;
  }
  if (g_gap) until = g_gap_at;
  if (until <= g_played) return 0;
  const size_t wanted = until - g_played < capacity ? static_cast<size_t>(until - g_played) : capacity;
  const ssize_t bytes = read(g_file, values, wanted * sizeof *values);
  const size_t count = bytes > 0 ? static_cast<size_t>(bytes) / sizeof *values : 0;
  g_played += count;
  return count;
}

uint32_t source_missed() {
  if (g_user.on()) return g_user.take_missed();
  if (g_file < 0 || !g_gap || g_played < g_gap_at) return 0;
  g_gap = false;
  const uint64_t values = due() - g_played;
  if (lseek(g_file, static_cast<off_t>(values * sizeof(int16_t)), SEEK_CUR) < 0) return 0;
  g_played += values;
  return static_cast<uint32_t>(values / g_channels);
}

}  // namespace edgeward::hal
