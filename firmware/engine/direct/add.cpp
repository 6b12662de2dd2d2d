#include "engine/direct/fixed_point.h"
#include "engine/direct/kernels.h"

namespace edgeward::direct {

void add(const Program& program, const Record& op) {
  constexpr int32_t kUnit = 1 << 20;  // both inputs are brought to a common scale with 20 more bits
  const int32_t* const p = words(program, op);
  const int8_t* const one = at(program, op.input);
  const int8_t* const two = at(program, op.second);
  int8_t* const out = at(program, op.output);
  const uint32_t size = op.out.channels;
  for (uint32_t i = 0; i < size; ++i) {
    const int32_t a = requantize((one[i] - p[0]) * kUnit, p[1], p[2]);
    const int32_t b = requantize((two[i] - p[3]) * kUnit, p[4], p[5]);
    const int32_t sum = requantize(wrapping_add(a, b), p[6], p[7]);
    out[i] = clamp(wrapping_add(sum, op.out_zero_point), op.clamp_low, op.clamp_high);
  }
}

}  // namespace edgeward::direct
