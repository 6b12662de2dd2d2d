// One input of a concatenation into its place in every row of the output, a variable's value in or out, and constants into
// the arena.
#include <cstring>

#include "engine/direct/check.h"
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

void fill(const Program& program, const Record& op) {
  std::memset(at(program, op.output), static_cast<int8_t>(op.out_zero_point), op.out.bytes());
}

const char* check_copy(const Checker&, const Record& op) {
  const bool rows = op.in.height == 1 && op.out.height == 1 && op.in.width == op.out.width;
  if (!rows || uint64_t{op.pad_left} + op.in.channels > op.out.channels) return "bad shape";
  return apart(op.input, op.in.bytes(), op.output, op.out.bytes()) ? nullptr : "input and output overlap";
}

const char* check_load(const Checker& plan, const Record& op) {
  return plan.in_tflite(op.weights, op.out.bytes()) ? nullptr : "constant outside the .tflite section";
}

const char* check_fill(const Checker&, const Record&) { return nullptr; }

}  // namespace edgeward::direct
