// Pins as outputs of rules: the GPIO driver for levels, LEDC for PWM. A timer of ESP-IDF ends each, in a task of its own, so
// an output is over in time also while the firmware computes or hangs.
#include "core/pins.h"

#include "driver/gpio.h"
#include "driver/ledc.h"
#include "esp_log.h"
#include "esp_timer.h"
#include "hal/hal.h"
#include "sdkconfig.h"

namespace edgeward::hal {
namespace {

constexpr uint32_t kLines = 20;  // more than any chip has free pins
constexpr int kNoChannel = -1;
constexpr int kChannels = 4;     // every chip has so many timers of LEDC
constexpr ledc_mode_t kMode = LEDC_LOW_SPEED_MODE;
constexpr ledc_timer_bit_t kBits = LEDC_TIMER_12_BIT;  // 20 to 8000 Hz from 80 MHz, divided by 976 to 2.4
constexpr uint32_t kWhole = 1u << 12;

struct Line {
  Pin pin;
  bool used;
  int channel;  // of LEDC while PWM is on
  esp_timer_handle_t timer;
};

Line g_lines[kLines];
bool g_channel_used[kChannels];

gpio_num_t gpio(const Pin& pin) { return static_cast<gpio_num_t>(pin.number); }
uint32_t idle_level(const Pin& pin) { return pin.active_low ? 1 : 0; }

Line* find(uint32_t number) {
  for (Line& line : g_lines) {
    if (line.used && line.pin.number == number) return &line;
  }
  return nullptr;
}

// In the task of the timers, or in that of the firmware.
void rest(const Line& line) {
  if (line.channel != kNoChannel) (void)ledc_stop(kMode, static_cast<ledc_channel_t>(line.channel), idle_level(line.pin));
  (void)gpio_set_level(gpio(line.pin), idle_level(line.pin));
}

void over(void* line) { rest(*static_cast<const Line*>(line)); }

// The level is set before the pin is an output, so that it is never the wrong one for a moment.
bool make_output(const Pin& pin) {
  (void)gpio_set_level(gpio(pin), idle_level(pin));
  gpio_config_t config = {};
  config.pin_bit_mask = 1ULL << pin.number;
  config.mode = GPIO_MODE_OUTPUT;
  config.pull_up_en = GPIO_PULLUP_DISABLE;
  config.pull_down_en = GPIO_PULLDOWN_DISABLE;
  config.intr_type = GPIO_INTR_DISABLE;
  return gpio_config(&config) == ESP_OK;
}

void leave_channel(Line* line) {
  if (line->channel == kNoChannel) return;
  g_channel_used[line->channel] = false;
  line->channel = kNoChannel;
  (void)make_output(line->pin);  // from LEDC back to a plain output
}

bool start_pwm(Line* line) {
  int channel = line->channel;
  if (channel != kNoChannel) return true;  // goes on
  channel = 0;
  while (channel < kChannels && g_channel_used[channel]) ++channel;
  if (channel == kChannels) return false;
  ledc_timer_config_t timer = {};
  timer.speed_mode = kMode;
  timer.duty_resolution = kBits;
  timer.timer_num = static_cast<ledc_timer_t>(channel);
  timer.freq_hz = line->pin.hz;
  timer.clk_cfg = LEDC_USE_APB_CLK;
  if (ledc_timer_config(&timer) != ESP_OK) return false;
  const uint32_t active = kWhole * line->pin.duty_percent / 100;
  ledc_channel_config_t config = {};
  config.gpio_num = static_cast<int>(line->pin.number);
  config.speed_mode = kMode;
  config.channel = static_cast<ledc_channel_t>(channel);
  config.timer_sel = static_cast<ledc_timer_t>(channel);
  config.duty = line->pin.active_low ? kWhole - active : active;
  g_channel_used[channel] = true;
  line->channel = channel;
  if (ledc_channel_config(&config) == ESP_OK) return true;
  rest(*line);
  leave_channel(line);
  return false;
}

}  // namespace

void pins_release() {
  for (uint32_t number = 0; number < kMostPins; ++number) {
    if (pin_refusal(CONFIG_IDF_TARGET, number) != nullptr) continue;
    gpio_config_t config = {};
    config.pin_bit_mask = 1ULL << number;
    config.mode = GPIO_MODE_DISABLE;
    config.pull_up_en = GPIO_PULLUP_DISABLE;
    config.pull_down_en = GPIO_PULLDOWN_DISABLE;
    config.intr_type = GPIO_INTR_DISABLE;
    (void)gpio_config(&config);
  }
}

bool pin_claim(const Pin& pin) {
  Line* line = find(pin.number);
  for (uint32_t i = 0; i < kLines && line == nullptr; ++i) {
    if (!g_lines[i].used) line = &g_lines[i];
  }
  if (line == nullptr) return false;
  if (line->used) {
    pin_off(line->pin);
  } else {
    line->channel = kNoChannel;
  }
  line->pin = pin;
  if (line->timer == nullptr) {
    esp_timer_create_args_t arguments = {};
    arguments.callback = over;
    arguments.arg = line;
    arguments.name = "pin";
    if (esp_timer_create(&arguments, &line->timer) != ESP_OK) {
      line->timer = nullptr;
      return false;
    }
  }
  line->used = make_output(pin);
  return line->used;
}

// On first, then its end: the other way round an end could come before what it ends. Without an end it is not on.
void pin_on(const Pin& pin, uint64_t for_us) {
  Line* const line = find(pin.number);
  if (line == nullptr) return;
  (void)esp_timer_stop(line->timer);  // not running is as good
  if (pin.hz == 0) {
    (void)gpio_set_level(gpio(pin), 1 - idle_level(pin));
  } else if (!start_pwm(line)) {
    ESP_LOGE("pins", "no PWM at GPIO%u", static_cast<unsigned>(pin.number));
    return;
  }
  if (esp_timer_start_once(line->timer, for_us) == ESP_OK) return;
  ESP_LOGE("pins", "no timer for GPIO%u", static_cast<unsigned>(pin.number));
  pin_off(pin);
}

void pin_off(const Pin& pin) {
  Line* const line = find(pin.number);
  if (line == nullptr) return;
  (void)esp_timer_stop(line->timer);
  rest(*line);
  leave_channel(line);
}

}  // namespace edgeward::hal
