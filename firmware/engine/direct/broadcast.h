// Two inputs of shapes that differ: what becomes of every pair of values.
#pragma once

#include "engine/direct/kernels.h"

namespace edgeward::direct {

// steps: how far to step in each input for a row, a column and a channel, first the three of one input; 0 repeats.
template <typename Value>
void each_pair(const Program& program, const Record& op, const int32_t* steps, Value value) {
  const int8_t* const one = at(program, op.input);
  const int8_t* const two = at(program, op.second);
  int8_t* out = at(program, op.output);
  const auto height = static_cast<int32_t>(op.out.height), width = static_cast<int32_t>(op.out.width);
  const auto channels = static_cast<int32_t>(op.out.channels);
  for (int32_t y = 0; y < height; ++y) {
    for (int32_t x = 0; x < width; ++x) {
      const int8_t* a = one + y * steps[0] + x * steps[1];
      const int8_t* b = two + y * steps[3] + x * steps[4];
      for (int32_t c = 0; c < channels; ++c, a += steps[2], b += steps[5]) *out++ = value(*a, *b);
    }
  }
}

}  // namespace edgeward::direct
