// How a board without a cable reaches its broker: MQTT 3.1.1 over TLS. One implementation is linked per target
// (hal/host_network, hal/esp32/with_network); hal/no_network is for those without a radio.
#pragma once

#include <cstddef>
#include <cstdint>

namespace edgeward::hal {

// Where the board belongs. Every text is static, ends with a zero, and is empty where it was not given.
struct NetworkSettings {
  const char* ssid;        // of the Wi-Fi; a virtual board ignores it
  const char* password;
  const char* host;        // of the broker: a name or an address
  uint16_t port;
  const char* federation;  // names that can be parts of a topic
  const char* name;
  const char* ca;          // PEM; without it the connection is not encrypted, and neither side knows the other
  const char* certificate; // PEM, with its private key: who the board is
  const char* key;
};

enum class NetworkState : uint8_t { none, off, joining, connected };

// Where a message goes: `record` once, `presence` kept by the broker for those who ask later. When the connection ends without
// the board saying so, the broker puts {"kind":"gone"} in place of the last presence.
enum class Topic : uint8_t { record, presence };

// Begins to join, and joins again after every loss until restart. Whether there is a radio. Returns at once; a second call does nothing.
bool network_start(const NetworkSettings& settings);
NetworkState network_state();

// Takes the next message that came on the board's own topic `down`, whole, without waiting. 0 when there is none. One longer
// than `capacity` is dropped, and so are those that come while four wait.
size_t network_read(uint8_t* buffer, size_t capacity);

// Hands a message over, without waiting. False when it is not connected or too much is under way already; it is lost then.
bool network_send(Topic topic, const uint8_t* data, size_t bytes);

}  // namespace edgeward::hal
