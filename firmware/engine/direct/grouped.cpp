// Convolution in groups: an output channel has weights for the input channels of its group only. parameters[0] is their number.
#include "engine/direct/check.h"
#include "engine/direct/kernels.h"
#include "engine/direct/rescale.h"
#include "engine/direct/window.h"

namespace edgeward::direct {

void grouped(const Program& program, const Record& op) {
  const Rescale rescale(program, op);
  const Range range(op);
  const auto* const weights = reinterpret_cast<const int8_t*>(program.tflite + op.weights);
  const auto groups = static_cast<uint32_t>(op.parameters[0]);
  const uint32_t depth = op.in.channels / groups, of_group = op.out.channels / groups;
  Windows windows(program, op);
  int8_t* out = at(program, op.output);
  for (uint32_t y = 0; y < op.out.height; ++y) {
    for (uint32_t x = 0; x < op.out.width; ++x, out += op.out.channels) {
      const Window window = windows.get(y, x, false);
      const int8_t* w = weights;
      for (uint32_t channel = 0; channel < op.out.channels; ++channel) {
        const int8_t* row = window.base + channel / of_group * depth;
        uint32_t sum = static_cast<uint32_t>(rescale.bias[channel]);
        for (uint32_t ky = 0; ky < op.kernel_height; ++ky, row += window.row_stride) {
          const int8_t* v = row;
          for (uint32_t kx = 0; kx < op.kernel_width; ++kx, v += window.tap_stride, w += depth) {
            for (uint32_t i = 0; i < depth; ++i) sum += static_cast<int32_t>(v[i]) * w[i];
          }
        }
        out[channel] = in_range(rescale.of(channel).of(static_cast<int32_t>(sum)), range);
      }
    }
  }
}

const char* check_grouped(const Checker& plan, const Record& op) {
  const int32_t groups = op.parameters[0];
  if (groups < 1) return "no group";
  const auto count = static_cast<uint32_t>(groups);
  if (op.in.channels % count != 0 || op.out.channels % count != 0) return "channels do not fit";
  return check_convolution(plan, op, op.in.channels / count);
}

}  // namespace edgeward::direct
