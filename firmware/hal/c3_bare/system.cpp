// UART0, time and restart of a bare ESP32-C3. Register addresses: technical reference manual, "UART Controller".
#include <cstring>

#include "hal/c3_bare/kept.h"
#include "hal/user_source.h"

namespace edgeward::hal {
namespace {

volatile uint32_t* const g_uart_fifo = reinterpret_cast<volatile uint32_t*>(0x60000000);
volatile uint32_t* const g_uart_status = reinterpret_cast<volatile uint32_t*>(0x6000001c);
constexpr uint32_t kTransmitRoom = 120;

// The simulator runs the chip's cycle counter 256 times too fast, on purpose. On silicon it would have to be started.
constexpr uint32_t kCountsPerUs = 160 * 256;

UserSource g_user;

uint32_t received() { return *g_uart_status & 0x3ff; }
uint32_t waiting_to_leave() { return (*g_uart_status >> 16) & 0x3ff; }

}  // namespace

// Misses turns of the 32-bit counter (0.1 s) in which nobody asked: monotonic, but no measure of a long inference.
uint64_t clock_us() {
  static uint32_t last = 0;
  static uint64_t counts = 0;
  uint32_t now;
  asm volatile("csrr %0, 0x7e2" : "=r"(now));
  counts += now - last;
  last = now;
  return counts / kCountsPerUs;
}

size_t serial_read(uint8_t* buffer, size_t capacity) {
  size_t count = 0;
  while (count < capacity && received() != 0) buffer[count++] = static_cast<uint8_t>(*g_uart_fifo);
  return count;
}

void serial_write(const uint8_t* data, size_t bytes) {
  for (size_t i = 0; i < bytes; ++i) {
    while (waiting_to_leave() > kTransmitRoom) {
    }
    *g_uart_fifo = data[i];
  }
}

// The only sensor is one's own.
bool source_open(const char* name, uint32_t rate_hz, uint32_t channels, Missed missed) {
  return std::strcmp(name, "user") == 0 && g_user.open(rate_hz, channels, missed);
}
void source_close() { g_user.close(); }
size_t source_read(int16_t* values, size_t capacity) { return g_user.on() ? g_user.read(values, capacity) : 0; }
uint32_t source_missed() { return g_user.take_missed(); }

SystemInfo system_info() {
  SystemInfo info = {};
  info.chip = "esp32c3";
  info.simulated = true;
  info.reset_reason = g_kept.restarts == 0 ? ResetReason::power_on : ResetReason::restart;
  info.boot_id = 0xC3000001 + g_kept.restarts;  // a simulation repeats exactly: nothing here is random
  info.retained = g_kept.retained;
  return info;
}

void idle(uint32_t max_wait_us) {
  const uint64_t start = clock_us();
  while (received() == 0 && clock_us() - start < max_wait_us) {
  }
}

extern "C" [[noreturn]] void _start();

void restart() {
  while (waiting_to_leave() != 0) {
  }
  ++g_kept.restarts;
  _start();
}

}  // namespace edgeward::hal
