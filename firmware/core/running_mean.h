// The probabilities of the last windows, and their mean: how wake words are smoothed.
#pragma once

#include <cstdint>

#include "core/budget.h"
#include "core/metrics.h"
#include "engine/engine.h"

namespace edgeward {

class RunningMean {
 public:
  // Forgets all; from now on the mean is over `windows`, 1 to kMostAveraged.
  void start(uint32_t windows);

  // Takes the answer to a window (Answers::are_probabilities). False as long as there are fewer than are averaged.
  bool add(const TensorView& output);

  // Of the mean, rounded down to 1/256.
  Answers::Choice choice() const;

 private:
  uint32_t windows_ = 1;
  uint32_t seen_ = 0;  // at most windows_
  uint32_t at_ = 0;
  uint32_t outputs_ = 0;
  uint8_t kept_[kMostAveraged][kCountedClasses] = {};
};

}  // namespace edgeward
