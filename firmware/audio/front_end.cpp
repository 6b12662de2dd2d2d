#include "audio/front_end.h"

#include "audio/filter_bank.h"
#include "audio/gain_control.h"
#include "audio/log_mel.h"
#include "audio/log_scale.h"
#include "audio/spectrum.h"

namespace edgeward {

Refusal AudioFrontEnd::start(const uint8_t* section, uint32_t bytes) {
  const Refusal refusal = read_audio_tables(section, bytes, &tables_);
  reset();
  return refusal;
}

void AudioFrontEnd::reset() {
  window_.reset();
  noise_.reset();
  complete_ = false;
}

uint32_t AudioFrontEnd::feed(const int16_t* samples, uint32_t count) {
  complete_ = false;
  if (!on()) return 0;
  const uint32_t accepted = window_.feed(samples, count, tables_);
  if (!window_.full(tables_)) return accepted;
  tables_.kind == AudioKind::micro ? hear_micro() : hear_log_mel();
  complete_ = true;
  return accepted;
}

void AudioFrontEnd::hear_micro() {
  const uint32_t shift = window_.headroom(tables_);
  window_.load(shift, tables_, spectrum_.narrow);
  window_.advance(tables_);
  spectrum(tables_, spectrum_.narrow);
  filter(tables_, spectrum_.narrow, shift, channels_);
  noise_.apply(tables_, channels_);
  if (tables_.gain_control != 0) control_gain(tables_, noise_.estimates(), channels_);
  scale(tables_, channels_, features_);
}

void AudioFrontEnd::hear_log_mel() {
  window_.load_emphasized(tables_, spectrum_.wide);
  window_.advance(tables_);
  spectrum(tables_, spectrum_.wide);
  log_mel(tables_, spectrum_.wide, features_);
}

}  // namespace edgeward
