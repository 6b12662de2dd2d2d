#include "audio/gain_control.h"

namespace edgeward {
namespace {

constexpr uint32_t kRatioBits = 12, kOutputBits = 6;
constexpr int32_t kFractionBits = 10;

// Between two powers of two, the parabola through the gains at beginning, middle and end.
uint32_t gain_at(const int16_t* table, uint32_t noise) {
  if (noise <= 2) return static_cast<uint32_t>(table[noise]);
  const int32_t interval = bit_length(noise);
  const int32_t surplus = interval - 1 - kFractionBits;
  const uint32_t aligned = surplus < 0 ? noise << -surplus : noise >> surplus;
  const int32_t within = static_cast<int32_t>(aligned & ((1u << kFractionBits) - 1));
  const int16_t* const at = table + (4 * interval - 6);
  const int32_t slope = ((at[2] * within) >> 5) + at[1] * 32;
  const int32_t rise = (slope * within + (1 << 14)) >> 15;  // below 2^31 for whatever the table holds
  return static_cast<uint32_t>(static_cast<int16_t>(at[0] + rise));
}

// Of signal over noise: a square up to 2, a straight line after it.
uint32_t compressed(uint32_t ratio) {
  if (ratio < 2u << kRatioBits) return ratio * ratio >> (2 + 2 * kRatioBits - kOutputBits);
  return (ratio >> (kRatioBits - kOutputBits)) - (1u << kOutputBits);
}

}  // namespace

void control_gain(const AudioTables& tables, const uint32_t* noise, uint32_t* signal) {
  for (uint32_t i = 0; i < tables.channels; ++i) {
    const uint64_t product = uint64_t{signal[i]} * gain_at(tables.gain, noise[i]);
    signal[i] = compressed(static_cast<uint32_t>(product >> tables.ratio_shift));
  }
}

}  // namespace edgeward
