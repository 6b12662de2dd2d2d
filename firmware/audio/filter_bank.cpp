#include "audio/filter_bank.h"

namespace edgeward {
namespace {

// The root, bit by bit from the highest, and what is left.
template <typename T>
T whole_root(T value, uint32_t bits, T* left) {
  T root = 0;
  for (T bit = T{1} << ((bits - 1) & ~1u); bit != 0; bit >>= 2) {
    if (value >= root + bit) {
      value -= root + bit;
      root = (root >> 1) + bit;
    } else {
      root >>= 1;
    }
  }
  *left = value;
  return root;
}

uint32_t square(int32_t value) { return static_cast<uint32_t>(value * value); }

}  // namespace

uint32_t nearest_root(uint64_t value) {
  if (value == 0) return 0;
  const uint32_t high = static_cast<uint32_t>(value >> 32), low = static_cast<uint32_t>(value);
  if (high == 0) {
    uint32_t left;
    const uint32_t root = whole_root(low, static_cast<uint32_t>(bit_length(low)), &left);
    return left > root && root != 0xFFFF ? root + 1 : root;
  }
  uint64_t left;
  const uint64_t root = whole_root(value, 32 + static_cast<uint32_t>(bit_length(high)), &left);
  return static_cast<uint32_t>(left > root && root != 0xFFFFFFFF ? root + 1 : root);
}

void filter(const AudioTables& tables, const Complex* spectrum, uint32_t shift, uint32_t* out) {
  const auto energy = [](Complex bin) { return square(bin.real) + square(bin.imaginary); };
  sum_channels(tables, spectrum, energy, [=](uint32_t channel, uint64_t sum) { out[channel] = nearest_root(sum) >> shift; });
}

}  // namespace edgeward
