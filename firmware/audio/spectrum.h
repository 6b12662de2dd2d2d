// The spectrum of real samples, in place: half as many complex values, transformed in stages of radix 4, the innermost of radix 2
// where their number is no power of 4. Each stage divides by its radix before it adds. In 16 bits it rounds where KISS FFT does,
// so that the bits are those of TensorFlow's microfrontend. model_export/audio/spectrum.py is the same in numpy.
#pragma once

#include <cstdint>

#include "audio/audio_tables.h"

namespace edgeward {

// Where the value after the one at `place` belongs before the transform: its index with the digits read backwards.
inline uint32_t next_place(uint32_t place, uint32_t count) {
  uint32_t left = count, weight = count;
  while (left > 1) {
    const uint32_t radix = left % 4 == 0 ? 4 : 2;
    weight /= radix;
    if (place / weight % radix != radix - 1) return place + weight;
    place -= (radix - 1) * weight;  // carries
    left /= radix;
  }
  return place;
}

// `values` (transform_samples / 2, from AudioWindow::load) become the spectrum, over transform_samples; bin 0 is not computed.
void spectrum(const AudioTables& tables, Complex* values);

// Of parts below 2^29.5 (AudioWindow::load_emphasized), which then stay below.
void spectrum(const AudioTables& tables, WideComplex* values);

}  // namespace edgeward
