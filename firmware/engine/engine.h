// What the firmware core needs of an inference engine. Two for graphs: engine/tflm (the product) and engine/direct (own
// kernels); exactly one is linked, and the build picks the files. Beside it always engine/trees, for models of trees.
#pragma once

#include <cstddef>
#include <cstdint>

namespace edgeward {

// The parts of a model.bin an engine may read, in place. Both stay mapped while the model is loaded.
struct ModelView {
  const uint8_t* tflite;  // 16-byte aligned flatbuffer, or a model of trees (engine/trees/format.h)
  uint32_t tflite_bytes;
  const uint8_t* plan;    // 16-byte aligned plan of engine/direct; null when the model carries none
  uint32_t plan_bytes;
};

enum class Status : uint8_t {
  ok = 0,
  not_loaded,         // input(), output() or invoke() before a successful load()
  no_plan,            // the model has no plan section and this engine needs one
  bad_model,          // the flatbuffer or the plan does not describe a model that can be run safely
  unsupported,        // an operator, type or version this engine does not have
  arena_too_small,
  invoke_failed,
};

constexpr const char* to_string(Status status) {
  switch (status) {
    case Status::ok: return "ok";
    case Status::not_loaded: return "not_loaded";
    case Status::no_plan: return "no_plan";
    case Status::bad_model: return "bad_model";
    case Status::unsupported: return "unsupported";
    case Status::arena_too_small: return "arena_too_small";
    case Status::invoke_failed: return "invoke_failed";
  }
  return "unknown";
}

// `reason` is text in static storage that says more than the status, "" on success; `op` is the index of the operator
// it is about, -1 when it is about none.
struct Result {
  Status status;
  const char* reason;
  int32_t op;

  explicit operator bool() const { return status == Status::ok; }
};

constexpr Result ok_result() { return Result{Status::ok, "", -1}; }

// An int8 tensor in the arena: real = scale * (value - zero_point).
struct TensorView {
  int8_t* data;  // null when nothing is loaded
  uint32_t bytes;
  float scale;
  int32_t zero_point;
};

// What one operator took, summed over as many invoke_timed() as the caller asks for.
struct OpTime {
  const char* name;  // static text
  int32_t op;        // its index in the model, -1 where the engine does not know it
  uint64_t us;
};

class Engine {
 public:
  // "tflm" or "direct".
  virtual const char* name() const = 0;

  // Bytes of arena the header of a model asks for this engine: the core compares them with the arena it has before
  // load(), because a too small arena can abort inside TFLM instead of returning an error.
  virtual uint32_t arena_needed_bytes(uint32_t tflm_bytes, uint32_t direct_bytes) const = 0;

  // Prepares the model to run in `arena` (16-byte aligned, kept until the next load() or unload()). May be called again
  // with another model. On failure nothing is loaded.
  virtual Result load(const ModelView& model, uint8_t* arena, uint32_t arena_bytes) = 0;
  virtual void unload() = 0;

  // The input is overwritten by invoke(): fill it before each call. The output is valid until the next invoke().
  virtual TensorView input() const = 0;
  virtual TensorView output() const = 0;
  virtual Result invoke() = 0;

  // What the loaded model keeps from one invoke() to the next: 0 where each stands alone.
  virtual uint32_t state_bytes() const = 0;

  // That back to what it was after load(), to the bit. Does nothing to a model without it; the tensors of input() and
  // output() hold nothing afterwards. When it fails nothing is loaded any more.
  virtual Result reset() = 0;

  // invoke() that adds what operator i took to times[i]; those beyond `capacity` (at least 1) count for the last.
  virtual Result invoke_timed(uint64_t (*clock_us)(), OpTime* times, uint32_t capacity) = 0;

  virtual uint32_t arena_used_bytes() const = 0;  // 0 when nothing is loaded
  virtual uint32_t op_count() const = 0;

 protected:
  ~Engine() = default;  // engines are static objects, never deleted
};

// The engine for graphs this firmware was built with: a static object defined in engine/tflm or engine/direct.
Engine& graph_engine();

// It and engine/trees behind one face: a model's first bytes decide which of the two runs it.
Engine& engine();

}  // namespace edgeward
