// A sensor of one's own.
#include "hal/esp32/source.h"
#include "hooks/hooks.h"

namespace edgeward::hal {

const Sensor kUser = {"user", hooks::user_sensor_open, hooks::user_sensor_close, hooks::user_sensor_read};

}  // namespace edgeward::hal
