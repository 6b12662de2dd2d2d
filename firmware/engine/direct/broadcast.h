// Two inputs of shapes that differ: what becomes of every pair of values.
#pragma once

#include "engine/direct/check.h"
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

// Zero point, multiplier and shift of two inputs, multiplier and shift of the result.
inline const char* check_addition_table(const Checker& plan, const Record& op, uint64_t words) {
  if (!plan.table_ok(op, 4 * words)) return "table outside the plan";
  const int32_t* const p = plan.table(op);
  if (!int8_ok(p[0]) || !int8_ok(p[3])) return "zero point out of range";
  return scale_ok(p[1], p[2]) && scale_ok(p[4], p[5]) && scale_ok(p[6], p[7]) ? nullptr : "bad multiplier";
}

// With the steps behind them.
inline const char* check_pairs(const Checker& plan, const Record& op) {
  if (const char* const reason = check_addition_table(plan, op, 14)) return reason;
  const uint32_t inputs[] = {op.input, op.second};
  for (uint32_t i = 0; i < 2; ++i) {
    const int32_t* const step = plan.table(op) + 8 + 3 * i;
    if (step[0] < 0 || step[1] < 0 || step[2] < 0) return "bad step";
    // Below 2^53: a dimension has at most 21 bits.
    const uint64_t last = uint64_t{op.out.height - 1} * static_cast<uint32_t>(step[0]) +
                          uint64_t{op.out.width - 1} * static_cast<uint32_t>(step[1]) +
                          uint64_t{op.out.channels - 1} * static_cast<uint32_t>(step[2]);
    if (!plan.in_arena(inputs[i], last + 1)) return "input outside the arena";
  }
  return nullptr;
}

}  // namespace edgeward::direct
