// Gain of each channel: the louder its noise, the smaller, as in PCEN (Wang et al., arXiv 1607.05666); then compressed.
#pragma once

#include <cstdint>

#include "audio/audio_tables.h"

namespace edgeward {

// `noise` as NoiseReduction::estimates().
void control_gain(const AudioTables& tables, const uint32_t* noise, uint32_t* signal);

}  // namespace edgeward
