// The input profile of a model.bin (model_export/input_profile.py says what it is), read in place and checked.
#pragma once

#include <cstdint>

#include "core/budget.h"
#include "core/model_header.h"

namespace edgeward {

struct InputProfile {
  uint32_t channels = 0;  // 0: the model carries no profile
  uint32_t groups = 0;    // 0: no reference distribution
  uint32_t bins = 0;
  uint32_t rows = 0;
  const uint8_t* scales = nullptr;  // float mean[channels], std[channels]; null where inputs are not standardized
  const uint8_t* ranges = nullptr;  // float least[channels], most[channels], 0 where there is no logarithm; null without any
  const uint8_t* cut_counts = nullptr;  // u16[channels]; null where inputs are not counted in cuts
  const uint8_t* cuts = nullptr;        // float of each channel, one channel after another
  const int8_t* edges = nullptr;    // [groups][bins - 1]
  const uint8_t* shares = nullptr;  // u16 [groups][bins], in 1/65535
  bool scored = false;              // the model gives back its input, and how far it is off (core/score.h) says how unusual that is
  float threshold = 0;              // a larger score is unusual

  uint32_t heads = 0;               // output layers over one body (core/heads.h); 0: a plain model

  const uint8_t* audio = nullptr;   // tables of the front end whose features are the inputs (audio/front_end.h); null: none are
  uint32_t audio_bytes = 0;
  float feature_unit = 0;           // an input is a feature times this
  uint32_t averaged = 1;            // the answer is the mean over so many windows (core/running_mean.h)

  // What is standardized of a raw value: the value, or the logarithm of the nearest one in the channel's range.
  float transformed(uint32_t channel, float raw) const;
  // -127 + how many of the channel's cuts are not above the value.
  int8_t counted(uint32_t channel, float value) const;
  float mean(uint32_t channel) const;
  float deviation(uint32_t channel) const;
  uint32_t share(uint32_t group, uint32_t bin) const;
};

// False when the section is damaged or made for something else; an absent one gives an empty profile.
bool read_input_profile(const uint8_t* model, Section section, InputProfile* out);

}  // namespace edgeward
