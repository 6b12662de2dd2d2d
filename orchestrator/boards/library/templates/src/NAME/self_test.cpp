// Rows with the outputs that TensorFlow Lite Micro gave for them. A program that asks for none of this has none of it in its flash.
#include <cstring>

#include "@name@.h"

namespace {

constexpr size_t kRowBytes = @NAME@_INPUT_BYTES + @NAME@_OUTPUT_BYTES;

const int8_t kRows[@NAME@_KNOWN_ANSWERS * kRowBytes] = {
@rows@
};

}  // namespace

extern "C" {

const int8_t* @name@_known_input(size_t row) {
  return row < @NAME@_KNOWN_ANSWERS ? kRows + row * kRowBytes : nullptr;
}

const int8_t* @name@_known_output(size_t row) {
  return row < @NAME@_KNOWN_ANSWERS ? kRows + row * kRowBytes + @NAME@_INPUT_BYTES : nullptr;
}

int @name@_self_test(void) {
  int code = @name@_reset();
  if (code != @NAME@_OK) return code;
  int differ = 0;
  for (size_t row = 0; row < @NAME@_KNOWN_ANSWERS; ++row) {
    std::memcpy(@name@_input().data, @name@_known_input(row), @NAME@_INPUT_BYTES);
    code = @name@_invoke();
    if (code != @NAME@_OK) return code;
    if (std::memcmp(@name@_output().data, @name@_known_output(row), @NAME@_OUTPUT_BYTES) != 0) ++differ;
  }
  code = @name@_reset();
  return code == @NAME@_OK ? differ : code;
}

}  // extern "C"
