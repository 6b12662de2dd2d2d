#include "audio/audio_tables.h"

namespace edgeward {
namespace {

constexpr uint32_t kMagic = 0x55415745;
constexpr uint32_t kMicro = 1, kLogMel = 2;  // versions
constexpr uint32_t kIdBytes = 8;

uint32_t u32(const uint8_t* p) {
  return uint32_t{p[0]} | uint32_t{p[1]} << 8 | uint32_t{p[2]} << 16 | uint32_t{p[3]} << 24;
}

// Hands out one table after the other. Once one does not fit, none does.
class Cursor {
 public:
  Cursor(const uint8_t* at, uint32_t room) : at_(at), room_(room) {}

  template <typename T>
  const T* take(uint32_t count) {
    const uint32_t bytes = (count * static_cast<uint32_t>(sizeof(T)) + 3) / 4 * 4;
    if (bytes > room_) {
      short_ = true;
      return nullptr;
    }
    const T* const table = reinterpret_cast<const T*>(at_);
    at_ += bytes;
    room_ -= bytes;
    return table;
  }

  bool exact() const { return !short_ && room_ == 0; }

 private:
  const uint8_t* at_;
  uint32_t room_;
  bool short_ = false;
};

bool within(const int16_t* values, uint32_t count, int16_t least, int16_t most) {
  for (uint32_t i = 0; i < count; ++i) {
    if (values[i] < least || values[i] > most) return false;
  }
  return true;
}

const char* wrong_number(const AudioTables& tables) {
  if (tables.sample_rate_hz < 8000 || tables.sample_rate_hz > 48000) return "sample_rate_hz is not from 8000 to 48000";
  if (tables.window_samples < kLeastAudioWindow || tables.window_samples > kAudioWindow) {
    return "the window is not from 32 to 1024 samples";
  }
  if (tables.step_samples < 1 || tables.step_samples > tables.window_samples) return "the step is not from 1 sample to a window";
  if (tables.channels < 1 || tables.channels > kAudioChannels) return "channels are not from 1 to 64";
  if (tables.first_bin < 1 || tables.first_bin > kAudioWindow || tables.bins < 1 || tables.bins > kAudioWindow) {
    return "filters take no bin, or the constant part";
  }
  return nullptr;
}

const char* wrong_micro(const AudioTables& tables) {
  if (tables.smoothing_bits > 10) return "smoothing_bits are above 10";
  constexpr uint32_t kWhole = 1u << kSmoothingBits;
  if (tables.even_smoothing > kWhole || tables.odd_smoothing > kWhole) return "a smoothing is above 1";
  if (tables.least_signal > kWhole) return "least_signal is above 1";
  if (tables.gain_control > 1 || tables.logarithm > 1) return "gain_control and logarithm are 0 or 1";
  if (tables.ratio_shift > 31) return "gain_bits give a shift above 31";
  if (tables.log_shift > 11) return "log_shift is above 11";
  return nullptr;
}

const char* wrong_log_mel(const AudioTables& tables) {
  constexpr int32_t kMostFloor = 1 << 24;
  if (tables.preemphasis > 1u << kEmphasisBits) return "preemphasis is above 1";
  if (tables.floor < -kMostFloor || tables.floor > kMostFloor) return "no energy has the logarithm where features begin";
  if (tables.slope < 1 || tables.slope > 1u << 28) return "the range of features is below 6 decibels, or has no end";
  if (tables.toward_zero > 1) return "toward_zero is 0 or 1";
  return nullptr;
}

// Products with longer ones would grow.
bool on_circle(const Complex* turns, uint32_t count) {
  for (uint32_t i = 0; i < count; ++i) {
    if (int32_t{turns[i].real} * turns[i].real + int32_t{turns[i].imaginary} * turns[i].imaginary > 1 << 30) return false;
  }
  return true;
}

const char* wrong_table(const AudioTables& tables) {
  const bool micro = tables.kind == AudioKind::micro;
  const int16_t one = 1 << (micro ? kWeightBits : kFineBits);
  const uint32_t turns = 3 * tables.transform_samples / 4;
  if (!within(tables.window, tables.window_samples, 0, one)) return "a coefficient of the window is not from 0 to 1";
  if (!within(&tables.turns->real, 2 * turns, -32767, 32767)) return "a root of unity is -32768";
  if (!micro && !on_circle(tables.turns, turns)) return "a root of unity is longer than 1";
  uint32_t bins = 0;
  for (uint32_t i = 0; i <= tables.channels; ++i) bins += tables.widths[i];
  if (bins != tables.bins) return "the widths of the filters do not add up to their bins";
  if (tables.first_bin + bins > tables.transform_samples / 2) return "filters reach beyond the spectrum";
  if (!within(tables.rising, bins, 0, one) || !within(tables.falling, bins, 0, one)) {
    return "a filter's weight is not from 0 to 1";
  }
  return nullptr;
}

// The numbers after the tables' version, in their order; how many bytes they and what is before them have, 0 where these are cut off.
uint32_t read_numbers(const uint8_t* section, uint32_t bytes, AudioTables* tables) {
  uint32_t floor = 0;
  uint32_t* const common[] = {
      &tables->sample_rate_hz, &tables->window_samples, &tables->step_samples, &tables->channels, &tables->first_bin, &tables->bins,
  };
  uint32_t* const micro[] = {
      &tables->smoothing_bits, &tables->even_smoothing, &tables->odd_smoothing, &tables->least_signal,
      &tables->gain_control,   &tables->ratio_shift,    &tables->logarithm,     &tables->log_shift,
  };
  uint32_t* const log_mel[] = {&tables->preemphasis, &floor, &tables->slope, &tables->toward_zero};
  const bool is_micro = tables->kind == AudioKind::micro;
  const uint32_t further = is_micro ? sizeof micro / sizeof *micro : sizeof log_mel / sizeof *log_mel;
  const uint32_t head = kIdBytes + 4 * (sizeof common / sizeof *common + further);
  if (bytes < head) return 0;
  const uint8_t* at = section + kIdBytes;
  for (uint32_t* const word : common) {
    *word = u32(at);
    at += 4;
  }
  for (uint32_t i = 0; i < further; ++i) *(is_micro ? micro : log_mel)[i] = u32(at + 4 * i);
  tables->floor = static_cast<int32_t>(floor);
  return head;
}

}  // namespace

Refusal read_audio_tables(const uint8_t* section, uint32_t bytes, AudioTables* out) {
  constexpr const char* kCode = "bad_audio";
  *out = AudioTables{};
  if (bytes < kIdBytes || reinterpret_cast<uintptr_t>(section) % 4 != 0) {
    return Refusal{kCode, "the tables are cut off or not aligned"};
  }
  if (u32(section) != kMagic) return Refusal{kCode, "these are no tables of an audio front end"};
  const uint32_t version = u32(section + 4);
  if (version != kMicro && version != kLogMel) return Refusal{kCode, "the tables are of a version this firmware does not know"};
  AudioTables tables;
  tables.kind = version == kMicro ? AudioKind::micro : AudioKind::log_mel;
  const bool micro = tables.kind == AudioKind::micro;
  const uint32_t head = read_numbers(section, bytes, &tables);
  if (head == 0) return Refusal{kCode, "the tables are cut off or not aligned"};
  if (const char* const wrong = wrong_number(tables)) return Refusal{kCode, wrong};
  if (const char* const wrong = micro ? wrong_micro(tables) : wrong_log_mel(tables)) return Refusal{kCode, wrong};
  tables.transform_samples = 1u << bit_length(tables.window_samples - 1);
  tables.correction_bits = bit_length(tables.transform_samples) - 1 - static_cast<int32_t>(kWeightBits / 2);

  Cursor cursor(section + head, bytes - head);
  tables.window = cursor.take<int16_t>(tables.window_samples);
  tables.turns = cursor.take<Complex>(3 * tables.transform_samples / 4);
  tables.widths = cursor.take<uint16_t>(tables.channels + 1);
  tables.rising = cursor.take<int16_t>(tables.bins);
  tables.falling = cursor.take<int16_t>(tables.bins);
  if (tables.gain_control != 0) tables.gain = cursor.take<int16_t>(kGainValues);
  if (tables.logarithm != 0 || !micro) tables.log = cursor.take<uint16_t>(kLogValues);
  if (!cursor.exact()) return Refusal{kCode, "the tables are longer or shorter than their numbers say"};
  if (const char* const wrong = wrong_table(tables)) return Refusal{kCode, wrong};
  *out = tables;
  return Refusal{};
}

}  // namespace edgeward
