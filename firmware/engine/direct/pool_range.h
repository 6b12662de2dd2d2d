// The rows and columns of a pooling window that lie inside the input; check_plan() makes sure there is at least one.
#pragma once

#include "engine/direct/check.h"
#include "engine/direct/kernels.h"

namespace edgeward::direct {

struct Range {
  uint32_t begin, end;
};

inline Range pool_range(uint32_t out, uint32_t stride, uint32_t padding, uint32_t kernel, uint32_t size) {
  const int32_t first = static_cast<int32_t>(out * stride) - static_cast<int32_t>(padding);
  const int32_t last = first + static_cast<int32_t>(kernel);
  return {first < 0 ? 0 : static_cast<uint32_t>(first),
          last > static_cast<int32_t>(size) ? size : static_cast<uint32_t>(last)};
}

inline const char* check_pool(const Record& op) {
  const bool plain = op.dilation_height == 1 && op.dilation_width == 1 && op.in.channels == op.out.channels;
  return plain && window_ok(op) ? nullptr : "bad pooling window";
}

}  // namespace edgeward::direct
