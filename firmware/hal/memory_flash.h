// Memory with the manners of flash, for targets that have no flash chip: erasing sets bits, writing only clears them.
#pragma once

#include <cstring>

#include "hal/hal.h"

namespace edgeward::hal {

// `slot` is where a slot of `size` bytes can be written; the rest as slot_erase().
inline bool erase_memory(uint8_t* slot, uint32_t size, uint32_t offset, uint32_t bytes) {
  if (uint64_t{offset} + bytes > size || (offset | bytes) % kFlashSectorBytes != 0) return false;
  if (bytes > 0) std::memset(slot + offset, 0xFF, bytes);
  return true;
}

inline bool write_memory(uint8_t* slot, uint32_t size, uint32_t offset, const uint8_t* data, uint32_t bytes) {
  if (uint64_t{offset} + bytes > size || (offset | bytes) % 4 != 0) return false;
  for (uint32_t i = 0; i < bytes; ++i) slot[offset + i] &= data[i];
  return true;
}

}  // namespace edgeward::hal
