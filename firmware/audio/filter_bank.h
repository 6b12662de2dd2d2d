// Energies of a spectrum under overlapping filters: over each bin one channel falls and the next rises.
#pragma once

#include <cstdint>

#include "audio/audio_tables.h"

namespace edgeward {

// out[channel]: the root of the sum of weighted energies, nearest, `shift` bits down again.
void filter(const AudioTables& tables, const Complex* spectrum, uint32_t shift, uint32_t* out);

// The whole number nearest to the square root; below 2^32, at most 65535.
uint32_t nearest_root(uint64_t value);

}  // namespace edgeward
