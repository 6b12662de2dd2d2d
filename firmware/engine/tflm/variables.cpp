#include "engine/tflm/variables.h"

#include <cstring>

#include "tensorflow/compiler/mlir/lite/schema/schema_utils.h"

namespace edgeward {
namespace {

using Tensor = tflite::Tensor;

constexpr const char* kBadHandle = "no handle of a variable";

struct Variable {
  const char* container;  // null in a file without one
  const char* name;
  int32_t handle;       // its tensor in the graph that is looked at, -1 for none
  const Tensor* value;  // the first that is assigned or read; null before
  bool assigned;
  bool initialized;
};

// Of one model at a time; its only place, since 64 variables are much for a stack.
Variable g_variables[kMostVariables];
uint32_t g_count = 0;

Result bad(const char* reason, int32_t op) { return Result{Status::bad_model, reason, op}; }

bool same_text(const char* a, const char* b) {
  return std::strcmp(a == nullptr ? "" : a, b == nullptr ? "" : b) == 0;
}

Variable* by_handle(int32_t tensor) {
  for (uint32_t i = 0; i < g_count; ++i) {
    if (g_variables[i].handle == tensor) return &g_variables[i];
  }
  return nullptr;
}

uint32_t size_of(const flatbuffers::Vector<int32_t>* places) { return places == nullptr ? 0 : places->size(); }

uint32_t item_bytes(tflite::TensorType type) {
  switch (type) {
    case tflite::TensorType_BOOL:
    case tflite::TensorType_INT8:
    case tflite::TensorType_UINT8: return 1;
    case tflite::TensorType_INT16:
    case tflite::TensorType_FLOAT16: return 2;
    case tflite::TensorType_INT32:
    case tflite::TensorType_FLOAT32: return 4;
    case tflite::TensorType_INT64:
    case tflite::TensorType_FLOAT64: return 8;
    default: return 0;
  }
}

// Bytes of a tensor; 0 for one that cannot be kept.
uint32_t bytes_of(const Tensor& tensor) {
  constexpr uint64_t kMost = 1u << 24;
  uint64_t bytes = item_bytes(tensor.type());
  if (tensor.shape() == nullptr) return static_cast<uint32_t>(bytes);
  for (const int32_t size : *tensor.shape()) {
    if (size < 1 || static_cast<uint64_t>(size) > kMost) return 0;
    bytes *= static_cast<uint32_t>(size);
    if (bytes > kMost) return 0;
  }
  return static_cast<uint32_t>(bytes);
}

bool same_kind(const Tensor& a, const Tensor& b) {
  if (a.type() != b.type() || size_of(a.shape()) != size_of(b.shape())) return false;
  for (uint32_t i = 0; i < size_of(a.shape()); ++i) {
    if (a.shape()->Get(i) != b.shape()->Get(i)) return false;
  }
  return true;
}

bool is_constant(const tflite::Model& model, const Tensor& tensor) {
  const tflite::Buffer* const buffer = model.buffers()->Get(tensor.buffer());
  return buffer->data() != nullptr && buffer->data()->size() == bytes_of(tensor);
}

// One graph of the model. `initial`: the one that CALL_ONCE calls.
class Look {
 public:
  Look(const tflite::Model& model, const tflite::SubGraph& graph, bool initial)
      : model_(model), graph_(graph), initial_(initial) {}

  Result operators(int32_t* called) {
    for (uint32_t i = 0; i < g_count; ++i) g_variables[i].handle = -1;
    bool touched = false;
    for (uint32_t i = 0; i < graph_.operators()->size(); ++i) {
      const tflite::Operator& op = *graph_.operators()->Get(i);
      const auto number = static_cast<int32_t>(i);
      const char* problem = nullptr;
      switch (tflite::GetBuiltinCode(model_.operator_codes()->Get(op.opcode_index()))) {
        case tflite::BuiltinOperator_VAR_HANDLE: problem = handle(op); break;
        case tflite::BuiltinOperator_READ_VARIABLE:
          problem = value(op, true);
          touched = true;
          break;
        case tflite::BuiltinOperator_ASSIGN_VARIABLE:
          problem = value(op, false);
          touched = true;
          break;
        case tflite::BuiltinOperator_CALL_ONCE: problem = once(op, touched, called); break;
        default: problem = other(op); break;
      }
      if (problem != nullptr) return bad(problem, number);
    }
    return ok_result();
  }

