// The first stage of a front end: the last samples, a step apart, under a window that fades in and out.
#pragma once

#include <cstdint>

#include "audio/audio_tables.h"

namespace edgeward {

class AudioWindow {
 public:
  void reset() {
    held_ = 0;
    before_ = 0;
  }

  // Takes samples until a window is full; how many it took.
  uint32_t feed(const int16_t* samples, uint32_t count, const AudioTables& tables);
  bool full(const AudioTables& tables) const { return held_ == tables.window_samples; }

  // How many samples are left until it is.
  uint32_t due(const AudioTables& tables) const { return tables.window_samples - held_; }

  // How many bits the samples under the window can be shifted up: as many as make the loudest fill 15.
  uint32_t headroom(const AudioTables& tables) const;

  // The samples under the window, shifted up, in the order the transform wants them; zeros after them.
  void load(uint32_t shift, const AudioTables& tables, Complex* out) const;

  // For a transform in 32 bits: each sample less its share of the one before, under the window, in 1/8192.
  void load_emphasized(const AudioTables& tables, WideComplex* out) const;

  // Forgets a step's samples.
  void advance(const AudioTables& tables);

 private:
  int16_t under(uint32_t i, const AudioTables& tables) const {
    return static_cast<int16_t>(int32_t{samples_[i]} * tables.window[i] >> kWeightBits);
  }

  uint32_t held_ = 0;
  int16_t before_ = 0;  // the sample before the first that is held
  int16_t samples_[kAudioWindow] = {};
};

}  // namespace edgeward
