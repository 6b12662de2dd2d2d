// Verifies Ed25519 signatures (RFC 8032, section 5.1.7). It handles public data only, so its time may depend on it.
//
// The rule, where implementations differ: without cofactor, the encoding of S B - h A must be R to the bit; S below the
// group order; the y of A below the prime. So each message has one signature per key and nonce, and no R in another encoding.
#pragma once

#include <cstddef>
#include <cstdint>

namespace edgeward {

constexpr uint32_t kPublicKeyBytes = 32;
constexpr uint32_t kSignatureBytes = 64;

bool ed25519_verify(const uint8_t signature[kSignatureBytes], const uint8_t key[kPublicKeyBytes], const uint8_t* message,
                    size_t bytes);

// Whether these bytes are a point of large order: with one of small order, signatures that fit many messages exist.
bool ed25519_key_ok(const uint8_t key[kPublicKeyBytes]);

}  // namespace edgeward
