// Records and commands over UART0, through the driver, so that a whole record goes out in one piece.
#include "hal/esp32/serial.h"

#include <cstdarg>
#include <cstdio>

#include "driver/uart.h"
#include "esp_check.h"
#include "esp_log.h"
#include "freertos/FreeRTOS.h"
#include "freertos/queue.h"
#include "hal/esp32/radio.h"
#include "hal/hal.h"

namespace edgeward::hal {
namespace {

constexpr uart_port_t kPort = UART_NUM_0;
constexpr int kBaud = 115200;
constexpr int kReceiveBufferBytes = 4096;  // 0.35 s at 115200 baud: longer than a flash sector takes to erase
constexpr int kTransmitBufferBytes = 2048;
constexpr int kEvents = 8;  // they only wake idle(); a full queue loses nothing
constexpr size_t kLogLineBytes = 192;

QueueHandle_t g_events = nullptr;

int send_log_line(const char* format, va_list args) {
  char line[kLogLineBytes];
  const int length = std::vsnprintf(line, sizeof(line), format, args);
  if (length <= 0) return length;
  const size_t bytes = static_cast<size_t>(length) < sizeof(line) ? static_cast<size_t>(length) : sizeof(line) - 1;
  uart_write_bytes(kPort, line, bytes);
  return length;
}

}  // namespace

void open_serial() {
  uart_config_t config = {};
  config.baud_rate = kBaud;
  config.data_bits = UART_DATA_8_BITS;
  config.parity = UART_PARITY_DISABLE;
  config.stop_bits = UART_STOP_BITS_1;
  config.flow_ctrl = UART_HW_FLOWCTRL_DISABLE;
  config.source_clk = UART_SCLK_DEFAULT;
  ESP_ERROR_CHECK(uart_driver_install(kPort, kReceiveBufferBytes, kTransmitBufferBytes, kEvents, &g_events, 0));
  ESP_ERROR_CHECK(uart_param_config(kPort, &config));
  ESP_ERROR_CHECK(uart_set_pin(kPort, UART_PIN_NO_CHANGE, UART_PIN_NO_CHANGE, UART_PIN_NO_CHANGE, UART_PIN_NO_CHANGE));
  // Every byte at once, instead of 120 bytes or a pause: an answer comes sooner, and simulators that do not model the
  // pause deliver too.
  ESP_ERROR_CHECK(uart_set_rx_full_threshold(kPort, 1));
  esp_log_set_vprintf(send_log_line);
}

void wait_for_serial(uint32_t ticks) {
  xQueueReset(g_events);  // what it said has been read, or is seen below
  size_t waiting = 0;
  if (uart_get_buffered_data_len(kPort, &waiting) == ESP_OK && waiting > 0) return;
  if (message_waits()) return;
  uart_event_t event;
  xQueueReceive(g_events, &event, ticks);
}

void wake_serial() {
  const uart_event_t event = {};
  xQueueSend(g_events, &event, 0);  // a full queue wakes too
}

void drain_serial() { uart_wait_tx_done(kPort, pdMS_TO_TICKS(1000)); }

size_t serial_read(uint8_t* buffer, size_t capacity) {
  const int taken = uart_read_bytes(kPort, buffer, capacity, 0);
  return taken > 0 ? static_cast<size_t>(taken) : 0;
}

void serial_write(const uint8_t* data, size_t bytes) { uart_write_bytes(kPort, data, bytes); }

}  // namespace edgeward::hal
