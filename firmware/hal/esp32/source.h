// A sensor as a source of samples. One file per sensor; hal/esp32/source.cpp calls it at the rate asked for.
#pragma once

#include <cstddef>
#include <cstdint>

#include "hal/hal.h"

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

// A source with a clock of its own, which keeps its samples until they are read. The functions as those of hal.h.
struct SelfClocked {
  const char* name;
  bool (*open)(uint32_t rate_hz, uint32_t channels, Missed missed);
  void (*close)();
  size_t (*read)(int16_t* values, size_t capacity);
  uint32_t (*missed)();
};

// with_mic/ or without_mic/.
extern const SelfClocked* const kMic;  // I2S microphone, one channel, 8 to 48 kHz; null without
extern const uint64_t kMicPins;        // bit N: it is at GPIO N
extern const size_t kMicHeapBytes;     // heap it gets beside the arena

}  // namespace edgeward::hal
