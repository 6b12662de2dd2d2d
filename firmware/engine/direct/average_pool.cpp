#include "engine/direct/fixed_point.h"
#include "engine/direct/pool_range.h"

namespace edgeward::direct {

void average_pool(const Program& program, const Record& op) {
  const int8_t* const input = at(program, op.input);
  int8_t* out = at(program, op.output);
  const uint32_t channels = op.in.channels;
  for (uint32_t y = 0; y < op.out.height; ++y) {
    const Range rows = pool_range(y, op.stride_height, op.pad_top, op.kernel_height, op.in.height);
    for (uint32_t x = 0; x < op.out.width; ++x) {
      const Range columns = pool_range(x, op.stride_width, op.pad_left, op.kernel_width, op.in.width);
      // Cells outside the input do not count.
      const auto count = static_cast<int32_t>((rows.end - rows.begin) * (columns.end - columns.begin));
      for (uint32_t channel = 0; channel < channels; ++channel) {
        int32_t sum = 0;
        for (uint32_t row = rows.begin; row < rows.end; ++row) {
          const int8_t* v = input + (row * op.in.width + columns.begin) * channels + channel;
          for (uint32_t column = columns.begin; column < columns.end; ++column, v += channels) sum += *v;
        }
        const int32_t half = sum > 0 ? count / 2 : -(count / 2);
        *out++ = clamp((sum + half) / count, op.clamp_low, op.clamp_high);
      }
    }
  }
}

const char* check_average_pool(const Checker&, const Record& op) { return check_pool(op); }

}  // namespace edgeward::direct
