// MPU-6050 at address 0x68. Registers as in InvenSense RM-MPU-6000A: PWR_MGMT_1 0x6B, WHO_AM_I 0x75, measurements from
// 0x3B as big-endian int16: acceleration x y z, temperature, rotation x y z. Ranges after reset: 2 g (16384 counts a g),
// 250 degrees a second (131 counts a degree).
#include "driver/i2c.h"
#include "freertos/FreeRTOS.h"
#include "hal/esp32/source.h"

namespace edgeward::hal {
namespace {

constexpr i2c_port_t kPort = I2C_NUM_0;
constexpr int kDataPin = 4;
constexpr int kClockPin = 5;
constexpr uint32_t kClockHz = 400000;
constexpr uint8_t kAddress = 0x68;
constexpr uint8_t kPowerRegister = 0x6B;
constexpr uint8_t kIdentityRegister = 0x75;
constexpr uint8_t kFirstRegister = 0x3B;
constexpr TickType_t kPatience = pdMS_TO_TICKS(5);
constexpr uint32_t kTemperature = 3;  // position among the seven values read

bool g_installed = false;

bool read_registers(uint8_t first, uint8_t* out, size_t count) {
  return i2c_master_write_read_device(kPort, kAddress, &first, 1, out, count, kPatience) == ESP_OK;
}

void close_imu() {
  if (g_installed) (void)i2c_driver_delete(kPort);
  g_installed = false;
}

bool wake() {
  const uint8_t awake[] = {kPowerRegister, 0};
  uint8_t identity = 0;
  return i2c_master_write_to_device(kPort, kAddress, awake, sizeof awake, kPatience) == ESP_OK &&
         read_registers(kIdentityRegister, &identity, 1) && identity == kAddress;
}

bool open_imu(uint32_t channels) {
  if (channels != 3 && channels != 6) return false;
  i2c_config_t config = {};
  config.mode = I2C_MODE_MASTER;
  config.sda_io_num = kDataPin;
  config.scl_io_num = kClockPin;
  config.sda_pullup_en = true;
  config.scl_pullup_en = true;
  config.master.clk_speed = kClockHz;
  if (i2c_param_config(kPort, &config) != ESP_OK) return false;
  g_installed = i2c_driver_install(kPort, I2C_MODE_MASTER, 0, 0, 0) == ESP_OK;
  if (g_installed && wake()) return true;
  close_imu();
  return false;
}

bool read_imu(int16_t* values) {
  uint8_t raw[14];
  if (!read_registers(kFirstRegister, raw, sizeof raw)) return false;
  for (uint32_t i = 0; i < 7; ++i) {
    if (i == kTemperature) continue;
    values[i < kTemperature ? i : i - 1] = static_cast<int16_t>(raw[2 * i] << 8 | raw[2 * i + 1]);
  }
  return true;
}

}  // namespace

const Sensor kImu = {"imu", open_imu, close_imu, read_imu};

}  // namespace edgeward::hal
