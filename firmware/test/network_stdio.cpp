// The firmware with standard input as its serial port and its network: for tests that feed it both under a sanitizer and read all
// it said. Hardly any time passes by itself.
//
//   network-stdio FLASH_IMAGE [REFUSED]
//
// stdin, stdout: a row of pieces, u8 kind, u32 length (little-endian), bytes. In: 's' for the serial port, 'n' a message from the
// network, 't' milliseconds that pass (u32), 'c' whether it is connected from now on (u8; at first it is). Out: 's', 'r' a record and
// 'p' a presence on the network. With REFUSED the network does not take the message of that number, counted from 0.
// Ends at the end of input, or with exit code 7 when the firmware restarts the board.
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#include "core/board.h"
#include "hal/host/boot_choice.h"
#include "hal/host/host.h"
#include "test/sent.h"

namespace edgeward::hal {
namespace {

uint64_t g_now_us = 0;
std::vector<uint8_t> g_serial, g_message;
size_t g_serial_at = 0;
bool g_started = false, g_connected = true;
uint32_t g_sent = 0, g_refused = UINT32_MAX;
uint32_t g_retained[kRetainedWords];

void say(char kind, const uint8_t* data, size_t bytes) {
  const auto length = static_cast<uint32_t>(bytes);
  if (std::fwrite(&kind, 1, 1, stdout) != 1 || std::fwrite(&length, 4, 1, stdout) != 1 ||
      std::fwrite(data, 1, bytes, stdout) != bytes) {
    std::exit(1);
  }
}

}  // namespace

// A little more each time, so that nothing takes no time at all.
uint64_t clock_us() { return ++g_now_us; }

size_t serial_read(uint8_t* buffer, size_t capacity) {
  const size_t left = g_serial.size() - g_serial_at, count = left < capacity ? left : capacity;
  if (count > 0) std::memcpy(buffer, g_serial.data() + g_serial_at, count);
  g_serial_at += count;
  return count;
}

void serial_write(const uint8_t* data, size_t bytes) { say('s', data, bytes); }

bool network_start(const NetworkSettings& settings) {
  check_place(settings);
  g_started = true;
  return true;
}

NetworkState network_state() {
  if (!g_started) return NetworkState::off;
  return g_connected ? NetworkState::connected : NetworkState::joining;
}

// The message has just its size on the heap, so that a sanitizer guards its ends.
size_t network_read(uint8_t* buffer, size_t capacity) {
  const std::vector<uint8_t> message = std::move(g_message);
  g_message.clear();
  if (!g_started || !g_connected || message.empty() || message.size() > capacity) return 0;
  std::memcpy(buffer, message.data(), message.size());
  return message.size();
}

bool network_send(Topic topic, const uint8_t* data, size_t bytes) {
  check_sent(data, bytes);
  if (!g_connected || g_sent++ == g_refused) return false;
  say(topic == Topic::presence ? 'p' : 'r', data, bytes);
  return true;
}

void idle(uint32_t) {}

SystemInfo system_info() {
  SystemInfo info{};
  info.chip = "host";
  info.simulated = true;
  info.reset_reason = ResetReason::power_on;
  info.boot_id = 1;
  info.retained = g_retained;
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
  hal::set_program(hal::choose_program());
  if (count > 2) hal::g_refused = static_cast<uint32_t>(std::atoi(arguments[2]));
  constexpr uint32_t kArenaBytes = 256 * 1024;
  void* const arena = std::aligned_alloc(16, kArenaBytes);
  const auto board = std::make_unique<Board>(engine(), static_cast<uint8_t*>(arena), kArenaBytes);
  board->start();
  while (board->step(1000)) {
  }
  char kind;
  uint32_t length;
  while (std::fread(&kind, 1, 1, stdin) == 1 && std::fread(&length, 4, 1, stdin) == 1) {
    std::vector<uint8_t> piece(length);
    if (std::fread(piece.data(), 1, length, stdin) != length) return 2;
    if (kind == 's') {
      hal::g_serial = std::move(piece);
      hal::g_serial_at = 0;
    } else if (kind == 'n') {
      hal::g_message = std::move(piece);
    } else if (kind == 'c') {
      hal::g_connected = piece.at(0) != 0;
    } else {
      uint32_t ms;
      std::memcpy(&ms, piece.data(), sizeof ms);
      hal::g_now_us += uint64_t{1000} * ms;
    }
    while (board->step(1000)) {
    }
  }
  std::free(arena);
  return std::fflush(stdout) == 0 ? 0 : 1;
}
