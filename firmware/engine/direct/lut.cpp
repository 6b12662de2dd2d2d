// Any function of one int8 value, as a table: logistic.
#include "engine/direct/check.h"
#include "engine/direct/kernels.h"

namespace edgeward::direct {

void lut(const Program& program, const Record& op) {
  const auto* const table = reinterpret_cast<const int8_t*>(program.plan + op.table);
  const int8_t* const input = at(program, op.input);
  int8_t* const out = at(program, op.output);
  for (uint32_t i = 0; i < op.out.channels; ++i) out[i] = table[input[i] + 128];
}

const char* check_lut(const Checker& plan, const Record& op) {
  if (!is_flat(op.in) || !is_flat(op.out) || op.in.channels != op.out.channels) return "bad shape";
  return plan.table_ok(op, 256) ? nullptr : "table outside the plan";
}

}  // namespace edgeward::direct
