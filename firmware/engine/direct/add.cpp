#include "engine/direct/broadcast.h"
#include "engine/direct/kernels.h"
#include "engine/direct/rescale.h"

namespace edgeward::direct {
namespace {

// A copy of the table, which outputs could be part of for all the compiler knows.
class Sum {
 public:
  Sum(const int32_t* p, const Record& op)
      : one_zero_(p[0]), two_zero_(p[3]), one_{p[1], p[2]}, two_{p[4], p[5]}, sum_{p[6], p[7]}, range_(op) {}

  int8_t operator()(int8_t one, int8_t two) const {
    constexpr int32_t kUnit = 1 << 20;  // both inputs are brought to a common scale with 20 more bits
    const int32_t a = one_.of((one - one_zero_) * kUnit), b = two_.of((two - two_zero_) * kUnit);
    return in_range(sum_.of(wrapping_add(a, b)), range_);
  }

 private:
  int32_t one_zero_, two_zero_;
  Scale one_, two_, sum_;
  Range range_;
};

}  // namespace

void add(const Program& program, const Record& op) {
  const int32_t* const p = words(program, op);
  const int8_t* const one = at(program, op.input);
  const int8_t* const two = at(program, op.second);
  int8_t* const out = at(program, op.output);
  const uint32_t size = op.out.channels;
  const Sum sum(p, op);
  for (uint32_t i = 0; i < size; ++i) out[i] = sum(one[i], two[i]);
}

void add_broadcast(const Program& program, const Record& op) {
  const int32_t* const p = words(program, op);
  each_pair(program, op, p + 8, Sum(p, op));
}

const char* check_add(const Checker& plan, const Record& op) {
  if (!is_flat(op.in) || !is_flat(op.out) || op.in.channels != op.out.channels) return "bad shape";
  if (!plan.in_arena(op.second, op.in.bytes())) return "second input outside the arena";
  return check_addition_table(plan, op, 8);
}

const char* check_add_broadcast(const Checker& plan, const Record& op) { return check_pairs(plan, op); }

}  // namespace edgeward::direct
