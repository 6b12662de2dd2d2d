// Transposed convolution: every output pixel gathers the input pixels whose kernel reaches it, `stride` taps apart along
// each axis. How many there are differs from pixel to pixel, so the zero point is not folded into the bias.
#include "engine/direct/check.h"
#include "engine/direct/kernels.h"
#include "engine/direct/rescale.h"

namespace edgeward::direct {
namespace {

// Along one axis, of the output place `at` (padding added): tap first, first + stride, ... meets input place (at - tap) / stride.
struct Taps {
  uint32_t first, end;

  Taps(uint32_t at, uint32_t in, uint32_t kernel, uint32_t stride) {
    const uint32_t last_place = at / stride;
    first = at % stride + (last_place < in ? 0 : last_place - (in - 1)) * stride;
    end = at < kernel ? at + 1 : kernel;
  }
};

constexpr uint32_t kTogether = 4;  // output channels that share the loads of the input

// Adds the products of one input pixel with its tap of `count` output channels, whose weights are `apart` bytes apart.
void add_products(const int8_t* x, uint32_t depth, int32_t zero_point, const int8_t* weights, uint32_t apart,
                  uint32_t count, int32_t* sums) {
  if (count == kTogether) {
    const int8_t* const w1 = weights + apart;
    const int8_t* const w2 = w1 + apart;
    const int8_t* const w3 = w2 + apart;
    int32_t s0 = 0, s1 = 0, s2 = 0, s3 = 0;
    for (uint32_t i = 0; i < depth; ++i) {
      const int32_t v = x[i] - zero_point;
      s0 += v * weights[i];
      s1 += v * w1[i];
      s2 += v * w2[i];
      s3 += v * w3[i];
    }
    sums[0] += s0;
    sums[1] += s1;
    sums[2] += s2;
    sums[3] += s3;
    return;
  }
  for (uint32_t channel = 0; channel < count; ++channel, weights += apart) {
    for (uint32_t i = 0; i < depth; ++i) sums[channel] += (x[i] - zero_point) * weights[i];
  }
}

}  // namespace

void transpose_conv(const Program& program, const Record& op) {
  const Rescale rescale(program, op);
  const Range range(op);
  const auto* const weights = reinterpret_cast<const int8_t*>(program.tflite + op.weights);
  const int8_t* const input = at(program, op.input);
  int8_t* out = at(program, op.output);
  const uint32_t depth = op.in.channels, row = op.in.width * depth;
  const uint32_t of_channel = op.kernel_height * op.kernel_width * depth;
  for (uint32_t y = 0; y < op.out.height; ++y) {
    const Taps down(y + op.pad_top, op.in.height, op.kernel_height, op.stride_height);
    for (uint32_t x = 0; x < op.out.width; ++x, out += op.out.channels) {
      const Taps across(x + op.pad_left, op.in.width, op.kernel_width, op.stride_width);
      for (uint32_t channel = 0; channel < op.out.channels; channel += kTogether) {
        const uint32_t left = op.out.channels - channel;
        const uint32_t count = left < kTogether ? left : kTogether;
        int32_t sums[kTogether] = {};
        for (uint32_t ky = down.first; ky < down.end; ky += op.stride_height) {
          const int8_t* const from = input + (y + op.pad_top - ky) / op.stride_height * row;
          for (uint32_t kx = across.first; kx < across.end; kx += op.stride_width) {
            add_products(from + (x + op.pad_left - kx) / op.stride_width * depth, depth, op.in_zero_point,
                         weights + channel * of_channel + (ky * op.kernel_width + kx) * depth, of_channel, count, sums);
          }
        }
        for (uint32_t i = 0; i < count; ++i) {
          const int32_t sum = wrapping_add(sums[i], rescale.bias[channel + i]);
          out[channel + i] = in_range(rescale.of(channel + i).of(sum), range);
        }
      }
    }
  }
}

const char* check_transpose_conv(const Checker& plan, const Record& op) {
  const uint32_t sizes[] = {op.kernel_height, op.kernel_width, op.stride_height, op.stride_width};
  for (const uint32_t size : sizes) {
    if (!window_size_ok(size)) return "bad kernel or stride";
  }
  if (op.pad_top >= op.kernel_height || op.pad_left >= op.kernel_width) return "bad padding";
  const uint64_t window = uint64_t{op.kernel_height} * op.kernel_width * op.in.channels;
  if (window > kMaxTaps / 2) return "too many products per output";  // values less a zero point have a bit more
  if (!plan.in_tflite(op.weights, window * op.out.channels)) return "weights outside the .tflite section";
  if (!apart(op.input, op.in.bytes(), op.output, op.out.bytes())) return "input and output overlap";
  return plan.rescale(op);
}

}  // namespace edgeward::direct
