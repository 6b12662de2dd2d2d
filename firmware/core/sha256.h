#pragma once

#include <cstddef>
#include <cstdint>

namespace edgeward {

constexpr size_t kSha256Bytes = 32;

// SHA-256 (FIPS 180-4) of one block of memory.
void sha256(const uint8_t* data, size_t bytes, uint8_t out[kSha256Bytes]);

}  // namespace edgeward
