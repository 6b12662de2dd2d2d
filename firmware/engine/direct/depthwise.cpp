// Depthwise convolution: each channel has its own kernel. Weights are row x column x channel, so neighbouring channels
// are neighbours in memory and four are computed together.
#include "engine/direct/check.h"
#include "engine/direct/fixed_point.h"
#include "engine/direct/kernels.h"
#include "engine/direct/window.h"

namespace edgeward::direct {

void depthwise(const Program& program, const Record& op) {
  const Rescale rescale(program, op);
  const auto* const weights = reinterpret_cast<const int8_t*>(program.tflite + op.weights);
  const uint32_t channels = op.out.channels;
  const uint32_t per_input = channels / op.in.channels;  // the depth multiplier
  Windows windows(program, op);
  int8_t* out = at(program, op.output);
  const auto store = [&](uint32_t channel, int32_t sum) {
    const int32_t accumulator = wrapping_add(sum, rescale.bias[channel]);
    const uint32_t i = channel * rescale.step;
    const int32_t value = requantize(accumulator, rescale.multiplier[i], rescale.shift[i]);
    out[channel] = clamp(wrapping_add(value, op.out_zero_point), op.clamp_low, op.clamp_high);
  };
  for (uint32_t y = 0; y < op.out.height; ++y) {
    for (uint32_t x = 0; x < op.out.width; ++x, out += channels) {
      const Window window = windows.get(y, x, false);
      uint32_t channel = 0;
      for (; per_input == 1 && channel + 4 <= channels; channel += 4) {
        int32_t s0 = 0, s1 = 0, s2 = 0, s3 = 0;
        const int8_t* w = weights + channel;
        const int8_t* row = window.base + channel;
        for (uint32_t ky = 0; ky < op.kernel_height; ++ky, row += window.row_stride) {
          const int8_t* v = row;
          for (uint32_t kx = 0; kx < op.kernel_width; ++kx, v += window.tap_stride, w += channels) {
            s0 += static_cast<int32_t>(v[0]) * w[0];
            s1 += static_cast<int32_t>(v[1]) * w[1];
            s2 += static_cast<int32_t>(v[2]) * w[2];
            s3 += static_cast<int32_t>(v[3]) * w[3];
          }
        }
        store(channel, s0);
        store(channel + 1, s1);
        store(channel + 2, s2);
        store(channel + 3, s3);
      }
      for (; channel < channels; ++channel) {
        int32_t sum = 0;
        const int8_t* w = weights + channel;
        const int8_t* row = window.base + channel / per_input;
        for (uint32_t ky = 0; ky < op.kernel_height; ++ky, row += window.row_stride) {
          const int8_t* v = row;
          for (uint32_t kx = 0; kx < op.kernel_width; ++kx, v += window.tap_stride, w += channels) {
            sum += static_cast<int32_t>(*v) * *w;
          }
        }
        store(channel, sum);
      }
    }
  }
}

const char* check_depthwise(const Checker& plan, const Record& op) {
  return op.out.channels % op.in.channels == 0 ? check_convolution(plan, op, 1) : "channels do not fit";
}

}  // namespace edgeward::direct
