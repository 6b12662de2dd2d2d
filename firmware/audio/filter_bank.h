// Energies of a spectrum under overlapping filters: over each bin one channel falls and the next rises.
#pragma once

#include <cstdint>

#include "audio/audio_tables.h"

namespace edgeward {

// Calls take(channel, sum) with the sum of weighted energies of each channel, where energy(value) is that of a bin.
template <typename Part, typename Energy, typename Take>
void sum_channels(const AudioTables& tables, const ComplexOf<Part>* spectrum, Energy energy, Take take) {
  const ComplexOf<Part>* bin = spectrum + tables.first_bin;
  const int16_t* rising = tables.rising;
  const int16_t* falling = tables.falling;
  uint64_t risen = 0;
  for (uint32_t i = 0; i <= tables.channels; ++i) {
    uint64_t sum = risen;  // of the channel that falls here
    risen = 0;
    for (uint32_t left = tables.widths[i]; left > 0; --left, ++bin) {
      const uint64_t here = energy(*bin);
      sum += here * static_cast<uint32_t>(*falling++);
      risen += here * static_cast<uint32_t>(*rising++);
    }
    if (i > 0) take(i - 1, sum);
  }
}

// out[channel]: the root of the sum of weighted energies, nearest, `shift` bits down again.
void filter(const AudioTables& tables, const Complex* spectrum, uint32_t shift, uint32_t* out);

// The whole number nearest to the square root; below 2^32, at most 65535.
uint32_t nearest_root(uint64_t value);

}  // namespace edgeward
