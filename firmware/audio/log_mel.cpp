#include "audio/log_mel.h"

#include "audio/filter_bank.h"

namespace edgeward {
namespace {

constexpr uint32_t kPowerShift = 12;
constexpr uint32_t kLogBits = 16, kSlopeBits = 12;
constexpr uint32_t kSegmentBits = kLogBits - 7;  // 128 segments
constexpr int64_t kLargest = UINT16_MAX;

uint64_t square(int32_t value) { return static_cast<uint64_t>(int64_t{value} * value); }

// A binary logarithm in 1/65536, of energies that are not 0: a straight line between powers of two, and how far it is above that.
uint32_t logarithm_of(uint64_t energy, const uint16_t* excess) {
  const uint32_t high = static_cast<uint32_t>(energy >> 32);
  const int32_t length = high != 0 ? 32 + bit_length(high) : bit_length(static_cast<uint32_t>(energy));
  const uint32_t whole = static_cast<uint32_t>(length - 1);
  const uint64_t above = energy - (uint64_t{1} << whole);
  const uint32_t part = static_cast<uint32_t>(whole < kLogBits ? above << (kLogBits - whole) : above >> (whole - kLogBits));
  const uint32_t segment = part >> kSegmentBits;
  const int32_t low = excess[segment], rise = excess[segment + 1] - low;
  const int32_t between = rise * static_cast<int32_t>(part - (segment << kSegmentBits)) >> kSegmentBits;
  return (whole << kLogBits) + part + static_cast<uint32_t>(low + between);
}

uint16_t feature_of(uint64_t energy, const AudioTables& tables) {
  constexpr uint32_t kBits = kLogBits + kSlopeBits;
  if (energy == 0) return 0;
  const int64_t above = int64_t{logarithm_of(energy, tables.log)} - tables.floor;
  const int64_t feature = (above * tables.slope + (int64_t{1} << (kBits - 1))) >> kBits;
  return static_cast<uint16_t>(feature < 0 ? 0 : feature < kLargest ? feature : kLargest);
}

}  // namespace

void log_mel(const AudioTables& tables, const WideComplex* spectrum, uint16_t* features) {
  const auto power = [](WideComplex bin) { return (square(bin.real) + square(bin.imaginary)) >> kPowerShift; };
  sum_channels(tables, spectrum, power, [&](uint32_t channel, uint64_t sum) { features[channel] = feature_of(sum, tables); });
}

}  // namespace edgeward
