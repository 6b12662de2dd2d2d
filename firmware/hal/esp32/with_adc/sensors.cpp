// The sensors of a build with EDGEWARD_ADC=1.
#include "hal/esp32/source.h"

namespace edgeward::hal {

const Sensor* const kSensors[] = {&kAdc, &kImu, &kUser};
const uint32_t kSensorCount = 3;

}  // namespace edgeward::hal
