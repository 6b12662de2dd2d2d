// How far a model's output is from its input: the score of an autoencoder, large where an input is unlike the training data.
#pragma once

#include <cstdint>

#include "engine/engine.h"

namespace edgeward {

// The mean over all values of (input - output)^2, both as their int8 stand for. sample(i): value i of the input, from a copy:
// engines may write over theirs. The same bits on every processor, and as model_export/reconstruction.py: products of an int8
// and a float, and of two floats, are exact in a double, so it makes no difference whether they are fused with a sum.
template <typename Sample>
float reconstruction_error(Sample sample, const TensorView& input, const TensorView& output) {
  double sum = 0;
  for (uint32_t i = 0; i < output.bytes; ++i) {
    const double in = (int32_t{sample(i)} - input.zero_point) * static_cast<double>(input.scale);
    const double out = (int32_t{output.data[i]} - output.zero_point) * static_cast<double>(output.scale);
    const double off = static_cast<float>(in - out);
    sum += off * off;
  }
  return static_cast<float>(sum / output.bytes);
}

// Neither infinite nor no number at all: scales can be chosen so that a score is.
inline bool is_number(float score) { return score - score == 0; }

}  // namespace edgeward
