// Values taken from their places in the input, in steps along four axes: a slice, a part of a split, a transposition.
#include "engine/direct/check.h"
#include "engine/direct/kernels.h"

namespace edgeward::direct {

void move(const Program& program, const Record& op) {
  const int32_t* const t = words(program, op);  // first place, four counts, four steps
  const int32_t* const count = t + 1;
  const int32_t* const step = t + 5;
  const int8_t* const first = at(program, op.input) + t[0];
  int8_t* out = at(program, op.output);
  for (int32_t i = 0; i < count[0]; ++i) {
    for (int32_t j = 0; j < count[1]; ++j) {
      for (int32_t k = 0; k < count[2]; ++k) {
        const int8_t* from = first + i * step[0] + j * step[1] + k * step[2];
        for (int32_t l = 0; l < count[3]; ++l) *out++ = from[l * step[3]];
      }
    }
  }
}

const char* check_move(const Checker& plan, const Record& op) {
  if (!plan.table_ok(op, 4 * 9)) return "table outside the plan";
  const int32_t* const t = plan.table(op);
  if (t[0] < 0) return "bad place";
  // Below 2^53: a count has at most 21 bits, a step 31.
  int64_t low = t[0], high = t[0];
  uint64_t values = 1;
  for (uint32_t i = 0; i < 4; ++i) {
    const int32_t count = t[1 + i];
    if (count < 1 || static_cast<uint32_t>(count) > kMaxDimension) return "bad count";
    values *= static_cast<uint32_t>(count);
    if (values > kMaxArenaBytes) return "bad count";
    const int64_t reach = int64_t{count - 1} * t[5 + i];
    (reach < 0 ? low : high) += reach;
  }
  if (values != op.out.bytes()) return "bad shape";
  if (low < 0 || static_cast<uint64_t>(high) >= op.in.bytes()) return "bad step";
  return apart(op.input, op.in.bytes(), op.output, op.out.bytes()) ? nullptr : "input and output overlap";
}

}  // namespace edgeward::direct
