// Counters and the latency histogram of one boot.
#pragma once

#include <cstdint>

#include "core/budget.h"

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

struct Metrics {
  uint32_t inferences = 0;
  uint32_t errors = 0;      // inferences and commands that could not be done
  uint32_t bad_frames = 0;  // frames that arrived damaged
  LatencyHistogram latency;

  // Another model: what is said about the board stays.
  void forget_model() {
    inferences = 0;
    latency = LatencyHistogram{};
  }
};

}  // namespace edgeward
