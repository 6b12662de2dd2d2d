// Whether the inputs still look like the training data: a histogram of what came in since the last report, against the
// reference in the model's input profile, as population stability index (model_export/input_profile.py).
#pragma once

#include <cstdint>

#include "core/budget.h"
#include "core/input_profile.h"

namespace edgeward {

class Drift {
 public:
  void reset() { *this = Drift{}; }

  void add(const InputProfile& profile, const int8_t* input, uint32_t bytes);

  uint32_t rows() const { return rows_; }

  // The index of one group; 0 without rows. Below 0.1 is read as no drift, above 0.25 as drift.
  double index(const InputProfile& profile, uint32_t group) const;

 private:
  uint32_t rows_ = 0;
  uint32_t counts_[kDriftGroups][kDriftBins] = {};
};

}  // namespace edgeward
