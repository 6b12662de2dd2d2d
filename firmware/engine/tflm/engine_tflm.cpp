// The product engine: TensorFlow Lite Micro's interpreter over the model where it lies in flash.
//
// Nothing is allocated: interpreter and resolver are built in static storage, tensors in the arena the core gives.
// TFLM trusts its input and can abort instead of returning an error, so what it does not check is checked here first.
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <new>

#include "engine/engine.h"
#include "engine/tflm/variables.h"
#include "tensorflow/compiler/mlir/lite/schema/schema_utils.h"
#include "tensorflow/lite/micro/debug_log.h"
#include "tensorflow/lite/micro/micro_allocator.h"
#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"
#include "tensorflow/lite/micro/micro_profiler_interface.h"
#include "tensorflow/lite/micro/micro_resource_variable.h"
#include "tensorflow/lite/schema/schema_generated.h"

namespace edgeward {
namespace {

// The operators a board can run: all that engine/direct has, and others that converters make of common layers.
constexpr unsigned kOperators = 44;
constexpr uint32_t kLeastArenaBytes = 1024;     // of TFLM's allocator, before anything of a model
constexpr uint32_t kVariableStructBytes = 40;  // with pointers of 64 bits
using Resolver = tflite::MicroMutableOpResolver<kOperators>;

bool register_operators(Resolver* resolver) {
  bool ok = true;
  const auto add = [&ok](TfLiteStatus status) { ok = ok && status == kTfLiteOk; };
  add(resolver->AddAdd());
  add(resolver->AddAssignVariable());
  add(resolver->AddAveragePool2D());
  add(resolver->AddCallOnce());
  add(resolver->AddConcatenation());
  add(resolver->AddConv2D());
  add(resolver->AddDepthwiseConv2D());
  add(resolver->AddExpandDims());
  add(resolver->AddFullyConnected());
  add(resolver->AddHardSwish());
  add(resolver->AddLeakyRelu());
  add(resolver->AddLogistic());
  add(resolver->AddMaxPool2D());
  add(resolver->AddMaximum());
  add(resolver->AddMean());
  add(resolver->AddMinimum());
  add(resolver->AddMul());
  add(resolver->AddPack());
  add(resolver->AddPad());
  add(resolver->AddPadV2());
  add(resolver->AddPrelu());
  add(resolver->AddQuantize());
  add(resolver->AddReadVariable());
  add(resolver->AddReduceMax());
  add(resolver->AddRelu());
  add(resolver->AddRelu6());
  add(resolver->AddReshape());
  add(resolver->AddResizeBilinear());
  add(resolver->AddResizeNearestNeighbor());
  add(resolver->AddShape());
  add(resolver->AddSlice());
  add(resolver->AddSoftmax());
  add(resolver->AddSplit());
  add(resolver->AddSplitV());
  add(resolver->AddSqueeze());
  add(resolver->AddStridedSlice());
  add(resolver->AddSub());
  add(resolver->AddSvdf());
  add(resolver->AddTanh());
  add(resolver->AddTranspose());
  add(resolver->AddTransposeConv());
  add(resolver->AddUnidirectionalSequenceLSTM());
  add(resolver->AddUnpack());
  add(resolver->AddVarHandle());
  return ok;
}

// The first line TFLM said during the current call: it names the cause, what follows are consequences. Kept as plain
// text that can stand in a JSON string.
char g_said[96];
size_t g_said_bytes = 0;
bool g_said_complete = false;

void forget_said() {
  g_said[0] = '\0';
  g_said_bytes = 0;
  g_said_complete = false;
}

void keep_said(const char* text) {
  for (; *text != '\0' && !g_said_complete; ++text) {
    if (*text == '\n' || *text == '\r') {
      g_said_complete = g_said_bytes > 0;
    } else if (g_said_bytes + 1 < sizeof(g_said)) {
      const bool plain = *text >= ' ' && *text <= '~' && *text != '"' && *text != '\\';
      g_said[g_said_bytes++] = plain ? *text : '\'';
      g_said[g_said_bytes] = '\0';
    }
  }
}

Result fail(Status status, const char* reason, int32_t op = -1) { return Result{status, reason, op}; }

Result fail_as_said(Status status, const char* otherwise) { return fail(status, g_said_bytes > 0 ? g_said : otherwise); }

// TFLM reports every failure of AllocateTensors() alike; only its text tells a full arena from a wrong model.
Status allocation_failure() {
  const bool full = std::strstr(g_said, "missing:") != nullptr || std::strstr(g_said, "Failed to allocate") != nullptr;
  return full ? Status::arena_too_small : Status::bad_model;
}

bool indices_within(const flatbuffers::Vector<int32_t>* indices, int32_t count, bool optional_allowed) {
  if (indices == nullptr) return true;
  for (const int32_t index : *indices) {
    if (index >= count || index < (optional_allowed ? -1 : 0)) return false;
  }
  return true;
}

// What TFLM dereferences without a check, once the flatbuffer itself is known to be well formed.
Result check_graph(const tflite::Model* model, const tflite::SubGraph* graph, const Resolver& resolver) {
  if (graph->tensors() == nullptr || graph->operators() == nullptr) {
    return fail(Status::bad_model, "no tensors or operators");
  }
  const auto tensors = static_cast<int32_t>(graph->tensors()->size());
  for (const tflite::Tensor* tensor : *graph->tensors()) {
    if (tensor->buffer() >= model->buffers()->size()) return fail(Status::bad_model, "tensor without its buffer");
  }
  if (!indices_within(graph->inputs(), tensors, false) || !indices_within(graph->outputs(), tensors, false)) {
    return fail(Status::bad_model, "input or output is no tensor");
  }
  for (uint32_t i = 0; i < graph->operators()->size(); ++i) {
    const tflite::Operator* op = graph->operators()->Get(i);
    const auto number = static_cast<int32_t>(i);
    if (op->opcode_index() >= model->operator_codes()->size()) {
      return fail(Status::bad_model, "operator without its code", number);
    }
    if (!indices_within(op->inputs(), tensors, true) || !indices_within(op->outputs(), tensors, false)) {
      return fail(Status::bad_model, "operator refers to no tensor", number);
    }
    const tflite::BuiltinOperator code = tflite::GetBuiltinCode(model->operator_codes()->Get(op->opcode_index()));
    if (resolver.FindOp(code) == nullptr) {
      return fail(Status::unsupported, "operator is not in this firmware", number);
    }
  }
  return ok_result();
}

// How many steps of a series an operator that check_graph() accepted computes in one inference; 0 where it is no LSTM.
int32_t steps_of(const tflite::SubGraph* graph, const tflite::Operator* op) {
  const auto* const options = op->builtin_options_as_UnidirectionalSequenceLSTMOptions();
  if (options == nullptr || op->inputs() == nullptr || op->inputs()->size() == 0 || op->inputs()->Get(0) < 0) return 0;
  const auto* const shape = graph->tensors()->Get(static_cast<uint32_t>(op->inputs()->Get(0)))->shape();
  return shape == nullptr || shape->size() != 3 ? 0 : shape->Get(options->time_major() ? 0 : 1);
}

// Whether a row is a whole series, so that what its LSTM layers remember begins again with each, and nothing else is kept.
// As model_export/operators/recurrent.py has it.
bool each_row_a_series(const tflite::Model* model) {
  if (model->subgraphs()->size() != 1) return false;
  const tflite::SubGraph* graph = model->subgraphs()->Get(0);
  int32_t least = 0;
  uint32_t states = 0, variables = 0;
  for (const tflite::Operator* op : *graph->operators()) {
    const int32_t steps = steps_of(graph, op);
    if (steps == 0) continue;
    if (least == 0 || steps < least) least = steps;
    states += 2;  // hidden and cell
  }
  for (const tflite::Tensor* tensor : *graph->tensors()) {
    if (tensor->type() == tflite::TensorType_RESOURCE) return false;
    variables += tensor->is_variable();
  }
  return least > 1 && variables == states;
}

Result check_model(const tflite::Model* model, const Resolver& resolver, Kept* kept) {
  if (model->version() != TFLITE_SCHEMA_VERSION) return fail(Status::bad_model, "schema version is not 3");
  if (model->subgraphs() == nullptr || model->subgraphs()->size() == 0 || model->buffers() == nullptr ||
      model->operator_codes() == nullptr) {
    return fail(Status::bad_model, "no subgraph, buffers or operator codes");
  }
  const tflite::SubGraph* graph = model->subgraphs()->Get(0);
  if (graph->inputs() == nullptr || graph->inputs()->size() != 1 || graph->outputs() == nullptr ||
      graph->outputs()->size() != 1) {
    return fail(Status::unsupported, "not exactly one input and one output");
  }
  for (const tflite::SubGraph* each : *model->subgraphs()) {
    const Result result = check_graph(model, each, resolver);
    if (!result) return result;
  }
  return check_variables(*model, kept);
}

bool view_tensor(const TfLiteTensor* tensor, TensorView* view) {
  if (tensor == nullptr || tensor->type != kTfLiteInt8) return false;
  *view = TensorView{tensor->data.int8, static_cast<uint32_t>(tensor->bytes), tensor->params.scale,
                     tensor->params.zero_point};
  return true;
}

// TFLM tells it the begin and end of every operator; it does nothing until it is given where to put the times.
class OpTimer final : public tflite::MicroProfilerInterface {
 public:
  void start(uint64_t (*clock_us)(), OpTime* times, uint32_t capacity) {
    clock_us_ = clock_us;
    times_ = times;
    capacity_ = capacity;
    next_ = 0;
  }

