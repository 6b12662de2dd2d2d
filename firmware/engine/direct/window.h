// The part of the input under the kernel for one output pixel, in place where it lies inside the input.
#pragma once

#include <cstring>

#include "engine/direct/check.h"
#include "engine/direct/kernels.h"

namespace edgeward::direct {

struct Window {
  const int8_t* base;   // tap (0, 0), channel 0
  uint32_t row_stride;  // bytes from tap (y, x) to (y + 1, x)
  uint32_t tap_stride;  // bytes from tap (y, x) to (y, x + 1)
};

class Windows {
 public:
  Windows(const Program& program, const Record& op)
      : op_(op), input_(at(program, op.input)), scratch_(at(program, op.second)) {}

  // With `contiguous`, all taps lie one after the other, as the weights of a convolution do.
  Window get(uint32_t out_y, uint32_t out_x, bool contiguous) {
    const int32_t top = static_cast<int32_t>(out_y * op_.stride_height) - static_cast<int32_t>(op_.pad_top);
    const int32_t left = static_cast<int32_t>(out_x * op_.stride_width) - static_cast<int32_t>(op_.pad_left);
    const int32_t bottom = top + static_cast<int32_t>((op_.kernel_height - 1) * op_.dilation_height);
    const int32_t right = left + static_cast<int32_t>((op_.kernel_width - 1) * op_.dilation_width);
    const bool inside = top >= 0 && left >= 0 && bottom < static_cast<int32_t>(op_.in.height) &&
                        right < static_cast<int32_t>(op_.in.width);
    if (inside && (!contiguous || in_one_piece())) {
      const uint32_t row = op_.in.width * op_.in.channels;
      return {input_ + static_cast<uint32_t>(top) * row + static_cast<uint32_t>(left) * op_.in.channels,
              op_.dilation_height * row, op_.dilation_width * op_.in.channels};
    }
    copy(top, left);
    return {scratch_, op_.kernel_width * op_.in.channels, op_.in.channels};
  }

 private:
  bool in_one_piece() const {
    return (op_.kernel_width == 1 || op_.dilation_width == 1) &&
           (op_.kernel_height == 1 || (op_.dilation_height == 1 && op_.kernel_width == op_.in.width));
  }

  void copy(int32_t top, int32_t left) {
    const uint32_t channels = op_.in.channels;
    int8_t* to = scratch_;
    for (uint32_t ky = 0; ky < op_.kernel_height; ++ky) {
      const int32_t y = top + static_cast<int32_t>(ky * op_.dilation_height);
      const bool row_inside = y >= 0 && y < static_cast<int32_t>(op_.in.height);
      for (uint32_t kx = 0; kx < op_.kernel_width; ++kx, to += channels) {
        const int32_t x = left + static_cast<int32_t>(kx * op_.dilation_width);
        if (row_inside && x >= 0 && x < static_cast<int32_t>(op_.in.width)) {
          const uint32_t pixel = static_cast<uint32_t>(y) * op_.in.width + static_cast<uint32_t>(x);
          std::memcpy(to, input_ + pixel * channels, channels);
        } else {
          std::memset(to, op_.in_zero_point, channels);
        }
      }
    }
  }

  const Record& op_;
  const int8_t* input_;
  int8_t* scratch_;
};

// `depth`: of how many input channels an output channel has weights.
inline const char* check_convolution(const Checker& plan, const Record& op, uint32_t depth) {
  if (!window_ok(op)) return "bad kernel, stride, dilation or padding";
  const uint64_t cells = uint64_t{op.kernel_height} * op.kernel_width;
  const uint64_t window = cells * op.in.channels;
  if (window > kMaxTaps) return "too many products per output";
  if (!plan.in_tflite(op.weights, cells * depth * op.out.channels)) return "weights outside the .tflite section";
  if (cells > 1 && !plan.scratch_ok(op, window)) return "bad scratch";
  return plan.rescale(op);
}

}  // namespace edgeward::direct
