// What a model keeps between inferences, as its file says. TFLM copies variables by the sizes it finds in the file, and follows
// names and the index of a subgraph without a check: a model passes here first. model_export/variables.py refuses the same.
#pragma once

#include <cstdint>

#include "engine/engine.h"
#include "tensorflow/lite/schema/schema_generated.h"

namespace edgeward {

constexpr uint32_t kMostVariables = 64;

struct Kept {
  uint32_t variables;  // named by handles
  uint32_t bytes;      // theirs, and those of tensors that TFLM keeps (SVDF, LSTM)
};

// The tensors and buffers of every operator were found to exist before; operators with other codes may be in the main graph.
Result check_variables(const tflite::Model& model, Kept* kept);

}  // namespace edgeward