  void stop() { clock_us_ = nullptr; }

  uint32_t BeginEvent(const char* tag) override {
    if (clock_us_ == nullptr) return 0;
    const uint32_t event = next_ < capacity_ ? next_ : capacity_ - 1;
    times_[event].name = tag;
    times_[event].op = static_cast<int32_t>(next_++);
    begun_us_ = clock_us_();
    return event;
  }

  void EndEvent(uint32_t event) override {
    if (clock_us_ != nullptr) times_[event].us += clock_us_() - begun_us_;
  }

 private:
  uint64_t (*clock_us_)() = nullptr;
  OpTime* times_ = nullptr;
  uint32_t capacity_ = 0;
  uint32_t next_ = 0;
  uint64_t begun_us_ = 0;
};

class TflmEngine final : public Engine {
 public:
  const char* name() const override { return "tflm"; }

  uint32_t arena_needed_bytes(uint32_t tflm_bytes, uint32_t) const override { return tflm_bytes; }

  Result load(const ModelView& view, uint8_t* arena, uint32_t arena_bytes) override {
    unload();
    forget_said();
    if (view.tflite == nullptr || view.tflite_bytes < sizeof(uint64_t)) {
      return fail(Status::bad_model, "no .tflite section");
    }
    flatbuffers::Verifier verifier(view.tflite, view.tflite_bytes);
    if (!tflite::VerifyModelBuffer(verifier)) return fail(Status::bad_model, "not a whole TFLite flatbuffer");
    if (resolver_ == nullptr) {
      resolver_ = new (resolver_storage_) Resolver();
      if (!register_operators(resolver_)) return fail_as_said(Status::unsupported, "operators did not register");
    }
    const tflite::Model* model = tflite::GetModel(view.tflite);
    Kept kept;
    const Result checked = check_model(model, *resolver_, &kept);
    if (!checked) return checked;
    model_ = model;
    arena_ = arena;
    arena_bytes_ = arena_bytes;
    kept_ = kept;
    return begin();
  }

