// The mean of `width` values for each row and channel, rescaled to the output: global average pooling has one row.
#include "engine/direct/check.h"
#include "engine/direct/fixed_point.h"
#include "engine/direct/kernels.h"

namespace edgeward::direct {

void mean(const Program& program, const Record& op) {
  const int8_t* input = at(program, op.input);
  int8_t* out = at(program, op.output);
  const uint32_t channels = op.in.channels;
  const uint32_t count = op.in.width;
  const int32_t offset = op.in_zero_point * static_cast<int32_t>(count);
  for (uint32_t row = 0; row < op.in.height; ++row, input += count * channels, out += channels) {
    for (uint32_t channel = 0; channel < channels; ++channel) {
      int32_t sum = 0;
      const int8_t* v = input + channel;
      for (uint32_t i = 0; i < count; ++i, v += channels) sum += *v;
      const int32_t value = requantize(sum - offset, op.parameters[0], op.parameters[1]);
      out[channel] = clamp(wrapping_add(value, op.out_zero_point), -128, 127);
    }
  }
}

const char* check_mean(const Checker&, const Record& op) {
  const bool rows = op.in.height == op.out.height && op.out.width == 1 && op.in.channels == op.out.channels;
  if (!rows) return "bad mean";
  // Rows are written behind what is still to be read only where there is one.
  if (op.in.height > 1 && !apart(op.input, op.in.bytes(), op.output, op.out.bytes())) return "input and output overlap";
  return scale_ok(op.parameters[0], op.parameters[1]) ? nullptr : "bad multiplier";
}

}  // namespace edgeward::direct
