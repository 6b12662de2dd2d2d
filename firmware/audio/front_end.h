// Sound in, features of its spectrum out, step by step: the bits of TensorFlow's microfrontend, with which models of
// micro-wake-word hear, or logarithms of mel energies (log_mel.h). Pure: no clock, no heap, no real numbers. docs/audio.md says
// what each stage computes.
#pragma once

#include <cstdint>

#include "audio/audio_tables.h"
#include "audio/noise_reduction.h"
#include "audio/window.h"

namespace edgeward {

class AudioFrontEnd {
 public:
  // Begins in silence. `section` (model_export/audio/tables.py) is aligned to 4 and stays where it is.
  Refusal start(const uint8_t* section, uint32_t bytes);
  void stop() { tables_ = AudioTables{}; }
  bool on() const { return tables_.channels > 0; }

  // Forgets samples and noise.
  void reset();

  // Takes samples until a step is complete, else all; how many it took. Zero only of none, or when it is off.
  uint32_t feed(const int16_t* samples, uint32_t count);

  // Samples until a step is complete; feed() then computes it.
  uint32_t due() const { return window_.due(tables_); }

  // Whether the last feed() completed a step. Its features, one a channel, stay until the next call.
  bool complete() const { return complete_; }
  const uint16_t* features() const { return features_; }

  const AudioTables& tables() const { return tables_; }

 private:
  void hear_micro();
  void hear_log_mel();

  AudioTables tables_;
  AudioWindow window_;
  NoiseReduction noise_;
  union {
    Complex narrow[kAudioWindow / 2];
    WideComplex wide[kAudioWindow / 2];
  } spectrum_ = {};
  uint32_t channels_[kAudioChannels] = {};
  uint16_t features_[kAudioChannels] = {};
  bool complete_ = false;
};

// All the memory it uses beside the tables, which stay in flash, and less than 200 bytes of stack.
constexpr uint32_t kAudioFrontEndBytes = 2 * kAudioWindow + 4 * kAudioWindow + (4 + 4 + 2) * kAudioChannels + 192;
static_assert(sizeof(AudioFrontEnd) <= kAudioFrontEndBytes, "the budget of the audio front end");

}  // namespace edgeward
