// Which of two programs a virtual board starts: what ESP-IDF's boot loader and its OTA functions do with the partition `otadata`
// (API guides "Bootloader" and "Over The Air Updates", with CONFIG_BOOTLOADER_APP_ROLLBACK_ENABLE and no factory partition).
#pragma once

#include "hal/firmware.h"

namespace edgeward::hal {

// A boot loader's work: the place to start from. What was on trial and not kept is out; what is new is on trial from now on.
Slot choose_program();

// Where the program lies that runs, for firmware_place(). Slot::app_a until it is set.
void set_program(Slot runs);

}  // namespace edgeward::hal
