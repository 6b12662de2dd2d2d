// A stream that begins with its model, as `stream keep` leaves it in the log of the model's slot (core/slots.h), beside the rules
// that act on its windows. Pure.
#pragma once

#include <cstdint>

#include "core/rules.h"
#include "core/stream.h"

namespace edgeward {

constexpr uint32_t kSourceNameBytes = 4;
constexpr uint32_t kMostCounts = 1000000, kMostHop = 1000000, kMostStreamAgree = 1000, kMostSoundHz = 48000;

struct KeptStream {
  char source[kSourceNameBytes + 1] = {};
  uint32_t rate_hz = 0;  // 0: none is kept
  StreamSettings settings;

  bool on() const { return rate_hz > 0; }

  // One entry of a log: those about another model, of another kind and that cannot be read change nothing.
  void apply(const uint8_t entry[kRuleEntryBytes], const uint8_t digest[kRuleDigestBytes]);
};

// An entry that keeps a stream; one that is not on forgets.
void pack_stream(const KeptStream& stream, const uint8_t digest[kRuleDigestBytes], uint8_t out[kRuleEntryBytes]);

}  // namespace edgeward
