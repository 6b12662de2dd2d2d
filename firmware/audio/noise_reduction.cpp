#include "audio/noise_reduction.h"

namespace edgeward {

void NoiseReduction::reset() {
  for (uint32_t& estimate : estimates_) estimate = 0;
}

void NoiseReduction::apply(const AudioTables& tables, uint32_t* signal) {
  constexpr uint32_t kOne = 1u << kSmoothingBits;
  for (uint32_t i = 0; i < tables.channels; ++i) {
    const uint32_t share = i % 2 == 0 ? tables.even_smoothing : tables.odd_smoothing;
    const uint32_t fine = signal[i] << tables.smoothing_bits;
    const uint64_t mixed = uint64_t{fine} * share + uint64_t{estimates_[i]} * (kOne - share);
    const uint32_t estimate = static_cast<uint32_t>(mixed >> kSmoothingBits);
    estimates_[i] = estimate;
    const uint32_t least = static_cast<uint32_t>(uint64_t{signal[i]} * tables.least_signal >> kSmoothingBits);
    const uint32_t rest = (estimate < fine ? fine - estimate : 0) >> tables.smoothing_bits;
    signal[i] = rest > least ? rest : least;
  }
}

}  // namespace edgeward
