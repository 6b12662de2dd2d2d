#include "engine/direct/broadcast.h"
#include "engine/direct/fixed_point.h"
#include "engine/direct/kernels.h"

namespace edgeward::direct {
namespace {

int8_t sum_of(const int32_t* p, const Record& op, int8_t one, int8_t two) {
  constexpr int32_t kUnit = 1 << 20;  // both inputs are brought to a common scale with 20 more bits
  const int32_t a = requantize((one - p[0]) * kUnit, p[1], p[2]);
  const int32_t b = requantize((two - p[3]) * kUnit, p[4], p[5]);
  const int32_t sum = requantize(wrapping_add(a, b), p[6], p[7]);
  return clamp(wrapping_add(sum, op.out_zero_point), op.clamp_low, op.clamp_high);
}

}  // namespace

void add(const Program& program, const Record& op) {
  const int32_t* const p = words(program, op);
  const int8_t* const one = at(program, op.input);
  const int8_t* const two = at(program, op.second);
  int8_t* const out = at(program, op.output);
  const uint32_t size = op.out.channels;
  for (uint32_t i = 0; i < size; ++i) out[i] = sum_of(p, op, one[i], two[i]);
}

void add_broadcast(const Program& program, const Record& op) {
  const int32_t* const p = words(program, op);
  each_pair(program, op, p + 8, [p, &op](int8_t one, int8_t two) { return sum_of(p, op, one, two); });
}

const char* check_add(const Checker& plan, const Record& op) {
  if (!is_flat(op.in) || !is_flat(op.out) || op.in.channels != op.out.channels) return "bad shape";
  if (!plan.in_arena(op.second, op.in.bytes())) return "second input outside the arena";
  return check_addition_table(plan, op, 8);
}

const char* check_add_broadcast(const Checker& plan, const Record& op) { return check_pairs(plan, op); }

}  // namespace edgeward::direct
