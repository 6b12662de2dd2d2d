// No radio.
#include "hal/network.h"

namespace edgeward::hal {

bool network_start(const NetworkSettings&) { return false; }

NetworkState network_state() { return NetworkState::none; }

size_t network_read(uint8_t*, size_t) { return 0; }

bool network_send(Topic, const uint8_t*, size_t) { return false; }

}  // namespace edgeward::hal
