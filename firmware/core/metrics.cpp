#include "core/metrics.h"

namespace edgeward {

void LatencyHistogram::add(uint64_t latency_us) {
  ++count_;
  if (latency_us < least_us_) least_us_ = latency_us;
  if (latency_us > most_us_) most_us_ = latency_us;
  ++buckets_[bucket_of(latency_us)];
}

uint64_t LatencyHistogram::percentile_us(uint32_t percent) const {
  const uint64_t wanted = (uint64_t{count_} * percent + 99) / 100;
  uint64_t seen = 0;
  for (uint32_t bucket = 0; bucket < kBuckets && count_ > 0; ++bucket) {
    seen += buckets_[bucket];
    if (seen >= wanted) return last_of(bucket) < most_us_ ? last_of(bucket) : most_us_;
  }
  return most_us_;
}

// Up to kLatencySteps every value has its own bucket; from there each doubling is cut into kLatencySteps.
uint32_t LatencyHistogram::bucket_of(uint64_t latency_us) {
  if (latency_us < kLatencySteps) return static_cast<uint32_t>(latency_us);
  uint32_t octave = 0;
  while (latency_us >> (octave + 1) >= kLatencySteps) ++octave;
  const auto step = static_cast<uint32_t>((latency_us >> octave) - kLatencySteps);
  const uint32_t bucket = (octave + 1) * kLatencySteps + step;
  return bucket < kBuckets ? bucket : kBuckets - 1;
}

uint64_t LatencyHistogram::last_of(uint32_t bucket) {
  if (bucket < kLatencySteps) return bucket;
  if (bucket == kBuckets - 1) return UINT64_MAX;
  const uint32_t octave = bucket / kLatencySteps - 1;
  const uint64_t first = uint64_t{kLatencySteps + bucket % kLatencySteps} << octave;
  return first + (uint64_t{1} << octave) - 1;
}

bool Answers::are_probabilities(const TensorView& output) {
  return output.bytes > 0 && output.bytes <= kCountedClasses && output.zero_point == -128 && output.scale == 1.0f / 256;
}

Answers::Choice Answers::choose(const TensorView& output) {
  if (output.bytes == 1) {
    const int32_t one = output.data[0] + 128;
    return one >= 128 ? Choice{1, one} : Choice{0, 256 - one};
  }
  uint32_t best = 0;
  for (uint32_t i = 1; i < output.bytes; ++i) {
    if (output.data[i] > output.data[best]) best = i;
  }
  return Choice{best, output.data[best] + 128};
}

void Answers::add(const TensorView& output) {
  if (!are_probabilities(output)) return;
  add(choose(output), output.bytes == 1 ? 2 : output.bytes);
}

void Answers::add(const Choice& choice, uint32_t of_classes) {
  const auto bin = static_cast<uint32_t>(choice.of_256) * kConfidenceBins / 256;
  class_count = of_classes;
  ++classes[choice.label];
  ++confidence[bin < kConfidenceBins ? bin : kConfidenceBins - 1];
}

}  // namespace edgeward
