// The functions of @name@.h but those of the self test.
#include "@name@.h"
#include "@name@/data.h"
#include "@name@/engine/engine.h"

static_assert(sizeof(int) >= 4, "the engine is for processors of 32 bits and more");
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the model's numbers are little-endian and read in place");

namespace {

using edgeward_@name@::graph_engine;

int code_of(const edgeward_@name@::Result& result) {
  using edgeward_@name@::Status;
  switch (result.status) {
    case Status::ok: return @NAME@_OK;
    case Status::not_loaded: return @NAME@_NOT_READY;
    case Status::arena_too_small: return @NAME@_BAD_ARENA;
    case Status::no_plan:
    case Status::bad_model:
    case Status::unsupported: return @NAME@_BAD_MODEL;
    case Status::invoke_failed: break;
  }
  return @NAME@_FAILED;
}

@name@_tensor tensor_of(const edgeward_@name@::TensorView& view) {
  return @name@_tensor{view.data, view.bytes, view.scale, view.zero_point};
}

}  // namespace

extern "C" {

int @name@_init(void* arena, size_t arena_bytes) {
  if (arena == nullptr || arena_bytes < @NAME@_ARENA_BYTES) return @NAME@_BAD_ARENA;
  if (reinterpret_cast<uintptr_t>(arena) % @NAME@_ARENA_ALIGNMENT != 0) return @NAME@_BAD_ARENA;
  using namespace edgeward_@name@;
  const ModelView model{kModel, kModelBytes, kPlan, kPlanBytes};
  return code_of(graph_engine().load(model, static_cast<uint8_t*>(arena), @NAME@_ARENA_BYTES));
}

@name@_tensor @name@_input(void) { return tensor_of(graph_engine().input()); }

@name@_tensor @name@_output(void) { return tensor_of(graph_engine().output()); }

int @name@_invoke(void) { return code_of(graph_engine().invoke()); }

int @name@_reset(void) { return code_of(graph_engine().reset()); }

int8_t @name@_quantize(float value) {
  const float steps = value / @NAME@_INPUT_SCALE;
  if (!(steps > -512.0f)) return -128;
  if (steps > 512.0f) return 127;
  int32_t whole = static_cast<int32_t>(steps);
  const float rest = steps - static_cast<float>(whole);
  const bool odd = whole % 2 != 0;
  if (rest > 0.5f || (rest == 0.5f && odd)) ++whole;
  if (rest < -0.5f || (rest == -0.5f && odd)) --whole;
  const int32_t code = whole + @NAME@_INPUT_ZERO_POINT;
  return static_cast<int8_t>(code < -128 ? -128 : code > 127 ? 127 : code);
}

float @name@_dequantize(int8_t value) {
  return static_cast<float>(value - @NAME@_OUTPUT_ZERO_POINT) * @NAME@_OUTPUT_SCALE;
}

const char* @name@_error_text(int code) {
  switch (code) {
    case @NAME@_OK: return "ok";
    case @NAME@_NOT_READY: return "not initialized: call @name@_init() first";
    case @NAME@_BAD_ARENA: return "the arena is too small, or not aligned to 16 bytes";
    case @NAME@_BAD_MODEL: return "the model in this library is damaged: write the library again";
    default: return "failed";
  }
}
@label_definition@
}  // extern "C"
