// The plan of engine/direct as model_export/plan.py writes it: little-endian 32-bit words, read in place.
#pragma once

#include <cstdint>

#include "engine/engine.h"

namespace edgeward::direct {

constexpr uint32_t kPlanMagic = 0x4C505745;  // "EWPL"
constexpr uint32_t kPlanVersion = 1;
constexpr uint32_t kPlanVersionWithState = 2;  // some records initialize variables

// Every kind of operator: the name of its kernel (kernels.h), and its number in a plan.
#define EDGEWARD_KINDS(KIND) \
  KIND(conv, 1) \
  KIND(depthwise, 2) \
  KIND(max_pool, 3) \
  KIND(average_pool, 4) \
  KIND(mean, 5) \
  KIND(add, 6) \
  KIND(softmax, 7) \
  KIND(lut, 8) \
  KIND(pad, 9) \
  KIND(load, 10) \
  KIND(copy, 11) \
  KIND(add_broadcast, 12) \
  KIND(arithmetic, 13) \
  KIND(move, 14) \
  KIND(transpose_conv, 15) \
  KIND(resize, 16) \
  KIND(grouped, 17) \
  KIND(fill, 18) \
  KIND(lstm, 19) \
  KIND(svdf, 20)

enum class Kind : uint32_t {
#define EDGEWARD_NUMBERED(name, number) name = number,
  EDGEWARD_KINDS(EDGEWARD_NUMBERED)
#undef EDGEWARD_NUMBERED
};

constexpr const char* to_string(Kind kind) {
  switch (kind) {
#define EDGEWARD_NAMED(name, number) \
  case Kind::name: return #name;
    EDGEWARD_KINDS(EDGEWARD_NAMED)
#undef EDGEWARD_NAMED
  }
  return "unknown";
}

// What Kind::arithmetic does, in parameters[0].
enum class Arithmetic : int32_t { product = 0, difference = 1, larger = 2, smaller = 3, slope = 4 };
constexpr int32_t kArithmetics = 5;

struct PlanTensor {
  uint32_t offset;  // in the arena
  uint32_t bytes;
  float scale;
  int32_t zero_point;
};

struct PlanHeader {
  uint32_t magic;
  uint32_t version;
  uint32_t plan_bytes;
  uint32_t arena_bytes;
  uint32_t tflite_bytes;
  uint32_t op_count;
  uint32_t ops_offset;
  uint32_t initial_count;  // the first records: they run at load() and reset(), the others at invoke()
  PlanTensor input;
  PlanTensor output;
};
static_assert(sizeof(PlanHeader) == 64, "as in model_export/plan.py");

struct Shape {
  uint32_t height, width, channels;

  constexpr uint64_t bytes() const { return uint64_t{height} * width * channels; }
};

struct Record {
  Kind kind;
  uint32_t model_op;  // index in the .tflite, for messages
  uint32_t input;     // arena offsets
  uint32_t second;    // second input of an operator with two; scratch; what the operator keeps
  uint32_t output;
  Shape in;
  Shape out;
  uint32_t kernel_height, kernel_width;
  uint32_t stride_height, stride_width;
  uint32_t dilation_height, dilation_width;
  uint32_t pad_top, pad_left;
  uint32_t weights;  // offset in the .tflite section
  uint32_t table;    // offset in the plan
  uint32_t scratch_bytes;
  int32_t in_zero_point;
  int32_t out_zero_point;
  int32_t clamp_low, clamp_high;
  uint32_t per_channel;
  int32_t parameters[5];
};
static_assert(sizeof(Record) == 128, "as in model_export/plan.py");

constexpr uint32_t kMaxSoftmaxDepth = 511;  // beyond it, TFLM's own shift is out of range
constexpr uint32_t kMaxTaps = 131071;       // taps * 128 * 128 fits 31 bits

// A plan that check_plan() accepted, with the memory it works on.
struct Program {
  const PlanHeader* header;
  const Record* records;
  const uint8_t* plan;
  const uint8_t* tflite;
  uint8_t* arena;
};

// Checks every offset and size a kernel will use, so that no plan, however damaged, can make one reach outside the
// arena, the plan or the .tflite section, divide by zero or loop without end. Wrong numbers remain possible: those are
// what the SHA-256 in the model header is for.
Result check_plan(const ModelView& model, uint32_t arena_bytes);

}  // namespace edgeward::direct
