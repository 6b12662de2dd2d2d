// What turns an accumulator into an output value, loaded once for all pixels of a tile.
#pragma once

#include "engine/direct/fixed_point.h"
#include "engine/direct/kernels.h"
#include "engine/direct/registers.h"

namespace edgeward::direct {

// A copy of what all outputs of an operator share: an output is a byte, which may be part of anything for all the compiler
// knows, so that the original would be loaded again after each.
struct Range {
  int32_t zero_point, low, high;

  explicit Range(const Record& op) : zero_point(op.out_zero_point), low(op.clamp_low), high(op.clamp_high) {}
};

// By what the sums of a channel are multiplied.
class Scale {
 public:
  Scale(int32_t multiplier, int32_t shift) : multiplier_(multiplier), shift_(shift) {}
  Scale(const Rescale& rescale, uint32_t channel)
      : Scale(rescale.multiplier[channel * rescale.step], rescale.shift[channel * rescale.step]) {}

  // Whether it makes numbers smaller, as nearly all do.
  bool shrinks() const { return shift_ < 0; }

  // requantize() of a sum.
  int32_t of(uint32_t sum) const {
    return shrinks() ? shrunk(sum) : requantize(static_cast<int32_t>(sum), multiplier_, shift_);
  }

  // The same where it shrinks. rounding_shift() is in two steps, of which the last rounds halves up; nothing overflows, since
  // |high| < 2^31 - 1: the multiplier is below 2^31.
  EDGEWARD_INLINE int32_t shrunk(uint32_t sum) const {
    const int32_t high = high_multiply(static_cast<int32_t>(sum), multiplier_);
    return (((high + (high >> 31)) >> ~shift_) + 1) >> 1;
  }

 private:
  int32_t multiplier_, shift_;
};

EDGEWARD_INLINE inline int8_t in_range(int32_t value, const Range& range) {
  int32_t moved = wrapping_add(value, range.zero_point);
  if (moved < range.low) moved = range.low;
  if (moved > range.high) moved = range.high;
  computed(moved);  // as 32 bits: as 8, each of the three would be extended
  return static_cast<int8_t>(moved);
}

// The outputs of `channels` channels from `channel` on, of `pixels` pixels that are `apart` bytes from each other. Sums begin
// with the bias; those of a channel lie together.
template <uint32_t channels, uint32_t pixels>
inline void store_tile(const Rescale& rescale, uint32_t channel, const uint32_t* sums, const Range& of_all, int8_t* out,
                       uint32_t apart) {
  const Range range = of_all;
  const int32_t* const multiplier = rescale.multiplier + channel * rescale.step;
  const int8_t* const shift = rescale.shift + channel * rescale.step;
  const auto store = [&](const Scale scale, uint32_t i) EDGEWARD_INLINE {
    const uint32_t* const from = sums + pixels * i;
    int8_t* const to = out + i;
    if (__builtin_expect(scale.shrinks(), 1)) {
#pragma GCC unroll 4
      for (uint32_t pixel = 0; pixel < pixels; ++pixel) to[pixel * apart] = in_range(scale.shrunk(from[pixel]), range);
    } else {
#pragma GCC unroll 1
      for (uint32_t pixel = 0; pixel < pixels; ++pixel) to[pixel * apart] = in_range(scale.of(from[pixel]), range);
    }
  };
  if (rescale.step == 0) {
    const Scale all(*multiplier, *shift);
#pragma GCC unroll 1
    for (uint32_t i = 0; i < channels; ++i) store(all, i);
    return;
  }
#pragma GCC unroll 8
  for (uint32_t i = 0; i < channels; ++i) store(Scale(multiplier[i], shift[i]), i);
}

}  // namespace edgeward::direct
