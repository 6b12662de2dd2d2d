// The part of the input under the kernel for one output pixel, in place where it lies inside the input.
#pragma once

#include <cstring>

#include "engine/direct/check.h"
#include "engine/direct/kernels.h"

namespace edgeward::direct {

// memcpy() by words, where both ends allow it; that of a small library goes byte by byte.
inline void copy_bytes(const int8_t* from, uint32_t count, int8_t* to) {
  if (((reinterpret_cast<uintptr_t>(from) | reinterpret_cast<uintptr_t>(to)) & 3) == 0) {
#pragma GCC unroll 4
    for (; count >= 4; count -= 4, from += 4, to += 4) {
      std::memcpy(__builtin_assume_aligned(to, 4), __builtin_assume_aligned(from, 4), 4);
    }
  }
  for (; count != 0; --count) *to++ = *from++;
}

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
    const int8_t* const found = inside(out_y, out_x);
    if (found != nullptr && (!contiguous || in_one_piece())) {
      return {found, row_stride(), op_.dilation_width * op_.in.channels};
    }
    copy<1>(out_y, out_x, scratch_);
    return {scratch_, op_.kernel_width * op_.in.channels, op_.in.channels};
  }

  // Tap (0, 0) of the window where it lies in the input; null where padding belongs to it.
  const int8_t* inside(uint32_t out_y, uint32_t out_x) const {
    const int32_t top = first_row(out_y), left = first_column(out_x);
    const int32_t bottom = top + static_cast<int32_t>((op_.kernel_height - 1) * op_.dilation_height);
    const int32_t right = left + static_cast<int32_t>((op_.kernel_width - 1) * op_.dilation_width);
    const bool down = top >= 0 && bottom < static_cast<int32_t>(op_.in.height);
    const bool across = left >= 0 && right < static_cast<int32_t>(op_.in.width);
    if (!down || !across) return nullptr;
    return input_ + (static_cast<uint32_t>(top) * op_.in.width + static_cast<uint32_t>(left)) * op_.in.channels;
  }

  uint32_t row_stride() const { return op_.dilation_height * op_.in.width * op_.in.channels; }
  bool rows_in_one_piece() const { return op_.kernel_width == 1 || op_.dilation_width == 1; }
  bool in_one_piece() const {
    return rows_in_one_piece() &&
           (op_.kernel_height == 1 || (op_.dilation_height == 1 && op_.kernel_width == op_.in.width));
  }

  // What find() points at where a cell lies outside the input: the scratch, which only a window of one cell does without.
  void pad() {
    if (op_.kernel_height * op_.kernel_width > 1) std::memset(scratch_, op_.in_zero_point, op_.in.channels);
  }

  // Where each cell of the window has its channels, in the order of the weights: in every `apart`th place from `cells` on.
  template <uint32_t apart>
  void find(uint32_t out_y, uint32_t out_x, const int8_t** cells) const {
    const int8_t* in_place = inside(out_y, out_x);
    if (in_place != nullptr) {
      const uint32_t step = op_.dilation_width * op_.in.channels;
      const int32_t next = static_cast<int32_t>(row_stride() - op_.kernel_width * step);  // back, where columns lie far apart
      for (uint32_t ky = op_.kernel_height; ky != 0; --ky, in_place += next) {
        for (uint32_t kx = op_.kernel_width; kx != 0; --kx, in_place += step, cells += apart) *cells = in_place;
      }
      return;
    }
    const int32_t top = first_row(out_y), left = first_column(out_x);
    const auto height = static_cast<int32_t>(op_.in.height), width = static_cast<int32_t>(op_.in.width);
    for (uint32_t ky = 0; ky < op_.kernel_height; ++ky) {
      const int32_t y = top + static_cast<int32_t>(ky * op_.dilation_height);
      for (uint32_t kx = 0; kx < op_.kernel_width; ++kx, cells += apart) {
        const int32_t x = left + static_cast<int32_t>(kx * op_.dilation_width);
        const bool there = y >= 0 && y < height && x >= 0 && x < width;
        *cells = there ? input_ + static_cast<uint32_t>(y * width + x) * op_.in.channels : scratch_;
      }
    }
  }

  // The window's taps, each `apart` bytes behind the one before.
  template <uint32_t apart>
  void copy(uint32_t out_y, uint32_t out_x, int8_t* to) const {
    const int32_t top = first_row(out_y), left = first_column(out_x);
    const auto height = static_cast<int32_t>(op_.in.height), width = static_cast<int32_t>(op_.in.width);
    for (uint32_t ky = 0; ky < op_.kernel_height; ++ky) {
      const int32_t y = top + static_cast<int32_t>(ky * op_.dilation_height);
      for (uint32_t kx = 0; kx < op_.kernel_width;) {
        const int32_t x = left + static_cast<int32_t>(kx * op_.dilation_width);
        const bool there = y >= 0 && y < height && x >= 0 && x < width;
        const bool row = there && kx == 0 && rows_in_one_piece() && x + static_cast<int32_t>(op_.kernel_width) <= width;
        const uint32_t cells = row ? op_.kernel_width : 1;
        const uint32_t pixel = static_cast<uint32_t>(y) * op_.in.width + static_cast<uint32_t>(x);
        put<apart>(there ? input_ + pixel * op_.in.channels : nullptr, cells * op_.in.channels, to);
        to += cells * op_.in.channels * apart;
        kx += cells;
      }
    }
  }

 private:
  // `count` values from `from`, or of padding where that is null.
  template <uint32_t apart>
  void put(const int8_t* from, uint32_t count, int8_t* to) const {
    if (from == nullptr) {
      for (uint32_t i = 0; i < count; ++i, to += apart) *to = static_cast<int8_t>(op_.in_zero_point);
    } else if (apart == 1) {
      copy_bytes(from, count, to);
    } else {
      const int8_t* const end = from + count;
      for (const int8_t* const end8 = from + (count & ~7u); from != end8; from += 8, to += 8 * apart) {
#pragma GCC unroll 8
        for (uint32_t i = 0; i < 8; ++i) to[i * apart] = from[i];
      }
      for (; from != end; ++from, to += apart) *to = *from;
    }
  }

  int32_t first_row(uint32_t out_y) const {
    return static_cast<int32_t>(out_y * op_.stride_height) - static_cast<int32_t>(op_.pad_top);
  }
  int32_t first_column(uint32_t out_x) const {
    return static_cast<int32_t>(out_x * op_.stride_width) - static_cast<int32_t>(op_.pad_left);
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
