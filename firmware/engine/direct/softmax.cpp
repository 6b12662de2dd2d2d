// Softmax over the last dimension, to scale 1/256 and zero point -128. The exponentials come from the plan, since the
// difference to the largest value has only 256 cases.
#include "engine/direct/check.h"
#include "engine/direct/fixed_point.h"
#include "engine/direct/kernels.h"

namespace edgeward::direct {
namespace {

// The sum of exponentials has 12 integer bits; check_plan() limits the depth to what the final shift allows.
constexpr int32_t kSumIntegerBits = 12;

// 1 / (1 + a) for a in [0, 1) in Q0.31, by three Newton steps from 48/17 - 32/17 * half the denominator.
int32_t one_over_one_plus(int32_t a) {
  const int64_t twice_half = static_cast<int64_t>(a) + INT32_MAX + 1;
  const auto half = static_cast<int32_t>(twice_half >> 1);
  const auto shift_saturating = [](int32_t value, int bits) {
    const int64_t wide = static_cast<int64_t>(value) * (int64_t{1} << bits);
    return wide > INT32_MAX ? INT32_MAX : wide < INT32_MIN ? INT32_MIN : static_cast<int32_t>(wide);
  };
  int32_t x = 1515870810 + high_multiply(half, -1010580540);  // Q2.29
  for (int step = 0; step < 3; ++step) {
    const int32_t error = (1 << 29) - high_multiply(half, x);
    x += shift_saturating(high_multiply(x, error), 2);
  }
  return shift_saturating(x, 1);
}

}  // namespace

void softmax(const Program& program, const Record& op) {
  const int32_t* const table = words(program, op);
  const int32_t entries = table[0];
  const int32_t* const exps = table + 1;
  const uint32_t depth = op.in.channels;
  const int8_t* input = at(program, op.input);
  int8_t* out = at(program, op.output);
  for (uint32_t row = 0; row < op.in.width; ++row, input += depth, out += depth) {
    int32_t most = -128;
    for (uint32_t i = 0; i < depth; ++i) {
      if (input[i] > most) most = input[i];
    }
    int32_t sum = 0;
    for (uint32_t i = 0; i < depth; ++i) {
      const int32_t d = most - input[i];
      if (d < entries) sum += rounding_shift(exps[d], kSumIntegerBits);
    }
    const int leading = __builtin_clz(static_cast<uint32_t>(sum));
    const auto fraction = static_cast<int32_t>((static_cast<uint32_t>(sum) << leading) - (uint32_t{1} << 31));
    const int32_t reciprocal = one_over_one_plus(fraction);
    const int32_t shift = kSumIntegerBits - leading + 31 - 8;
    for (uint32_t i = 0; i < depth; ++i) {
      const int32_t d = most - input[i];
      const int32_t value = d < entries ? rounding_shift(high_multiply(exps[d], reciprocal), shift) - 128 : -128;
      out[i] = clamp(value, -128, 127);
    }
  }
}

const char* check_softmax(const Checker& plan, const Record& op) {
  const bool same = op.in.width == op.out.width && op.in.channels == op.out.channels;
  if (!same || op.in.height != 1 || op.out.height != 1 || op.in.channels > kMaxSoftmaxDepth) return "bad shape";
  if (!plan.table_ok(op, 8)) return "table outside the plan";
  const int32_t* const t = plan.table(op);
  if (t[0] < 1 || t[0] > 256 || t[1] != INT32_MAX) return "bad exponentials";
  if (!plan.table_ok(op, 4 + 4 * static_cast<uint64_t>(t[0]))) return "table outside the plan";
  for (int32_t i = 1; i <= t[0]; ++i) {
    if (t[i] < 0) return "bad exponentials";
  }
  return nullptr;
}

}  // namespace edgeward::direct
