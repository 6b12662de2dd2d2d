#pragma once

#include <cstddef>
#include <cstdint>

namespace edgeward {

// CRC-16/CCITT-FALSE: polynomial 0x1021, start 0xFFFF. Continue with the last result as `start`.
constexpr uint16_t kCrc16Start = 0xFFFF;
uint16_t crc16(const uint8_t* data, size_t bytes, uint16_t start = kCrc16Start);

// CRC-32 as in zlib (IEEE 802.3).
uint32_t crc32(const uint8_t* data, size_t bytes);

}  // namespace edgeward
