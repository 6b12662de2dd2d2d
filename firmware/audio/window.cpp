#include "audio/window.h"

#include <cstring>

#include "audio/spectrum.h"

namespace edgeward {

uint32_t AudioWindow::feed(const int16_t* samples, uint32_t count, const AudioTables& tables) {
  const uint32_t room = tables.window_samples - held_;
  const uint32_t accepted = count < room ? count : room;
  if (accepted > 0) std::memcpy(samples_ + held_, samples, accepted * sizeof *samples);
  held_ += accepted;
  return accepted;
}

uint32_t AudioWindow::headroom(const AudioTables& tables) const {
  int32_t loudest = 0;
  for (uint32_t i = 0; i < tables.window_samples; ++i) {
    const int32_t value = under(i, tables);
    const int32_t size = value < 0 ? -value : value;
    if (size > loudest && size <= INT16_MAX) loudest = size;  // -32768 has no size in int16, and does not count
  }
  return static_cast<uint32_t>(15 - bit_length(static_cast<uint32_t>(loudest)));
}

void AudioWindow::load(uint32_t shift, const AudioTables& tables, Complex* out) const {
  const uint32_t values = tables.transform_samples / 2;
  const auto shifted = [&](uint32_t i) {
    if (i >= tables.window_samples) return int16_t{0};
    return static_cast<int16_t>(static_cast<uint32_t>(static_cast<uint16_t>(under(i, tables))) << shift);
  };
  uint32_t place = 0;
  for (uint32_t i = 0; i < values; ++i) {
    out[place] = Complex{shifted(2 * i), shifted(2 * i + 1)};
    place = next_place(place, values);
  }
}

void AudioWindow::load_emphasized(const AudioTables& tables, WideComplex* out) const {
  constexpr uint32_t kShift = kEmphasisBits + kFineBits - 13;
  const uint32_t values = tables.transform_samples / 2;
  int32_t before = before_;
  const auto heard = [&](uint32_t i) {
    if (i >= tables.window_samples) return int32_t{0};
    const int32_t emphasized = samples_[i] * (1 << kEmphasisBits) - static_cast<int32_t>(tables.preemphasis) * before;
    before = samples_[i];
    return static_cast<int32_t>((int64_t{emphasized} * tables.window[i] + (1 << (kShift - 1))) >> kShift);
  };
  uint32_t place = 0;
  for (uint32_t i = 0; i < values; ++i) {
    out[place].real = heard(2 * i);
    out[place].imaginary = heard(2 * i + 1);
    place = next_place(place, values);
  }
}

void AudioWindow::advance(const AudioTables& tables) {
  before_ = samples_[tables.step_samples - 1];
  held_ -= tables.step_samples;
  std::memmove(samples_, samples_ + tables.step_samples, held_ * sizeof *samples_);
}

}  // namespace edgeward
