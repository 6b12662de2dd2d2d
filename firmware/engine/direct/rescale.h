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

// Per output channel: the bias its sum begins with, and what turns the sum into an output value.
struct Rescale {
  const int32_t* bias;
  const int32_t* multiplier;
  const int8_t* shift;
  uint32_t step;  // 1 with one multiplier per channel, 0 with one for all

  Rescale(const Program& program, const Record& op)
      : bias(words(program, op)),
        multiplier(bias + op.out.channels),
        shift(reinterpret_cast<const int8_t*>(multiplier + (op.per_channel ? op.out.channels : 1))),
        step(op.per_channel ? 1 : 0) {}

  Scale of(uint32_t channel) const { return {multiplier[channel * step], shift[channel * step]}; }
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
      for (uint32_t pixel = 0; pixel < pixels; ++pixel) to[pixel * apart] = in_range(scale.shrunk(static_cast<int32_t>(from[pixel])), range);
    } else {
#pragma GCC unroll 1
      for (uint32_t pixel = 0; pixel < pixels; ++pixel) to[pixel * apart] = in_range(scale.of(static_cast<int32_t>(from[pixel])), range);
    }
  };
  if (rescale.step == 0) {
    const Scale all = {*multiplier, *shift};
#pragma GCC unroll 1
    for (uint32_t i = 0; i < channels; ++i) store(all, i);
    return;
  }
#pragma GCC unroll 8
  for (uint32_t i = 0; i < channels; ++i) store({multiplier[i], shift[i]}, i);
}

}  // namespace edgeward::direct