 private:
  const char* handle(const tflite::Operator& op) {
    const tflite::VarHandleOptions* const options = op.builtin_options_as_VarHandleOptions();
    if (options == nullptr || options->shared_name() == nullptr || options->shared_name()->size() == 0) {
      return "a variable without a name";
    }
    if (size_of(op.inputs()) != 0 || size_of(op.outputs()) != 1) return "a handle has one output";
    const int32_t tensor = op.outputs()->Get(0);
    if (graph_.tensors()->Get(tensor)->type() != tflite::TensorType_RESOURCE || by_handle(tensor) != nullptr) {
      return kBadHandle;
    }
    const char* const container = options->container() == nullptr ? nullptr : options->container()->c_str();
    const char* const name = options->shared_name()->c_str();
    for (uint32_t i = 0; i < g_count; ++i) {
      Variable& known = g_variables[i];
      // TFLM compares them only where both are there.
      if ((known.container == nullptr) != (container == nullptr)) return "variables with and without a container";
      if (!same_text(known.name, name) || !same_text(known.container, container)) continue;
      if (known.handle >= 0) return "a second handle of a variable";
      known.handle = tensor;
      return nullptr;
    }
    if (g_count == kMostVariables) return "more than 64 variables";
    g_variables[g_count++] = Variable{container, name, tensor, nullptr, false, false};
    return nullptr;
  }

  const char* value(const tflite::Operator& op, bool read) {
    if (size_of(op.inputs()) != (read ? 1u : 2u) || size_of(op.outputs()) != (read ? 1u : 0u)) {
      return "wrong number of inputs or outputs";
    }
    Variable* const variable = op.inputs()->Get(0) < 0 ? nullptr : by_handle(op.inputs()->Get(0));
    if (variable == nullptr) return kBadHandle;
    const int32_t place = read ? op.outputs()->Get(0) : op.inputs()->Get(1);
    if (place < 0) return "no value of a variable";
    const Tensor& tensor = *graph_.tensors()->Get(place);
    if (initial_ && (read || !is_constant(model_, tensor))) return "variables begin with constants";
    if (initial_ && variable->initialized) return "a variable is initialized twice";
    if (bytes_of(tensor) == 0) return "a variable of a type or size that no board keeps";
    if (variable->value == nullptr) variable->value = &tensor;
    if (!same_kind(*variable->value, tensor)) return "a variable of two types or shapes";
    variable->assigned = variable->assigned || !read;
    variable->initialized = variable->initialized || initial_;
    return nullptr;
  }

  const char* once(const tflite::Operator& op, bool touched, int32_t* called) const {
    const tflite::CallOnceOptions* const options = op.builtin_options_as_CallOnceOptions();
    const int32_t graph = options == nullptr ? 0 : options->init_subgraph_index();
    if (initial_ || *called >= 0) return "a second initialization";
    if (size_of(op.inputs()) != 0 || size_of(op.outputs()) != 0) return "wrong number of inputs or outputs";
    if (touched) return "variables are initialized after one was read or assigned";
    if (graph == 0) return "an initialization that is the graph it is called from";
    if (graph != 1 || model_.subgraphs()->size() != 2) return "an initialization that is not the other subgraph";
    *called = graph;
    return nullptr;
  }

  const char* other(const tflite::Operator& op) const {
    if (initial_) return "an initialization assigns constants to variables and does nothing else";
    for (const auto* const places : {op.inputs(), op.outputs()}) {
      for (uint32_t i = 0; i < size_of(places); ++i) {
        const int32_t place = places->Get(i);
        if (place >= 0 && graph_.tensors()->Get(place)->type() == tflite::TensorType_RESOURCE) {
          return "a handle where a value belongs";
        }
      }
    }
    return nullptr;
  }

  const tflite::Model& model_;
  const tflite::SubGraph& graph_;
  const bool initial_;
};

}  // namespace

Result check_variables(const tflite::Model& model, Kept* kept) {
  g_count = 0;
  *kept = Kept{0, 0};
  int32_t called = -1;
  const Result main = Look(model, *model.subgraphs()->Get(0), false).operators(&called);
  if (!main) return main;
  if (called < 0 && model.subgraphs()->size() != 1) return bad("a subgraph that nothing calls", -1);
  if (called >= 0) {
    const tflite::SubGraph& graph = *model.subgraphs()->Get(static_cast<uint32_t>(called));
    if (size_of(graph.inputs()) != 0 || size_of(graph.outputs()) != 0) {
      return bad("an initialization with inputs or outputs", -1);
    }
    const Result initial = Look(model, graph, true).operators(&called);
    if (!initial) return initial;
  }
  uint64_t bytes = 0;
  for (uint32_t i = 0; i < g_count; ++i) {
    if (!g_variables[i].assigned) return bad("a variable that is never assigned", -1);
    bytes += bytes_of(*g_variables[i].value);
  }
  for (const tflite::SubGraph* graph : *model.subgraphs()) {
    for (const Tensor* tensor : *graph->tensors()) {
      if (!tensor->is_variable()) continue;
      if (bytes_of(*tensor) == 0) return bad("a variable of a type or size that no board keeps", -1);
      bytes += bytes_of(*tensor);
    }
  }
  if (bytes > UINT32_MAX) return bad("variables larger than any arena", -1);
  *kept = Kept{g_count, static_cast<uint32_t>(bytes)};
  return ok_result();
}

}  // namespace edgeward
