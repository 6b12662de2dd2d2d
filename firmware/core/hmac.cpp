#include "core/hmac.h"

#include <cstring>

namespace edgeward {
namespace {

void fill_block(const uint8_t* secret, uint8_t pad, uint8_t* block) {
  std::memset(block, pad, kHmacBlockBytes);
  for (uint32_t i = 0; i < kSecretBytes; ++i) block[i] = static_cast<uint8_t>(secret[i] ^ pad);
}

}  // namespace

void hmac_sha256(const uint8_t secret[kSecretBytes], uint8_t* room, uint32_t bytes, uint8_t out[kSha256Bytes]) {
  uint8_t outer[kHmacBlockBytes + kSha256Bytes];
  fill_block(secret, 0x36, room);
  sha256(room, kHmacBlockBytes + bytes, outer + kHmacBlockBytes);
  fill_block(secret, 0x5C, outer);
  sha256(outer, sizeof outer, out);
}

}  // namespace edgeward
