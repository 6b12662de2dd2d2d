#include "audio/log_scale.h"

namespace edgeward {
namespace {

constexpr uint32_t kBits = 16, kOne = 1u << kBits;
constexpr uint32_t kSegmentBits = kBits - 7;  // 128 segments
constexpr uint32_t kLn2 = 45426;              // in 1/65536

uint32_t logarithm_of(uint32_t value, const uint16_t* excess, uint32_t shift) {
  const uint32_t whole = static_cast<uint32_t>(bit_length(value)) - 1;
  const uint32_t above = value - (1u << whole);
  const uint32_t part = whole < kBits ? above << (kBits - whole) : above >> (whole - kBits);
  const uint32_t segment = part >> kSegmentBits;
  const int32_t low = excess[segment], high = excess[segment + 1];
  const int32_t between = (high - low) * static_cast<int32_t>(part - (segment << kSegmentBits)) >> kBits;
  const uint32_t log2 = (whole << kBits) + part + static_cast<uint32_t>(low + between);
  const uint32_t natural = static_cast<uint32_t>((uint64_t{kLn2} * log2 + kOne / 2) >> kBits);
  return ((natural << shift) + kOne / 2) >> kBits;
}

}  // namespace

void scale(const AudioTables& tables, const uint32_t* signal, uint16_t* features) {
  for (uint32_t i = 0; i < tables.channels; ++i) {
    uint32_t value = signal[i];
    if (tables.logarithm != 0) {
      value = tables.correction_bits < 0 ? value >> -tables.correction_bits : value << tables.correction_bits;
      value = value > 1 ? logarithm_of(value, tables.log, tables.log_shift) : 0;
    }
    features[i] = static_cast<uint16_t>(value < UINT16_MAX ? value : UINT16_MAX);
  }
}

}  // namespace edgeward
