#include "core/known_answers.h"

#include <cstring>

#include "core/little_endian.h"
#include "hal/hal.h"

namespace edgeward {
namespace {

constexpr uint32_t kCountsBytes = 12;

}  // namespace

KnownAnswers run_known_answers(Engine& engine, const uint8_t* model, const ModelHeader& header) {
  KnownAnswers result;
  const Section section = header.known_answers;
  if (section.bytes == 0) {
    result.refusal = Refusal{"no_known_answers", "the model carries none"};
    return result;
  }
  if (const Result begun = engine.reset(); !begun) {
    result.refusal = Refusal{to_string(begun.status), begun.reason, begun.op};
    return result;
  }
  const TensorView input = engine.input();
  const TensorView output = engine.output();
  const uint8_t* row = model + section.offset;
  const uint32_t rows = section.bytes < kCountsBytes ? 0 : u32(row);
  const uint64_t needed = kCountsBytes + uint64_t{rows} * (uint64_t{input.bytes} + output.bytes);
  if (rows == 0 || u32(row + 4) != input.bytes || u32(row + 8) != output.bytes || needed != section.bytes) {
    result.refusal = Refusal{"bad_known_answers", "they do not fit the model"};
    return result;
  }
  row += kCountsBytes;
  for (uint32_t i = 0; i < rows; ++i, row += input.bytes + output.bytes) {
    std::memcpy(input.data, row, input.bytes);
    const bool same = engine.invoke() && std::memcmp(output.data, row + input.bytes, output.bytes) == 0;
    result.mismatches += same ? 0 : 1;
    ++result.rows;
    hal::idle(0);  // feeds the watchdog
  }
  if (const Result ended = engine.reset(); !ended) {
    result.refusal = Refusal{to_string(ended.status), ended.reason, ended.op};
  }
  return result;
}

}  // namespace edgeward
