// No sensor and no action of one's own.
#include "hooks/hooks.h"

namespace edgeward::hooks {

bool user_sensor_open(uint32_t /*channels*/) { return false; }
bool user_sensor_read(int16_t* /*values*/) { return false; }
void user_sensor_close() {}

void user_action(uint32_t /*rule*/, uint32_t /*label*/, uint32_t /*confidence_of_256*/) {}

}  // namespace edgeward::hooks
