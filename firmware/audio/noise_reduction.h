// A slow estimate of the noise in each channel, and the signal less that. Channels take turns in how slow: even and odd differ.
#pragma once

#include <cstdint>

#include "audio/audio_tables.h"

namespace edgeward {

class NoiseReduction {
 public:
  void reset();

  // Brings the estimates up to date and subtracts them; `least_signal` of a channel stays at least.
  void apply(const AudioTables& tables, uint32_t* signal);

  // Each with `smoothing_bits` binary places more than the signal.
  const uint32_t* estimates() const { return estimates_; }

 private:
  uint32_t estimates_[kAudioChannels] = {};
};

}  // namespace edgeward
