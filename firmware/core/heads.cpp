#include "core/heads.h"

namespace edgeward {
namespace {

// The largest number whose square is not above `value`.
uint32_t root(uint64_t value) {
  uint64_t found = 0;
  for (uint64_t bit = uint64_t{1} << 31; bit > 0; bit >>= 1) {
    const uint64_t next = found | bit;
    if (next * next <= value) found = next;
  }
  return static_cast<uint32_t>(found);
}

}  // namespace

bool are_heads(const TensorView& output, uint32_t heads) {
  if (heads < 2 || heads > kMaxHeads || output.bytes % heads != 0) return false;
  const uint32_t classes = output.bytes / heads;
  return classes >= 2 && classes <= kCountedClasses && output.zero_point == -128 && output.scale == 1.0f / 256;
}

HeadsAnswer judge_heads(const TensorView& output, uint32_t heads) {
  HeadsAnswer answer;
  answer.classes = output.bytes / heads;
  uint32_t best = 0, best_sum = 0;
  for (uint32_t c = 0; c < answer.classes; ++c) {
    uint32_t sum = 0;
    for (uint32_t h = 0; h < heads; ++h) sum += static_cast<uint32_t>(output.data[h * answer.classes + c] + 128);
    answer.mean[c] = sum / (256.0 * heads);
    if (c == 0 || sum > best_sum) {
      best = c;
      best_sum = sum;
    }
  }
  uint64_t squares = 0;
  for (uint32_t h = 0; h < heads; ++h) {
    const auto value = static_cast<uint64_t>(output.data[h * answer.classes + best] + 128);
    squares += value * value;
  }
  // heads^2 times the variance: at most 2^28, so that 32 bits of fraction fit below it.
  const uint64_t spread = heads * squares - uint64_t{best_sum} * best_sum;
  answer.spread = root(spread << 32) / (65536.0 * 256.0 * heads);
  answer.choice = Answers::Choice{best, static_cast<int32_t>((2 * best_sum + heads) / (2 * heads))};
  return answer;
}

}  // namespace edgeward
