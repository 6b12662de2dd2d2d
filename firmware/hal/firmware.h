// The program of a board, in two places of flash (Slot::app_a, Slot::app_b), and which of them the boot loader starts. One
// implementation is linked per target: hal/esp32 (ESP-IDF's OTA), hal/host/boot_choice.cpp (the same rules), hal/no_firmware.
#pragma once

#include "hal/hal.h"

namespace edgeward::hal {

// Where the program lies that runs. False where flash has no second place for one.
bool firmware_place(Slot* runs);

// The next start runs what is in `slot`, which is not mapped, on trial: unless firmware_keep() is called before the start after that, the program that
// runs now comes back. False when that is no program this chip can start, or flash failed.
bool firmware_try(Slot slot);

bool firmware_on_trial();

// The program that runs is there to stay. False when flash failed; it is still on trial then.
bool firmware_keep();

}  // namespace edgeward::hal
