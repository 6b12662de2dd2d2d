// One input of a concatenation into its place in every row of the output, and constants into the arena.
#include <cstring>

#include "engine/direct/kernels.h"

namespace edgeward::direct {

void copy(const Program& program, const Record& op) {
  const int8_t* input = at(program, op.input);
  int8_t* out = at(program, op.output) + op.pad_left;
  for (uint32_t row = 0; row < op.in.width; ++row, input += op.in.channels, out += op.out.channels) {
    std::memcpy(out, input, op.in.channels);
  }
}

void load(const Program& program, const Record& op) {
  std::memcpy(at(program, op.output), program.tflite + op.weights, op.out.bytes());
}

}  // namespace edgeward::direct