  void unload() override {
    if (interpreter_ != nullptr) interpreter_->~MicroInterpreter();
    interpreter_ = nullptr;
    input_ = output_ = TensorView{nullptr, 0, 0.0F, 0};
    op_count_ = 0;
    kept_ = Kept{0, 0};
  }

  TensorView input() const override { return input_; }
  TensorView output() const override { return output_; }

  Result invoke() override {
    if (interpreter_ == nullptr) return fail(Status::not_loaded, "");
    forget_said();
    if (each_row_a_series_ && interpreter_->Reset() != kTfLiteOk) return fail_as_said(Status::invoke_failed, "Reset failed");
    if (interpreter_->Invoke() != kTfLiteOk) return fail_as_said(Status::invoke_failed, "Invoke failed");
    return ok_result();
  }

  uint32_t state_bytes() const override { return kept_.bytes; }

  // Prepared once more: TFLM's own Reset() forgets what CALL_ONCE assigned, and does not call it again.
  Result reset() override {
    if (interpreter_ == nullptr) return fail(Status::not_loaded, "no model is loaded");
    if (kept_.bytes == 0) return ok_result();
    const Kept kept = kept_;
    unload();
    kept_ = kept;
    forget_said();
    return begin();
  }

  Result invoke_timed(uint64_t (*clock_us)(), OpTime* times, uint32_t capacity) override {
    timer_.start(clock_us, times, capacity);
    const Result result = invoke();
    timer_.stop();
    return result;
  }

