// Filters over time: what a dense layer gave for the last inputs is kept, and weighted together.
#include <cstring>

#include "engine/direct/check.h"
#include "engine/direct/fixed_point.h"
#include "engine/direct/kernels.h"

namespace edgeward::direct {
namespace {

// The begin of the table, as model_export/operators/svdf.py writes it.
struct Head {
  Scale feature, output;
  uint32_t time;  // offset of the weights over time in the .tflite section
};
static_assert(sizeof(Head) == 5 * 4, "as in model_export/operators/svdf.py");

// One of the .tflite section, where values need not be aligned.
template <typename T>
int32_t weight(const uint8_t* bytes, uint32_t index) {
  T value;
  std::memcpy(&value, bytes + index * sizeof(T), sizeof(T));
  return value;
}

template <typename T>
void run(const Program& program, const Record& op) {
  const auto steps = static_cast<uint32_t>(op.parameters[0]), rank = static_cast<uint32_t>(op.parameters[1]);
  const int32_t zero_point = op.parameters[3];
  const uint32_t units = op.out.channels, filters = rank * units, width = op.in.channels;
  const auto& head = *reinterpret_cast<const Head*>(words(program, op));
  const auto* const feature_bias = reinterpret_cast<const int32_t*>(&head + 1);
  const int32_t* const bias = feature_bias + filters;
  auto* const memory = reinterpret_cast<T*>(at(program, op.second));

  std::memmove(memory, memory + 1, (uint64_t{filters} * steps - 1) * sizeof(T));
  const int8_t* const input = at(program, op.input);
  const auto* weights = reinterpret_cast<const int8_t*>(program.tflite + op.weights);
  for (uint32_t filter = 0; filter < filters; ++filter, weights += width) {
    int32_t sum = 0;
    for (uint32_t i = 0; i < width; ++i) sum += static_cast<int32_t>(input[i]) * weights[i];
    const int32_t value = head.feature.of(wrapping_add(sum, feature_bias[filter]));
    constexpr int32_t kHigh = (1 << (8 * sizeof(T) - 1)) - 1, kLow = -kHigh - 1;
    const int32_t held = value < kLow ? kLow : value > kHigh ? kHigh : value;
    memory[filter * steps + steps - 1] = static_cast<T>(held + zero_point);
  }

  int8_t* const out = at(program, op.output);
  const T* kept = memory;
  const uint8_t* over_time = program.tflite + head.time;
  const uint32_t of_unit = rank * steps;
  for (uint32_t unit = 0; unit < units; ++unit, kept += of_unit, over_time += of_unit * sizeof(T)) {
    int32_t sum = bias[unit];
    for (uint32_t i = 0; i < of_unit; ++i) sum = wrapping_add(sum, weight<T>(over_time, i) * (kept[i] - zero_point));
    out[unit] = clamp(wrapping_add(head.output.of(sum), op.out_zero_point), -128, 127);
  }
}

}  // namespace

void svdf(const Program& program, const Record& op) {
  if (op.parameters[2] != 0) {
    run<int16_t>(program, op);
  } else {
    run<int8_t>(program, op);
  }
}

const char* check_svdf(const Checker& plan, const Record& op) {
  if (!is_flat(op.in) || !is_flat(op.out)) return "bad shape";
  if (op.in.channels > kMaxTaps) return "too many products per output";
  if (op.parameters[0] < 1 || op.parameters[1] < 1 || op.parameters[2] < 0 || op.parameters[2] > 1) return "bad parameter";
  if (!int8_ok(op.parameters[3])) return "zero point out of range";
  const auto steps = static_cast<uint32_t>(op.parameters[0]), rank = static_cast<uint32_t>(op.parameters[1]);
  if (steps > kMaxArenaBytes || rank > kMaxArenaBytes) return "bad parameter";
  const uint64_t filters = uint64_t{rank} * op.out.channels;
  if (filters > kMaxArenaBytes) return "bad parameter";
  const uint64_t memory = filters * steps * (op.parameters[2] != 0 ? sizeof(int16_t) : sizeof(int8_t));
  if (!plan.kept_ok(op, memory)) return "bad place of what is kept";
  if (!apart(op.input, op.in.bytes(), op.output, op.out.bytes())) return "input and output overlap";
  if (!plan.in_tflite(op.weights, filters * op.in.channels)) return "weights outside the .tflite section";
  if (!plan.table_ok(op, sizeof(Head) + (filters + op.out.channels) * sizeof(int32_t))) return "table outside the plan";
  const auto& head = *reinterpret_cast<const Head*>(plan.table(op));
  if (!plan.in_tflite(head.time, memory)) return "weights outside the .tflite section";
  return scale_ok(head.feature) && scale_ok(head.output) ? nullptr : "bad multiplier";
}

}  // namespace edgeward::direct
