// Memory that a restart leaves alone: start.S does not clear it.
#pragma once

#include <cstdint>

#include "hal/hal.h"

namespace edgeward::hal {

constexpr uint32_t kSlotBytes = 72 * 1024;

struct Kept {
  uint32_t powered;   // a fixed word once the rest holds something
  uint32_t restarts;
  uint32_t retained[kRetainedWords];
  alignas(16) uint8_t slots[2][kSlotBytes];
  alignas(16) uint8_t keys[kFlashSectorBytes];
};

extern Kept g_kept;

// Once, before anything else: after power-on the slots get what the ELF brought, and the rest is cleared.
void power_on();

}  // namespace edgeward::hal
