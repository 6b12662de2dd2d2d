#include "engine/direct/check.h"

namespace edgeward::direct {
namespace {

bool dimension_ok(uint32_t n) { return n >= 1 && n <= kMaxDimension; }

bool shape_ok(const Shape& s) {
  return dimension_ok(s.height) && dimension_ok(s.width) && dimension_ok(s.channels) && s.bytes() <= kMaxArenaBytes;
}

// The reason why the record is unusable, or null.
const char* check_record(const Checker& plan, const Record& op) {
  if (!shape_ok(op.in) || !shape_ok(op.out)) return "a dimension is out of range";
  if (!plan.in_arena(op.input, op.in.bytes())) return "input outside the arena";
  if (!plan.in_arena(op.output, op.out.bytes())) return "output outside the arena";
  if (!int8_ok(op.in_zero_point) || !int8_ok(op.out_zero_point)) return "zero point out of range";
  if (!int8_ok(op.clamp_low) || !int8_ok(op.clamp_high) || op.clamp_low > op.clamp_high) return "bad clamp";
  switch (op.kind) {
#define EDGEWARD_CHECK(name, number) \
  case Kind::name: return check_##name(plan, op);
    EDGEWARD_KINDS(EDGEWARD_CHECK)
#undef EDGEWARD_CHECK
  }
  return "unknown kind of operator";
}

Result bad(const char* reason, int32_t op = -1) { return Result{Status::bad_model, reason, op}; }

}  // namespace

Result check_plan(const ModelView& model, uint32_t arena_bytes) {
  if (model.plan == nullptr || model.plan_bytes == 0) return Result{Status::no_plan, "the model has no plan", -1};
  if (model.plan_bytes < sizeof(PlanHeader)) return bad("the plan is shorter than its header");
  if (reinterpret_cast<uintptr_t>(model.plan) % 4 != 0) return bad("the plan is not aligned to 4 bytes");
  const auto& header = *reinterpret_cast<const PlanHeader*>(model.plan);
  if (header.magic != kPlanMagic) return bad("the plan has the wrong magic");
  const uint32_t version = header.initial_count > 0 ? kPlanVersionWithState : kPlanVersion;
  if (header.version != version) return Result{Status::unsupported, "unknown version of the plan", -1};
  if (header.plan_bytes != model.plan_bytes) return bad("the plan has the wrong length");
  if (header.tflite_bytes != model.tflite_bytes) return bad("the plan belongs to another .tflite");
  if (header.ops_offset != sizeof(PlanHeader)) return bad("the operator table is not where it belongs");
  if (header.op_count > (header.plan_bytes - sizeof(PlanHeader)) / sizeof(Record)) return bad("too many operators");
  if (header.initial_count > header.op_count) return bad("more initializations than operators");
  if (header.arena_bytes > kMaxArenaBytes) return bad("the arena is out of range");
  if (header.arena_bytes > arena_bytes) {
    return Result{Status::arena_too_small, "the plan needs a larger arena", -1};
  }
  const Checker checker(model, header);
  if (!checker.in_arena(header.input.offset, header.input.bytes)) return bad("the input is outside the arena");
  if (!checker.in_arena(header.output.offset, header.output.bytes)) return bad("the output is outside the arena");
  const auto* const records = reinterpret_cast<const Record*>(model.plan + header.ops_offset);
  for (uint32_t i = 0; i < header.op_count; ++i) {
    if (const char* const reason = check_record(checker, records[i])) {
      return bad(reason, static_cast<int32_t>(records[i].model_op & INT32_MAX));
    }
  }
  return ok_result();
}

}  // namespace edgeward::direct
