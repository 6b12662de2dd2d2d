// Wi-Fi as a station.
#pragma once

namespace edgeward::hal {

// Begins to join, and joins again after every loss. `joined` is called each time there is an address, in the task of ESP-IDF's
// events. Nothing of the texts is kept in flash, and neither pointer. False when the radio cannot be had; the log says why.
bool start_wifi(const char* ssid, const char* password, void (*joined)());

}  // namespace edgeward::hal
