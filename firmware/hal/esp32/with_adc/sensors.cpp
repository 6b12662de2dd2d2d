// The sensors of a build with EDGEWARD_ADC=1.
#include "hal/esp32/source.h"

namespace edgeward::hal {

const Sensor* const kSensors[] = {&kAdc, &kImu};
const uint32_t kSensorCount = 2;

}  // namespace edgeward::hal
