// Convolution and fully connected layers: each output value is one dot product of a contiguous window with the weights
// of its channel. Four channels at a time share the loads of the input.
#include "engine/direct/check.h"
#include "engine/direct/fixed_point.h"
#include "engine/direct/kernels.h"
#include "engine/direct/window.h"

namespace edgeward::direct {
namespace {

void dot_four(const int8_t* x, const int8_t* weights, uint32_t taps, int32_t* sums) {
  const int8_t* w0 = weights;
  const int8_t* w1 = w0 + taps;
  const int8_t* w2 = w1 + taps;
  const int8_t* w3 = w2 + taps;
  int32_t s0 = 0, s1 = 0, s2 = 0, s3 = 0;
  const auto tap = [&](uint32_t i) {
    const int32_t v = x[i];
    s0 += v * w0[i];
    s1 += v * w1[i];
    s2 += v * w2[i];
    s3 += v * w3[i];
  };
  const int8_t* const end = x + taps;
  for (const int8_t* const end4 = x + (taps & ~3u); x != end4; x += 4, w0 += 4, w1 += 4, w2 += 4, w3 += 4) {
    tap(0);
    tap(1);
    tap(2);
    tap(3);
  }
  for (; x != end; ++x, ++w0, ++w1, ++w2, ++w3) tap(0);
  sums[0] = s0;
  sums[1] = s1;
  sums[2] = s2;
  sums[3] = s3;
}

int32_t dot(const int8_t* x, const int8_t* weights, uint32_t taps) {
  int32_t sum = 0;
  for (uint32_t i = 0; i < taps; ++i) sum += static_cast<int32_t>(x[i]) * weights[i];
  return sum;
}

}  // namespace

void conv(const Program& program, const Record& op) {
  const Rescale rescale(program, op);
  const auto* const weights = reinterpret_cast<const int8_t*>(program.tflite + op.weights);
  const uint32_t taps = op.kernel_height * op.kernel_width * op.in.channels;
  const uint32_t channels = op.out.channels;
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
      const int8_t* const input = windows.get(y, x, true).base;
      const int8_t* w = weights;
      uint32_t channel = 0;
      for (; channel + 4 <= channels; channel += 4, w += 4 * taps) {
        int32_t sums[4];
        dot_four(input, w, taps, sums);
        for (uint32_t i = 0; i < 4; ++i) store(channel + i, sums[i]);
      }
      for (; channel < channels; ++channel, w += taps) store(channel, dot(input, w, taps));
    }
  }
}

const char* check_conv(const Checker& plan, const Record& op) { return check_convolution(plan, op, op.in.channels); }

}  // namespace edgeward::direct
