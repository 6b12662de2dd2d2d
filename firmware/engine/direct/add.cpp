#include "engine/direct/fixed_point.h"
#include "engine/direct/kernels.h"

namespace edgeward::direct {
namespace {

int8_t sum_of(const int32_t* p, const Record& op, int8_t one, int8_t two) {
  constexpr int32_t kUnit = 1 << 20;  // both inputs are brought to a common scale with 20 more bits
  const int32_t a = requantize((one - p[0]) * kUnit, p[1], p[2]);
  const int32_t b = requantize((two - p[3]) * kUnit, p[4], p[5]);
  const int32_t sum = requantize(wrapping_add(a, b), p[6], p[7]);
  return clamp(wrapping_add(sum, op.out_zero_point), op.clamp_low, op.clamp_high);
}

}  // namespace

void add(const Program& program, const Record& op) {
  const int32_t* const p = words(program, op);
  const int8_t* const one = at(program, op.input);
  const int8_t* const two = at(program, op.second);
  int8_t* const out = at(program, op.output);
  const uint32_t size = op.out.channels;
  for (uint32_t i = 0; i < size; ++i) out[i] = sum_of(p, op, one[i], two[i]);
}

// Shapes that differ: the table says how far to step in each input for a row, a column and a channel; 0 repeats.
void add_broadcast(const Program& program, const Record& op) {
  const int32_t* const p = words(program, op);
  const int32_t* const steps = p + 8;
  const int8_t* const one = at(program, op.input);
  const int8_t* const two = at(program, op.second);
  int8_t* out = at(program, op.output);
  const auto height = static_cast<int32_t>(op.out.height), width = static_cast<int32_t>(op.out.width);
  const auto channels = static_cast<int32_t>(op.out.channels);
  for (int32_t y = 0; y < height; ++y) {
    for (int32_t x = 0; x < width; ++x) {
      const int8_t* a = one + y * steps[0] + x * steps[1];
      const int8_t* b = two + y * steps[3] + x * steps[4];
      for (int32_t c = 0; c < channels; ++c, a += steps[2], b += steps[5]) *out++ = sum_of(p, op, *a, *b);
    }
  }
}

}  // namespace edgeward::direct
