#pragma once

#include <cstddef>
#include <cstdint>

namespace edgeward {

constexpr size_t kSha512Bytes = 64;

// SHA-512 (FIPS 180-4) of pieces of memory, up to 2^29 bytes.
class Sha512 {
 public:
  Sha512();
  void update(const uint8_t* data, size_t bytes);
  void finish(uint8_t out[kSha512Bytes]);

 private:
  void compress();

  uint64_t state_[8];
  uint32_t bytes_ = 0;
  uint8_t block_[128];
};

}  // namespace edgeward
