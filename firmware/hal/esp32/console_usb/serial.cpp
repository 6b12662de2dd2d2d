// Records and commands over the chip's own USB port (USB-Serial-JTAG of ESP32-C3 and ESP32-S3).
#include "hal/esp32/serial.h"

#include <cstdarg>
#include <cstdio>

#include "driver/usb_serial_jtag.h"
#include "esp_check.h"
#include "esp_log.h"
#include "freertos/FreeRTOS.h"
#include "freertos/task.h"
#include "hal/esp32/radio.h"
#include "hal/hal.h"

namespace edgeward::hal {
namespace {

constexpr uint32_t kReceiveBufferBytes = 4096;
constexpr uint32_t kTransmitBufferBytes = 2048;
constexpr size_t kPieceBytes = 512;  // the driver takes a piece whole or not at all
constexpr size_t kLogLineBytes = 192;
// A computer that reads takes a piece much sooner. One that does not, or is not there, must not stop the firmware.
constexpr TickType_t kPatience = pdMS_TO_TICKS(200);
// The driver cannot be woken from elsewhere: a message of the network is looked for so often.
constexpr TickType_t kLook = pdMS_TO_TICKS(10);

// The driver has no way to look whether something arrived without taking it.
uint8_t g_held = 0;
bool g_holds = false;
bool g_listening = true;  // the last piece was accepted

int send_log_line(const char* format, va_list args) {
  char line[kLogLineBytes];
  const int length = std::vsnprintf(line, sizeof(line), format, args);
  if (length <= 0) return length;
  const size_t bytes = static_cast<size_t>(length) < sizeof(line) ? static_cast<size_t>(length) : sizeof(line) - 1;
  serial_write(reinterpret_cast<const uint8_t*>(line), bytes);
  return length;
}

}  // namespace

void open_serial() {
  usb_serial_jtag_driver_config_t config = {};
  config.rx_buffer_size = kReceiveBufferBytes;
  config.tx_buffer_size = kTransmitBufferBytes;
  ESP_ERROR_CHECK(usb_serial_jtag_driver_install(&config));
  esp_log_set_vprintf(send_log_line);
}

void wait_for_serial(uint32_t ticks) {
  while (!g_holds && ticks > 0 && !message_waits()) {
    const TickType_t piece = ticks < kLook ? ticks : kLook;
    g_holds = usb_serial_jtag_read_bytes(&g_held, 1, piece) == 1;
    ticks -= piece;
  }
}

void wake_serial() {}

// The driver of ESP-IDF 5.1 cannot be asked: 50 ms are 50 USB frames.
void drain_serial() { vTaskDelay(pdMS_TO_TICKS(50)); }

size_t serial_read(uint8_t* buffer, size_t capacity) {
  if (capacity == 0) return 0;
  size_t count = 0;
  if (g_holds) buffer[count++] = g_held;
  g_holds = false;
  if (count < capacity) {
    const int taken = usb_serial_jtag_read_bytes(buffer + count, static_cast<uint32_t>(capacity - count), 0);
    if (taken > 0) count += static_cast<size_t>(taken);
  }
  return count;
}

// Without a computer that reads, what is said is lost, and its sequence numbers tell.
void serial_write(const uint8_t* data, size_t bytes) {
  while (bytes > 0) {
    const size_t piece = bytes < kPieceBytes ? bytes : kPieceBytes;
    g_listening = usb_serial_jtag_write_bytes(data, piece, g_listening ? kPatience : 0) > 0;
    if (!g_listening) return;
    data += piece;
    bytes -= piece;
  }
}

}  // namespace edgeward::hal
