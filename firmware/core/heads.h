// What a model with several heads says: the mean of their probabilities, and how far they disagree.
#pragma once

#include <cstdint>

#include "core/budget.h"
#include "core/metrics.h"
#include "engine/engine.h"

namespace edgeward {

struct HeadsAnswer {
  Answers::Choice choice{0, 0};       // the class whose mean is the largest, the first of several
  uint32_t classes = 0;
  double mean[kCountedClasses] = {};  // of each class
  double spread = 0;                  // standard deviation over heads of the probability of the class chosen
};

// Whether an output is (heads, classes) probabilities, as softmax gives them in int8.
bool are_heads(const TensorView& output, uint32_t heads);

// Of an output that is. In whole numbers up to the last division, so every processor comes to the same.
HeadsAnswer judge_heads(const TensorView& output, uint32_t heads);

}  // namespace edgeward
