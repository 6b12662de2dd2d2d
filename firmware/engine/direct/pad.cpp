#include <cstring>

#include "engine/direct/check.h"
#include "engine/direct/kernels.h"

namespace edgeward::direct {

void pad(const Program& program, const Record& op) {
  const int8_t* input = at(program, op.input);
  int8_t* const out = at(program, op.output);
  const uint32_t in_row = op.in.width * op.in.channels;
  const uint32_t out_row = op.out.width * op.out.channels;
  std::memset(out, op.out_zero_point, op.out.height * out_row);
  int8_t* to = out + op.pad_top * out_row + op.pad_left * op.out.channels;
  for (uint32_t y = 0; y < op.in.height; ++y, to += out_row, input += in_row) std::memcpy(to, input, in_row);
}

const char* check_pad(const Checker&, const Record& op) {
  const bool fits = uint64_t{op.pad_top} + op.in.height <= op.out.height &&
                    uint64_t{op.pad_left} + op.in.width <= op.out.width && op.in.channels == op.out.channels;
  return fits && apart(op.input, op.in.bytes(), op.output, op.out.bytes()) ? nullptr : "bad padding";
}

}  // namespace edgeward::direct
