// Any function of one int8 value, as a table: logistic.
#include "engine/direct/kernels.h"

namespace edgeward::direct {

void lut(const Program& program, const Record& op) {
  const auto* const table = reinterpret_cast<const int8_t*>(program.plan + op.table);
  const int8_t* const input = at(program, op.input);
  int8_t* const out = at(program, op.output);
  for (uint32_t i = 0; i < op.out.channels; ++i) out[i] = table[input[i] + 128];
}

}  // namespace edgeward::direct
