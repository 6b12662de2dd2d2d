// Integer arithmetic of int8 models, rounding for rounding as TFLM does it. model_export/plan_math.py has the same in
// Python for what is computed ahead of time.
#pragma once

#include <cstdint>

namespace edgeward::direct {

// Additions that may wrap in a damaged model must not be undefined behaviour.
inline int32_t wrapping_add(int32_t a, int32_t b) {
  return static_cast<int32_t>(static_cast<uint32_t>(a) + static_cast<uint32_t>(b));
}

// round(a * b / 2^31), halves towards plus infinity; not for a = b = -2^31. From the halves of the product: 2^30 added to it
// reaches the upper half by the two highest bits of the lower one alone.
inline int32_t high_multiply(int32_t a, int32_t b) {
  const int64_t product = static_cast<int64_t>(a) * b;
  const auto upper = static_cast<uint32_t>(static_cast<uint64_t>(product) >> 32), lower = static_cast<uint32_t>(product);
  return static_cast<int32_t>((upper << 1) + (((lower >> 30) + 1) >> 1));
}

// round(x / 2^exponent), halves away from zero; exponent 0 to 31.
inline int32_t rounding_shift(int32_t x, int32_t exponent) {
  const int32_t mask = static_cast<int32_t>((uint32_t{1} << exponent) - 1);
  const int32_t remainder = x & mask;
  const int32_t threshold = (mask >> 1) + (x < 0);
  return (x >> exponent) + (remainder > threshold);
}

// By what a number is multiplied: multiplier / 2^31 * 2^shift, with two roundings; multiplier >= 0, shift -31 to 30.
struct Scale {
  int32_t multiplier, shift;

  // Whether it makes numbers smaller, as nearly all do.
  constexpr bool shrinks() const { return shift < 0; }

  int32_t of(int32_t x) const {
    return shrinks() ? shrunk(x) : high_multiply(static_cast<int32_t>(static_cast<uint32_t>(x) << shift), multiplier);
  }

  // The same where it shrinks. The last step of rounding_shift() rounds halves up, so that nothing but the bits that are
  // shifted out has to be looked at; none of it overflows, since a multiplier below 2^31 makes |high| < 2^31 - 1.
  int32_t shrunk(int32_t x) const {
    const int32_t high = high_multiply(x, multiplier);
    return (((high + (high >> 31)) >> ~shift) + 1) >> 1;
  }
};

inline int32_t requantize(int32_t x, int32_t multiplier, int32_t shift) { return Scale{multiplier, shift}.of(x); }

inline int8_t clamp(int32_t value, int32_t low, int32_t high) {
  return static_cast<int8_t>(value < low ? low : value > high ? high : value);
}

}  // namespace edgeward::direct
