// Two inputs, value by value, with broadcasting: product, difference, the larger, the smaller, and a
// value that is multiplied by its slope where it is negative.
#include "engine/direct/broadcast.h"
#include "engine/direct/fixed_point.h"
#include "engine/direct/kernels.h"

namespace edgeward::direct {
namespace {

struct Pair {
  const int32_t* p;  // of the table: zero point, multiplier and shift of each input, multiplier and shift of the result
  int32_t out_zero_point, low, high;

  int8_t product(int8_t one, int8_t two) const {
    return clamp(wrapping_add(requantize((one - p[0]) * (two - p[3]), p[6], p[7]), out_zero_point), low, high);
  }

  int8_t difference(int8_t one, int8_t two) const {
    constexpr int32_t kUnit = 1 << 20;  // as in an addition
    const int32_t a = requantize((one - p[0]) * kUnit, p[1], p[2]);
    const int32_t b = requantize((two - p[3]) * kUnit, p[4], p[5]);
    const auto apart = static_cast<int32_t>(static_cast<uint32_t>(a) - static_cast<uint32_t>(b));
    return clamp(wrapping_add(requantize(apart, p[6], p[7]), out_zero_point), low, high);
  }

  int8_t sloped(int8_t one, int8_t two) const {
    const int32_t x = one - p[0];
    const int32_t value = x >= 0 ? requantize(x, p[1], p[2]) : requantize(x * (two - p[3]), p[4], p[5]);
    return clamp(wrapping_add(value, out_zero_point), low, high);
  }
};

}  // namespace

void arithmetic(const Program& program, const Record& op) {
  const Pair pair{words(program, op), op.out_zero_point, op.clamp_low, op.clamp_high};
  const int32_t* const steps = words(program, op) + 8;
  switch (static_cast<Arithmetic>(op.parameters[0])) {
    case Arithmetic::product:
      return each_pair(program, op, steps, [&pair](int8_t a, int8_t b) { return pair.product(a, b); });
    case Arithmetic::difference:
      return each_pair(program, op, steps, [&pair](int8_t a, int8_t b) { return pair.difference(a, b); });
    case Arithmetic::larger: return each_pair(program, op, steps, [](int8_t a, int8_t b) { return a > b ? a : b; });
    case Arithmetic::smaller: return each_pair(program, op, steps, [](int8_t a, int8_t b) { return a < b ? a : b; });
    case Arithmetic::slope:
      return each_pair(program, op, steps, [&pair](int8_t a, int8_t b) { return pair.sloped(a, b); });
  }
}

const char* check_arithmetic(const Checker& plan, const Record& op) {
  if (op.parameters[0] < 0 || op.parameters[0] >= kArithmetics) return "unknown arithmetic";
  return check_pairs(plan, op);
}

}  // namespace edgeward::direct
