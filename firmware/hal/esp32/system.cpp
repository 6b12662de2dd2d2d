// Time, waiting, restarting, and what the chip knows about itself.
#include "esp_attr.h"
#include "esp_heap_caps.h"
#include "esp_mac.h"
#include "esp_random.h"
#include "esp_system.h"
#include "esp_task_wdt.h"
#include "esp_timer.h"
#include "freertos/FreeRTOS.h"
#include "freertos/task.h"
#include "hal/esp32/radio.h"
#include "hal/esp32/serial.h"
#include "hal/esp32/source.h"
#include "hal/hal.h"
#include "sdkconfig.h"

namespace edgeward::hal {
namespace {

constexpr uint32_t kTickUs = 1000000 / CONFIG_FREERTOS_HZ;

RTC_NOINIT_ATTR uint32_t g_retained[kRetainedWords];

ResetReason reset_reason() {
  switch (esp_reset_reason()) {
    case ESP_RST_POWERON:
      return ResetReason::power_on;
    case ESP_RST_SW:
      return ResetReason::restart;
    case ESP_RST_PANIC:
      return ResetReason::crash;
    case ESP_RST_INT_WDT:
    case ESP_RST_TASK_WDT:
    case ESP_RST_WDT:
      return ResetReason::watchdog;
    case ESP_RST_BROWNOUT:
      return ResetReason::brown_out;
    case ESP_RST_DEEPSLEEP:
      return ResetReason::deep_sleep;
    default:
      return ResetReason::unknown;
  }
}

uint32_t random_boot_id() {
  uint32_t id = 0;
  while (id == 0) id = esp_random();
  return id;
}

// Every chip leaves the factory with a MAC address in its fuses; emulators have zeros there.
bool has_no_factory_mac() {
  uint8_t mac[6] = {};
  if (esp_efuse_mac_get_default(mac) != ESP_OK) return false;
  for (const uint8_t byte : mac) {
    if (byte != 0) return false;
  }
  return true;
}

}  // namespace

uint64_t clock_us() { return static_cast<uint64_t>(esp_timer_get_time()); }

SystemInfo system_info() {
  static const uint32_t boot_id = random_boot_id();
  static const bool simulated = has_no_factory_mac();
  SystemInfo info = {};
  info.chip = CONFIG_IDF_TARGET;
  info.simulated = simulated;
  info.reset_reason = reset_reason();
  info.boot_id = boot_id;
  info.heap_free_bytes = static_cast<uint32_t>(heap_caps_get_free_size(MALLOC_CAP_8BIT));
  info.heap_least_free_bytes = static_cast<uint32_t>(heap_caps_get_minimum_free_size(MALLOC_CAP_8BIT));
  info.stack_least_free_bytes = uxTaskGetStackHighWaterMark(nullptr) * sizeof(StackType_t);
  info.retained = g_retained;
  info.sensor_pins = kMicPins;
  return info;
}

void idle(uint32_t max_wait_us) {
  // Fails only before main.cpp has put this task under the watchdog, where there is nothing to feed.
  (void)esp_task_wdt_reset();
  if (max_wait_us == 0) return;
  // Whole ticks, and at least one: a wait that rounds to none would keep the processor from every other task.
  const uint32_t ticks = max_wait_us / kTickUs;
  wait_for_serial(ticks > 0 ? ticks : 1);
}

void restart() {
  drain_network();
  drain_serial();
  esp_restart();
}

}  // namespace edgeward::hal
