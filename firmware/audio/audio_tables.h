// What an audio front end computes: its parameters and tables, read in place from the bytes that model_export/audio/tables.py or
// log_mel.py writes, and checked, so that nothing overflows afterwards. No stage needs a real number.
#pragma once

#include <cstdint>

#include "core/refusal.h"

namespace edgeward {

constexpr uint32_t kLeastAudioWindow = 32, kAudioWindow = 1024;  // samples; 1024 are 64 ms at 16 kHz
constexpr uint32_t kAudioChannels = 64;
constexpr uint32_t kGainValues = 125, kLogValues = 129;
constexpr uint32_t kSmoothingBits = 14, kWeightBits = 12;
constexpr uint32_t kFineBits = 14, kEmphasisBits = 10;  // of log_mel: of window and filters, and of the sample before

template <typename Part>
struct ComplexOf {
  Part real, imaginary;
};
using Complex = ComplexOf<int16_t>;
using WideComplex = ComplexOf<int32_t>;

enum class AudioKind : uint8_t { micro, log_mel };

struct AudioTables {
  AudioKind kind = AudioKind::micro;
  uint32_t sample_rate_hz = 0;
  uint32_t window_samples = 0;
  uint32_t step_samples = 0;
  uint32_t channels = 0;
  uint32_t first_bin = 0;  // of the spectrum that filters take
  uint32_t bins = 0;
  // Of micro:
  uint32_t smoothing_bits = 0;
  uint32_t even_smoothing = 0, odd_smoothing = 0, least_signal = 0;  // in 1/16384
  uint32_t gain_control = 0;
  uint32_t ratio_shift = 0;
  uint32_t logarithm = 0;
  uint32_t log_shift = 0;
  // Of log_mel:
  uint32_t preemphasis = 0;    // of the sample before, in 1/1024
  int32_t floor = 0;           // the binary logarithm of the energy of which the feature is 0, in 1/65536
  uint32_t slope = 0;          // of a feature over that logarithm, in 1/4096
  uint32_t toward_zero = 0;    // how an input is quantized: cut off, where others take the nearest
  // Of both:
  uint32_t transform_samples = 0;  // the least power of two that holds a window
  int32_t correction_bits = 0;     // binary places that a channel has lost against the window
  const int16_t* window = nullptr;
  const Complex* turns = nullptr;  // 3/4 of the roots of unity of transform_samples
  const uint16_t* widths = nullptr;
  const int16_t* rising = nullptr;
  const int16_t* falling = nullptr;
  const int16_t* gain = nullptr;
  const uint16_t* log = nullptr;
};

// `section` is aligned to 4 and stays where it is. A refusal names what is wrong, and leaves `out` empty.
Refusal read_audio_tables(const uint8_t* section, uint32_t bytes, AudioTables* out);

// The place of the highest bit that is set, from 1; 0 of 0.
inline int32_t bit_length(uint32_t value) { return value == 0 ? 0 : 32 - __builtin_clz(value); }

}  // namespace edgeward
