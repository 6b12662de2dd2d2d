// One program, which only a flasher changes.
#include "hal/firmware.h"

namespace edgeward::hal {

bool firmware_place(Slot*) { return false; }

bool firmware_try(Slot) { return false; }

bool firmware_on_trial() { return false; }

bool firmware_keep() { return false; }

}  // namespace edgeward::hal
