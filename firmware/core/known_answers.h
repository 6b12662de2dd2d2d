// The rows a model carries with the outputs TFLM gave for them: a board that computes other bits must not use the model.
#pragma once

#include <cstdint>

#include "core/model_header.h"
#include "core/refusal.h"
#include "engine/engine.h"

namespace edgeward {

struct KnownAnswers {
  Refusal refusal;  // set when they could not be run; then the counts say nothing
  uint32_t rows = 0;
  uint32_t mismatches = 0;
};

// Runs them on the model that `engine` has loaded from `model` (the first byte of model.bin), in their order from the initial
// state, and leaves that state again.
KnownAnswers run_known_answers(Engine& engine, const uint8_t* model, const ModelHeader& header);

}  // namespace edgeward
