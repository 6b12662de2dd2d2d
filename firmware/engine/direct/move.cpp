// Values taken from their places in the input, in steps along four axes: a slice, a part of a split, a transposition.
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

}  // namespace edgeward::direct
