// The sensors of the usual build. ESP-IDF calibrates the converter before main() as soon as its driver is linked, and an
// emulator without a converter waits there for ever: so the ADC is asked for when building.
#include "hal/esp32/source.h"

namespace edgeward::hal {

const Sensor* const kSensors[] = {&kImu, &kUser};
const uint32_t kSensorCount = 2;

}  // namespace edgeward::hal
