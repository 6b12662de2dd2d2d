#pragma once

#include <cstdint>

#include "core/sha256.h"

namespace edgeward {

constexpr uint32_t kHmacBlockBytes = 64;
constexpr uint32_t kSecretBytes = 32;

// HMAC-SHA256 (RFC 2104) of the `bytes` that follow the first kHmacBlockBytes of `room`. The block is overwritten.
void hmac_sha256(const uint8_t secret[kSecretBytes], uint8_t* room, uint32_t bytes, uint8_t out[kSha256Bytes]);

}  // namespace edgeward
