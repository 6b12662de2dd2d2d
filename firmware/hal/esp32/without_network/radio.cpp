// The usual build has no radio; its network is hal/no_network. Nothing of Wi-Fi, TLS or MQTT is linked.
#include "hal/esp32/radio.h"

namespace edgeward::hal {

const size_t kNetworkHeapBytes = 0;

bool message_waits() { return false; }

void drain_network() {}

}  // namespace edgeward::hal
