// engine/trees: runs a model of trees in place; all state is pointers. And engine(), which gives a model to it or to the engine
// for graphs that this firmware was built with, by the model's first bytes.
#include "engine/trees/format.h"

namespace edgeward {
namespace {

constexpr char kOperator[] = "TREES";

class TreesEngine final : public Engine {
 public:
  const char* name() const override { return "trees"; }

  // The header of such a model asks the same for both engines.
  uint32_t arena_needed_bytes(uint32_t /*tflm_bytes*/, uint32_t direct_bytes) const override { return direct_bytes; }

  Result load(const ModelView& model, uint8_t* arena, uint32_t arena_bytes) override {
    unload();
    trees::Parts parts;
    const Result checked = trees::check(model.tflite, model.tflite_bytes, &parts);
    if (!checked) return checked;
    if (model.plan != nullptr) return Result{Status::bad_model, "trees: a model of trees has no plan", -1};
    const trees::Places places = trees::places_of(parts);
    if (places.bytes > arena_bytes) return Result{Status::arena_too_small, "trees: input, sums and output", -1};
    parts_ = parts;
    places_ = places;
    arena_ = arena;
    return checked;
  }

  void unload() override { parts_ = trees::Parts{}; }

  // Inputs are codes already: real = value.
  TensorView input() const override {
    if (parts_.header == nullptr) return TensorView{};
    return TensorView{reinterpret_cast<int8_t*>(arena_), parts_.header->channels, 1.0f, 0};
  }

  TensorView output() const override {
    if (parts_.header == nullptr) return TensorView{};
    return TensorView{reinterpret_cast<int8_t*>(arena_ + places_.output), parts_.outputs(), parts_.header->scale,
                      parts_.header->zero_point};
  }

  Result invoke() override {
    if (parts_.header == nullptr) return Result{Status::not_loaded, "no model is loaded", -1};
    trees::run(parts_, input().data, reinterpret_cast<int32_t*>(arena_ + places_.sums), output().data);
    return ok_result();
  }

  uint32_t state_bytes() const override { return 0; }

  Result reset() override {
    return parts_.header == nullptr ? Result{Status::not_loaded, "no model is loaded", -1} : ok_result();
  }

  Result invoke_timed(uint64_t (*clock_us)(), OpTime* times, uint32_t /*capacity*/) override {
    const uint64_t before_us = clock_us();
    const Result result = invoke();
    times[0].name = kOperator;
    times[0].op = 0;
    times[0].us += clock_us() - before_us;
    return result;
  }

  uint32_t arena_used_bytes() const override { return parts_.header == nullptr ? 0 : places_.bytes; }
  uint32_t op_count() const override { return parts_.header == nullptr ? 0 : 1; }

 private:
  trees::Parts parts_;
  trees::Places places_ = {};
  uint8_t* arena_ = nullptr;
};

// Graphs and trees in one firmware.
class BothEngines final : public Engine {
 public:
  // That of the engine for graphs, which a firmware has one of; all have trees.
  const char* name() const override { return graph_engine().name(); }

  uint32_t arena_needed_bytes(uint32_t tflm_bytes, uint32_t direct_bytes) const override {
    return graph_engine().arena_needed_bytes(tflm_bytes, direct_bytes);
  }

  Result load(const ModelView& model, uint8_t* arena, uint32_t arena_bytes) override {
    unload();
    trees_ = trees::is_trees(model.tflite, model.tflite_bytes);
    return current().load(model, arena, arena_bytes);
  }

  void unload() override {
    graph_engine().unload();
    trees_engine().unload();
  }

  TensorView input() const override { return current().input(); }
  TensorView output() const override { return current().output(); }
  Result invoke() override { return current().invoke(); }
  uint32_t state_bytes() const override { return current().state_bytes(); }
  Result reset() override { return current().reset(); }

  Result invoke_timed(uint64_t (*clock_us)(), OpTime* times, uint32_t capacity) override {
    return current().invoke_timed(clock_us, times, capacity);
  }

  uint32_t arena_used_bytes() const override { return current().arena_used_bytes(); }
  uint32_t op_count() const override { return current().op_count(); }

 private:
  Engine& current() const { return trees_ ? trees_engine() : graph_engine(); }

  bool trees_ = false;
};

}  // namespace

Engine& trees_engine() {
  static TreesEngine instance;
  return instance;
}

Engine& engine() {
  static BothEngines instance;
  return instance;
}

}  // namespace edgeward