  uint32_t arena_used_bytes() const override {
    return interpreter_ == nullptr ? 0 : static_cast<uint32_t>(interpreter_->arena_used_bytes());
  }

  uint32_t op_count() const override { return op_count_; }

 private:
  // Makes the interpreter of what load() found.
  Result begin() {
    // TFLM does not look whether its own structs fit before it writes them.
    const uint64_t least = kLeastArenaBytes + uint64_t{kept_.variables} * kVariableStructBytes;
    if (arena_bytes_ < least) {
      unload();
      return fail(Status::arena_too_small, "no room for what TFLM itself needs");
    }
    tflite::MicroAllocator* const allocator =
        tflite::MicroAllocator::Create(arena_, arena_bytes_, tflite::MemoryPlannerType::kGreedy);
    tflite::MicroResourceVariables* const variables =
        kept_.variables == 0
            ? nullptr
            : tflite::MicroResourceVariables::Create(allocator, static_cast<int>(kept_.variables));
    interpreter_ = new (interpreter_storage_)
        tflite::MicroInterpreter(model_, *resolver_, allocator, variables, &timer_);
    if (interpreter_->AllocateTensors() != kTfLiteOk) {
      const Status status = allocation_failure();
      unload();
      return fail_as_said(status, "AllocateTensors failed");
    }
    if (!view_tensor(interpreter_->input(0), &input_) || !view_tensor(interpreter_->output(0), &output_)) {
      unload();
      return fail(Status::unsupported, "input or output is not int8");
    }
    op_count_ = model_->subgraphs()->Get(0)->operators()->size();
    each_row_a_series_ = each_row_a_series(model_);
    if (each_row_a_series_) kept_.bytes = 0;
    return ok_result();
  }

  alignas(Resolver) uint8_t resolver_storage_[sizeof(Resolver)] = {};
  alignas(tflite::MicroInterpreter) uint8_t interpreter_storage_[sizeof(tflite::MicroInterpreter)] = {};
  OpTimer timer_;
  Resolver* resolver_ = nullptr;
  tflite::MicroInterpreter* interpreter_ = nullptr;
  TensorView input_ = {};
  TensorView output_ = {};
  uint32_t op_count_ = 0;
  bool each_row_a_series_ = false;
  const tflite::Model* model_ = nullptr;
  uint8_t* arena_ = nullptr;
  uint32_t arena_bytes_ = 0;
  Kept kept_ = {0, 0};
};

TflmEngine g_engine;

}  // namespace

Engine& graph_engine() { return g_engine; }

}  // namespace edgeward

// TFLM's log, replaced: printed, it would land inside a record. Both functions stand in this file because the linker
// has then seen them before it looks into TFLM's archive, and leaves TFLM's own out.
extern "C" void DebugLog(const char* format, va_list args) {
  char line[sizeof(edgeward::g_said)];
  std::vsnprintf(line, sizeof(line), format, args);
  edgeward::keep_said(line);
}

extern "C" int DebugVsnprintf(char* buffer, size_t bytes, const char* format, va_list args) {
  return std::vsnprintf(buffer, bytes, format, args);
}
