#include "core/kept_stream.h"

#include <cstddef>
#include <cstring>

#include "core/crc.h"

namespace edgeward {
namespace {

constexpr uint32_t kMagic = 0x53535745;  // "EWSS"
constexpr uint32_t kCountBits = 20;

struct Entry {
  uint32_t magic;
  uint32_t counts;  // per unit; least_of_256
  uint32_t hop;     // and agree
  uint32_t rate_hz;
  char source[kSourceNameBytes];
  uint8_t digest[kRuleDigestBytes];
  uint32_t crc;     // CRC-32 of what is before it
};
static_assert(sizeof(Entry) == kRuleEntryBytes, "as long as every other entry of the log");
static_assert(kMostCounts < 1u << kCountBits && kMostHop < 1u << kCountBits, "they fit into the entry");

// As `stream` takes it.
bool is_possible(const KeptStream& stream) {
  const StreamSettings& settings = stream.settings;
  if (stream.rate_hz > kMostSoundHz || settings.counts_per_unit < 1 || settings.counts_per_unit > kMostCounts) return false;
  if (settings.hop > kMostHop || settings.agree < 1 || settings.agree > kMostStreamAgree || settings.least_of_256 > 256) return false;
  for (const char* letter = stream.source; *letter != 0; ++letter) {
    if (*letter < 'a' || *letter > 'z') return false;
  }
  return true;
}

uint32_t crc_of(const Entry& entry) { return crc32(reinterpret_cast<const uint8_t*>(&entry), offsetof(Entry, crc)); }

}  // namespace

void KeptStream::apply(const uint8_t bytes[kRuleEntryBytes], const uint8_t digest[kRuleDigestBytes]) {
  constexpr uint32_t kMask = (1u << kCountBits) - 1;
  Entry entry;
  std::memcpy(&entry, bytes, sizeof entry);
  if (entry.magic != kMagic || entry.crc != crc_of(entry)) return;
  if (std::memcmp(entry.digest, digest, sizeof entry.digest) != 0) return;
  KeptStream read;
  read.rate_hz = entry.rate_hz;
  std::memcpy(read.source, entry.source, sizeof entry.source);
  read.settings.counts_per_unit = entry.counts & kMask;
  read.settings.least_of_256 = entry.counts >> kCountBits;
  read.settings.hop = entry.hop & kMask;
  read.settings.agree = entry.hop >> kCountBits;
  if (read.on() && !is_possible(read)) return;
  *this = read;
}

void pack_stream(const KeptStream& stream, const uint8_t digest[kRuleDigestBytes], uint8_t out[kRuleEntryBytes]) {
  Entry entry = {};
  entry.magic = kMagic;
  entry.counts = stream.settings.counts_per_unit | stream.settings.least_of_256 << kCountBits;
  entry.hop = stream.settings.hop | stream.settings.agree << kCountBits;
  entry.rate_hz = stream.rate_hz;
  std::memcpy(entry.source, stream.source, sizeof entry.source);
  std::memcpy(entry.digest, digest, sizeof entry.digest);
  entry.crc = crc_of(entry);
  std::memcpy(out, &entry, sizeof entry);
}

}  // namespace edgeward
