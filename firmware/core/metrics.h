// Counters and the latency histogram of one boot.
#pragma once

#include <cstdint>

#include "core/budget.h"
#include "engine/engine.h"

namespace edgeward {

// Latencies in buckets whose width is 1/16 of their value: a percentile is at most 6 % above the true one.
class LatencyHistogram {
 public:
  void add(uint64_t latency_us);

  uint32_t count() const { return count_; }
  uint64_t least_us() const { return count_ ? least_us_ : 0; }
  uint64_t most_us() const { return most_us_; }

  // The upper end of the bucket below which at least `percent` of the latencies lie (never above the largest seen);
  // 0 without any.
  uint64_t percentile_us(uint32_t percent) const;

 private:
  static constexpr uint32_t kBuckets = kLatencyOctaves * kLatencySteps;

  static uint32_t bucket_of(uint64_t latency_us);
  static uint64_t last_of(uint32_t bucket);

  uint32_t count_ = 0;
  uint64_t least_us_ = UINT64_MAX;
  uint64_t most_us_ = 0;
  uint32_t buckets_[kBuckets] = {};
};

// What a classifier said: how often each class, and how sure it was. Only for outputs that are probabilities.
struct Answers {
  static constexpr uint32_t kConfidenceBins = 10;

  uint32_t class_count = 0;  // 0: the outputs are no probabilities, or too many
  uint32_t classes[kCountedClasses] = {};
  uint32_t confidence[kConfidenceBins] = {};  // probability of the class chosen, in tenths

  struct Choice {
    uint32_t label;
    int32_t of_256;  // its probability in 1/256
  };

  // Softmax and logistic outputs have scale 1/256 and zero point -128. One output is the probability of class 1.
  static bool are_probabilities(const TensorView& output);
  static Choice choose(const TensorView& output);

  void add(const TensorView& output);
  void add(const Choice& choice, uint32_t of_classes);
};

// What the network says of answers: as they were, so that two metrics records differ by kTogether of them or by none.
struct Tally {
  uint32_t inferences = 0;
  Answers answers;
  uint32_t over = 0;
};

struct Metrics {
  uint32_t inferences = 0;
  uint32_t errors = 0;      // inferences and commands that could not be done
  uint32_t bad_frames = 0;  // frames that arrived damaged
  LatencyHistogram latency;
  Answers answers;
  uint32_t over = 0;  // inferences whose score was above the model's threshold
  Tally shown;

  void show() {
    if (inferences - shown.inferences >= kTogether) shown = Tally{inferences, answers, over};
  }

  // Another model: what is said about the board stays.
  void forget_model() {
    inferences = 0;
    latency = LatencyHistogram{};
    answers = Answers{};
    over = 0;
    shown = Tally{};
  }
};

}  // namespace edgeward
