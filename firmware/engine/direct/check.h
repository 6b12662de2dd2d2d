// What the check of a plan asks of every record. The check of a kind stands beside its kernel, and lets nothing pass with
// which the kernel would reach outside the arena, the plan or the .tflite section, divide by zero or loop without end.
#pragma once

#include "engine/direct/fixed_point.h"
#include "engine/direct/plan.h"

namespace edgeward::direct {

constexpr uint32_t kMaxArenaBytes = 1u << 24;
constexpr uint32_t kMaxDimension = 1u << 20;
constexpr uint32_t kMaxWindow = 1u << 12;

inline bool int8_ok(int32_t value) { return value >= -128 && value <= 127; }

inline bool scale_ok(int32_t multiplier, int32_t shift) { return multiplier >= 0 && shift >= -31 && shift <= 30; }
inline bool scale_ok(const Scale& scale) { return scale_ok(scale.multiplier, scale.shift); }

inline bool is_flat(const Shape& s) { return s.height == 1 && s.width == 1; }

inline bool apart(uint32_t a, uint64_t a_bytes, uint32_t b, uint64_t b_bytes) {
  return a + a_bytes <= b || b + b_bytes <= a;
}

inline bool window_size_ok(uint32_t n) { return n >= 1 && n <= kMaxWindow; }

// Every window touches the input: at least one cell of it lies inside.
inline bool window_axis_ok(uint32_t in, uint32_t out, uint32_t kernel, uint32_t stride, uint32_t dilation,
                           uint32_t padding) {
  if (!window_size_ok(kernel) || !window_size_ok(stride) || !window_size_ok(dilation)) return false;
  const uint64_t span = uint64_t{kernel - 1} * dilation + 1;
  return padding < span && uint64_t{out - 1} * stride < uint64_t{in} + padding;
}

inline bool window_ok(const Record& op) {
  return window_axis_ok(op.in.height, op.out.height, op.kernel_height, op.stride_height, op.dilation_height,
                        op.pad_top) &&
         window_axis_ok(op.in.width, op.out.width, op.kernel_width, op.stride_width, op.dilation_width, op.pad_left);
}

class Checker {
 public:
  Checker(const ModelView& model, const PlanHeader& header) : model_(model), header_(header) {}

  bool in_arena(uint32_t offset, uint64_t bytes) const { return offset + bytes <= header_.arena_bytes; }

  bool in_tflite(uint32_t offset, uint64_t bytes) const { return offset + bytes <= model_.tflite_bytes; }

  bool table_ok(const Record& op, uint64_t bytes) const {
    return op.table % 4 == 0 && op.table >= sizeof(PlanHeader) && op.table + bytes <= header_.plan_bytes;
  }

  const int32_t* table(const Record& op) const { return reinterpret_cast<const int32_t*>(model_.plan + op.table); }

  bool scratch_ok(const Record& op, uint64_t window) const {
    return op.scratch_bytes >= window && in_arena(op.second, op.scratch_bytes) &&
           apart(op.second, op.scratch_bytes, op.input, op.in.bytes()) &&
           apart(op.second, op.scratch_bytes, op.output, op.out.bytes());
  }

  // What the operator keeps between inferences: it holds int16 values, and lies at the second input.
  bool kept_ok(const Record& op, uint64_t bytes) const {
    return op.second % 2 == 0 && in_arena(op.second, bytes) && apart(op.second, bytes, op.input, op.in.bytes()) &&
           apart(op.second, bytes, op.output, op.out.bytes());
  }

  // A bias for every output channel, and its multiplier and shift or those of all (rescale.h).
  const char* rescale(const Record& op) const {
    const uint64_t scales = op.per_channel ? op.out.channels : 1;
    if (!table_ok(op, 4 * uint64_t{op.out.channels} + 5 * scales)) return "table outside the plan";
    const int32_t* const multiplier = table(op) + op.out.channels;
    const auto* const shift = reinterpret_cast<const int8_t*>(multiplier + scales);
    for (uint64_t i = 0; i < scales; ++i) {
      if (!scale_ok(multiplier[i], shift[i])) return "bad multiplier";
    }
    return nullptr;
  }

 private:
  const ModelView& model_;
  const PlanHeader& header_;
};

// The reason why a record of the kind is unusable, or null. What holds for records of every kind was checked before.
#define EDGEWARD_CHECKED(name, number) const char* check_##name(const Checker& plan, const Record& op);
EDGEWARD_KINDS(EDGEWARD_CHECKED)
#undef EDGEWARD_CHECKED

}  // namespace edgeward::direct
