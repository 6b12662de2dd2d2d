// engine/direct: runs a plan. No interpreter, no allocation; all state is the pointers in `program_`, and a model's variables
// in its arena.
#include "engine/direct/kernels.h"

namespace edgeward {
namespace {

class DirectEngine final : public Engine {
 public:
  const char* name() const override { return "direct"; }

  uint32_t arena_needed_bytes(uint32_t /*tflm_bytes*/, uint32_t direct_bytes) const override { return direct_bytes; }

  Result load(const ModelView& model, uint8_t* arena, uint32_t arena_bytes) override {
    unload();
    const Result checked = direct::check_plan(model, arena_bytes);
    if (!checked) return checked;
    const auto* const header = reinterpret_cast<const direct::PlanHeader*>(model.plan);
    const auto* const records = reinterpret_cast<const direct::Record*>(model.plan + header->ops_offset);
    program_ = direct::Program{header, records, model.plan, model.tflite, arena};
    return reset();
  }

  void unload() override { program_ = direct::Program{}; }

  TensorView input() const override { return program_.header ? view(program_.header->input) : TensorView{}; }
  TensorView output() const override { return program_.header ? view(program_.header->output) : TensorView{}; }

  Result invoke() override {
    if (program_.header == nullptr) return Result{Status::not_loaded, "no model is loaded", -1};
    for (uint32_t i = program_.header->initial_count; i < program_.header->op_count; ++i) run(program_.records[i]);
    return ok_result();
  }

  uint32_t state_bytes() const override {
    uint64_t bytes = 0;  // records of a damaged plan may lie in the same place: more than 32 bits of them
    for (uint32_t i = 0; i < initial_count(); ++i) bytes += program_.records[i].out.bytes();
    return bytes < arena_used_bytes() ? static_cast<uint32_t>(bytes) : arena_used_bytes();
  }

  Result reset() override {
    if (program_.header == nullptr) return Result{Status::not_loaded, "no model is loaded", -1};
    for (uint32_t i = 0; i < initial_count(); ++i) run(program_.records[i]);
    return ok_result();
  }

  Result invoke_timed(uint64_t (*clock_us)(), OpTime* times, uint32_t capacity) override {
    if (program_.header == nullptr) return Result{Status::not_loaded, "no model is loaded", -1};
    uint64_t before_us = clock_us();
    for (uint32_t i = 0; i < op_count(); ++i) {
      const direct::Record& op = program_.records[initial_count() + i];
      run(op);
      const uint64_t now_us = clock_us();
      OpTime& time = times[i < capacity ? i : capacity - 1];
      time.name = direct::to_string(op.kind);
      time.op = static_cast<int32_t>(op.model_op);
      time.us += now_us - before_us;
      before_us = now_us;
    }
    return ok_result();
  }

  uint32_t arena_used_bytes() const override { return program_.header ? program_.header->arena_bytes : 0; }
  uint32_t op_count() const override {
    return program_.header ? program_.header->op_count - program_.header->initial_count : 0;
  }

 private:
  uint32_t initial_count() const { return program_.header ? program_.header->initial_count : 0; }

  TensorView view(const direct::PlanTensor& t) const {
    return TensorView{direct::at(program_, t.offset), t.bytes, t.scale, t.zero_point};
  }

  void run(const direct::Record& op) const {
    switch (op.kind) {
#define EDGEWARD_RUN(name, number) \
  case direct::Kind::name: return direct::name(program_, op);
      EDGEWARD_KINDS(EDGEWARD_RUN)
#undef EDGEWARD_RUN
    }
  }

  direct::Program program_{};
};

}  // namespace

Engine& graph_engine() {
  static DirectEngine instance;
  return instance;
}

}  // namespace edgeward
