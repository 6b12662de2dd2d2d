// Numbers in files, frames and flash, which are little endian and may lie anywhere.
#pragma once

#include <cstdint>

namespace edgeward {

inline uint16_t u16(const uint8_t* p) { return static_cast<uint16_t>(p[0] | p[1] << 8); }

inline int16_t i16(const uint8_t* p) { return static_cast<int16_t>(u16(p)); }

inline uint32_t u32(const uint8_t* p) {
  return uint32_t{p[0]} | uint32_t{p[1]} << 8 | uint32_t{p[2]} << 16 | uint32_t{p[3]} << 24;
}

}  // namespace edgeward
