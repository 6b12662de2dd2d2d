#include "core/stream.h"

#include <cmath>
#include <cstring>

namespace edgeward {

Refusal Stream::start(const InputProfile& profile, const TensorView& input, const StreamSettings& settings, uint32_t features) {
  stop();
  if (profile.channels == 0) return Refusal{"no_profile", "the model does not say how samples become its inputs"};
  if (input.bytes > kStreamBytes) return Refusal{"window_too_large", "the window buffer is smaller than the input"};
  const uint32_t channels = features > 0 ? features : profile.channels;
  if (input.bytes % channels != 0) return Refusal{"bad_input_profile", "its channels do not divide the input"};
  if (settings.counts_per_unit == 0 || settings.agree == 0) {
    return Refusal{"bad_argument", "counts per unit and windows that agree are 1 or more"};
  }
  *this = Stream{};
  settings_ = settings;
  channels_ = channels;
  window_values_ = input.bytes;
  scale_ = input.scale;
  zero_point_ = input.zero_point;
  if (settings_.hop == 0) settings_.hop = window_samples();
  due_in_ = settings_.early ? 1 : window_samples();
  return Refusal{};
}

bool Stream::push(int16_t counts, const InputProfile& profile) {
  return on() && accept(quantize(counts, profile));
}

bool Stream::push_feature(uint16_t feature, const InputProfile& profile, bool toward_zero) {
  return on() && accept(scaled(static_cast<float>(feature) * profile.feature_unit, toward_zero));
}

bool Stream::accept(int8_t value) {
  ring_[at_] = value;
  if (++at_ == window_values_) at_ = 0;
  if (++channel_ < channels_) return false;
  channel_ = 0;
  ++samples_;
  if (--due_in_ > 0) return false;
  due_in_ = settings_.hop;
  ++windows_;
  return true;
}

// As model_export.tflm.Quantized.quantize: float32, halves to even, saturated.
int8_t Stream::quantize(int16_t counts, const InputProfile& profile) const {
  const float value = static_cast<float>(counts) / static_cast<float>(settings_.counts_per_unit);
  if (profile.cut_counts != nullptr) return profile.counted(channel_, profile.transformed(channel_, value));
  return scaled((profile.transformed(channel_, value) - profile.mean(channel_)) / profile.deviation(channel_));
}

int8_t Stream::scaled(float value, bool toward_zero) const {
  const float steps = value / scale_, zero = static_cast<float>(zero_point_);
  const float q = toward_zero ? steps + zero : std::nearbyint(steps) + zero;  // what becomes of it cuts off
  return static_cast<int8_t>(q >= 127.0f ? 127.0f : q > -128.0f ? q : -128.0f);
}

void Stream::copy_window(int8_t* out) const {
  std::memcpy(out, ring_ + at_, window_values_ - at_);
  std::memcpy(out + window_values_ - at_, ring_, at_);
}

bool Stream::detect(const Answers::Choice& choice) {
  const uint32_t label = choice.of_256 >= static_cast<int32_t>(settings_.least_of_256) ? choice.label : UINT32_MAX;
  agreed_ = label == candidate_ ? agreed_ + 1 : 1;
  candidate_ = label;
  if (label == UINT32_MAX || label == reported_ || agreed_ < settings_.agree) return false;
  reported_ = label;
  return true;
}

}  // namespace edgeward
