// What the other files of this HAL need of its network: with_network/ or without_network/.
#pragma once

#include <cstddef>

namespace edgeward::hal {

// Heap that Wi-Fi, TLS and MQTT get beside the arena. The same whether the board has settings or not: a model that fits before a
// board joins a network fits afterwards.
extern const size_t kNetworkHeapBytes;

// Whether network_read() has a message. From any task.
bool message_waits();

// Returns when the broker has what was handed over, at the latest after a second.
void drain_network();

}  // namespace edgeward::hal
