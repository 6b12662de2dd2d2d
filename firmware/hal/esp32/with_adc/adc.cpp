// The ECG front end: its output swings around half the supply, so half the converter's range is the zero of a sample.
#include "esp_adc/adc_oneshot.h"
#include "hal/esp32/source.h"

namespace edgeward::hal {
namespace {

// GPIO36 on an ESP32, GPIO1 on an S3, GPIO0 on a C3.
constexpr adc_channel_t kChannel = ADC_CHANNEL_0;
// The widest range: about 0 to 3.1 V. ESP-IDF has changed the name of this value (11 dB, then 12), not the value.
constexpr adc_atten_t kWidest = static_cast<adc_atten_t>(3);
constexpr int kHalfRange = 2048;

adc_oneshot_unit_handle_t g_unit = nullptr;

void close_adc() {
  if (g_unit != nullptr) (void)adc_oneshot_del_unit(g_unit);
  g_unit = nullptr;
}

bool open_adc(uint32_t channels) {
  if (channels != 1) return false;
  adc_oneshot_unit_init_cfg_t unit = {};
  unit.unit_id = ADC_UNIT_1;
  if (adc_oneshot_new_unit(&unit, &g_unit) != ESP_OK) return false;
  adc_oneshot_chan_cfg_t channel = {};
  channel.atten = kWidest;
  channel.bitwidth = ADC_BITWIDTH_12;
  if (adc_oneshot_config_channel(g_unit, kChannel, &channel) == ESP_OK) return true;
  close_adc();
  return false;
}

bool read_adc(int16_t* values) {
  int raw = 0;
  if (adc_oneshot_read(g_unit, kChannel, &raw) != ESP_OK) return false;
  values[0] = static_cast<int16_t>(raw - kHalfRange);
  return true;
}

}  // namespace

const Sensor kAdc = {"adc", open_adc, close_adc, read_adc};

}  // namespace edgeward::hal
