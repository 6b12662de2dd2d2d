// Samples in, windows for the model out, and its answers debounced into detections. Pure: no clock, no engine.
//
// Of a model that hears, a row of features takes the place of a sample (audio/front_end.h; core/board_stream.cpp feeds it).
// A sample is a value per channel, as counts of a converter: value = counts / counts per unit. Of it, or of its logarithm, the
// mean and deviation of the model's input profile make an input, quantized with its scale, so a board needs no host.
#pragma once

#include <cstdint>

#include "core/budget.h"
#include "core/input_profile.h"
#include "core/metrics.h"
#include "core/refusal.h"
#include "engine/engine.h"

namespace edgeward {

struct StreamSettings {
  uint32_t counts_per_unit = 1;   // 200 where 200 counts are 1 mV
  uint32_t hop = 0;               // samples from one window to the next; 0: as many as a window has
  uint32_t agree = 1;             // windows in a row that must say the same
  uint32_t least_of_256 = 0;      // and how sure each must be
  bool early = false;             // the first sample completes a window, of which the rest is 0
};

class Stream {
 public:
  // Begins again with an empty window. The profile and the input are those of the model in use; `features` of how many a row
  // consists, 0 where the model does not hear.
  Refusal start(const InputProfile& profile, const TensorView& input, const StreamSettings& settings, uint32_t features);
  void stop() { window_values_ = 0; }
  bool on() const { return window_values_ > 0; }

  // Takes one value, channel after channel; true when a window is complete.
  bool push(int16_t counts, const InputProfile& profile);

  // Likewise one feature of a row; `toward_zero` as its front end's tables say.
  bool push_feature(uint16_t feature, const InputProfile& profile, bool toward_zero);

  // The last window, oldest sample first: as many bytes as the model's input.
  void copy_window(int8_t* out) const;

  // Value i of that window.
  int8_t window_at(uint32_t i) const { return ring_[at_ + i < window_values_ ? at_ + i : at_ + i - window_values_]; }

  // Whether the answer to the last window makes a detection: `agree` windows in a row chose this class, and the last
  // detection was another.
  bool detect(const Answers::Choice& choice);

  uint32_t window_samples() const { return channels_ == 0 ? 0 : window_values_ / channels_; }
  const StreamSettings& settings() const { return settings_; }
  uint32_t samples() const { return samples_; }  // accepted since start(); wraps
  uint32_t windows() const { return windows_; }
  uint32_t agreed() const { return agreed_; }

 private:
  int8_t quantize(int16_t counts, const InputProfile& profile) const;
  int8_t scaled(float value, bool toward_zero = false) const;
  bool accept(int8_t value);

  StreamSettings settings_;
  uint32_t channels_ = 0;
  uint32_t window_values_ = 0;  // 0: off
  float scale_ = 1.0f;
  int32_t zero_point_ = 0;
  uint32_t channel_ = 0;        // of the next value
  uint32_t at_ = 0;             // where it goes in the ring
  uint32_t due_in_ = 0;         // samples until the next window is complete
  uint32_t samples_ = 0;
  uint32_t windows_ = 0;
  uint32_t agreed_ = 0;
  uint32_t candidate_ = UINT32_MAX;
  uint32_t reported_ = UINT32_MAX;
  int8_t ring_[kStreamBytes] = {};
};

}  // namespace edgeward
