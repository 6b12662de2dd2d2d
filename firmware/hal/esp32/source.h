// A sensor as a source of samples. One file per sensor; hal/esp32/source.cpp calls it at the rate asked for.
#pragma once

#include <cstdint>

namespace edgeward::hal {

constexpr uint32_t kMostChannels = 6;

struct Sensor {
  const char* name;  // as in the stream command
  bool (*open)(uint32_t channels);
  void (*close)();
  bool (*read)(int16_t* values);  // one sample; false when the sensor did not answer
};

extern const Sensor kAdc;  // single-lead ECG front end (AD8232) on ADC1 channel 0, one channel
extern const Sensor kImu;  // MPU-6050 on I2C, three channels (acceleration) or six (and rotation)

extern const Sensor kUser;  // one's own (hooks/hooks.h)

// The sensors this firmware was built with: with_adc/ or without_adc/.
extern const Sensor* const kSensors[];
extern const uint32_t kSensorCount;

}  // namespace edgeward::hal
