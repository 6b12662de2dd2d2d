#include "core/input_profile.h"

#include <cstring>

#include "core/little_endian.h"
#include "core/logarithm.h"

namespace edgeward {
namespace {

constexpr uint32_t kHeadBytes = 24;
constexpr uint32_t kMaxChannels = 1u << 20;
constexpr uint32_t kPlain = 1, kLogarithms = 2;  // versions
constexpr uint32_t kScored = 0x100, kCut = 0x200, kHeads = 0x400, kHears = 0x800;  // added to either
constexpr uint32_t kMostCuts = 254;
constexpr uint32_t kHearingBytes = 12;
constexpr float kLeast = 1e-37f;                 // above the least normal number, 2^-126

float real(const uint8_t* p) {
  const uint32_t bits = u32(p);
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

bool finite(const uint8_t* p) { return (u32(p) >> 23 & 0xFF) != 0xFF; }

// Each channel has a range, or two zeros.
bool ranges_fit(const uint8_t* ranges, uint32_t channels) {
  for (uint32_t i = 0; i < channels; ++i) {
    const uint8_t *const least = ranges + 4 * i, *const most = ranges + 4 * (channels + i);
    if (!finite(least) || !finite(most)) return false;
    if (u32(least) == 0 && u32(most) == 0) continue;
    if (!(real(least) >= kLeast && real(least) <= real(most))) return false;
  }
  return true;
}

// How many bytes the cuts have, 0 where they are not whole: at most `room`, finite, and ascending in each channel.
uint32_t cut_bytes(const uint8_t* at, uint32_t room, uint32_t channels) {
  const uint32_t counts_bytes = (2 * channels + 3) / 4 * 4;
  if (room < counts_bytes) return 0;
  for (uint32_t i = 2 * channels; i < counts_bytes; ++i) {
    if (at[i] != 0) return 0;
  }
  uint32_t bytes = counts_bytes;
  for (uint32_t channel = 0; channel < channels; ++channel) {
    const uint32_t count = u16(at + 2 * channel);
    if (count > kMostCuts || room - bytes < 4 * count) return 0;
    for (uint32_t i = 0; i < count; ++i) {
      const uint8_t* const cut = at + bytes + 4 * i;
      if (!finite(cut) || (i > 0 && !(real(cut) > real(cut - 4)))) return 0;
    }
    bytes += 4 * count;
  }
  return bytes;
}

// How many bytes tell of sound, and of what they tell; 0 where they are not whole. The tables are judged where a model is loaded.
uint32_t hearing_bytes(const uint8_t* at, uint32_t room, InputProfile* profile) {
  if (room < kHearingBytes) return 0;
  profile->averaged = u32(at);
  profile->audio_bytes = u32(at + 8);
  if (profile->averaged < 1 || profile->averaged > kMostAveraged) return 0;
  if (!finite(at + 4) || !(real(at + 4) >= 1e-30f && real(at + 4) <= 1e30f)) return 0;
  if (profile->audio_bytes % 4 != 0 || profile->audio_bytes > room - kHearingBytes) return 0;
  profile->feature_unit = real(at + 4);
  profile->audio = at + kHearingBytes;
  return kHearingBytes + profile->audio_bytes;
}

}  // namespace

int8_t InputProfile::counted(uint32_t channel, float value) const {
  const uint8_t* cut = cuts;
  for (uint32_t i = 0; i < channel; ++i) cut += 4 * u16(cut_counts + 2 * i);
  const uint32_t count = u16(cut_counts + 2 * channel);
  uint32_t below = 0;
  while (below < count && real(cut + 4 * below) <= value) ++below;
  return static_cast<int8_t>(static_cast<int32_t>(below) - 127);
}

float InputProfile::transformed(uint32_t channel, float raw) const {
  if (ranges == nullptr || u32(ranges + 4 * channel) == 0) return raw;
  const float least = real(ranges + 4 * channel), most = real(ranges + 4 * (channels + channel));
  return logarithm(raw > least ? (raw < most ? raw : most) : least);
}

float InputProfile::mean(uint32_t channel) const { return scales == nullptr ? 0.0f : real(scales + 4 * channel); }

float InputProfile::deviation(uint32_t channel) const {
  return scales == nullptr ? 1.0f : real(scales + 4 * (channels + channel));
}

uint32_t InputProfile::share(uint32_t group, uint32_t bin) const {
  const uint8_t* const p = shares + 2 * (group * bins + bin);
  return uint32_t{p[0]} | uint32_t{p[1]} << 8;
}

bool read_input_profile(const uint8_t* model, Section section, InputProfile* out) {
  *out = InputProfile{};
  if (section.bytes == 0) return true;
  if (section.bytes < kHeadBytes) return false;
  const uint8_t* const head = model + section.offset;
  InputProfile profile;
  profile.channels = u32(head + 4);
  const uint32_t version = u32(head) & ~(kScored | kCut | kHeads | kHears), standardized = u32(head + 8);
  profile.scored = (u32(head) & kScored) != 0;
  profile.groups = u32(head + 12);
  profile.bins = u32(head + 16);
  profile.rows = u32(head + 20);
  if ((version != kPlain && version != kLogarithms) || standardized > 1 || profile.channels < 1 || profile.channels > kMaxChannels) return false;
  if (profile.groups > kDriftGroups || profile.bins < 1 || profile.bins > kDriftBins) return false;
  const uint32_t scale_bytes = 8 * profile.channels * standardized;
  const uint32_t range_bytes = version == kLogarithms ? 8 * profile.channels : 0;
  const uint32_t edge_bytes = profile.groups * (profile.bins - 1);
  const uint32_t score_at = kHeadBytes + scale_bytes + range_bytes;
  const uint32_t cuts_at = score_at + (profile.scored ? 4 : 0);
  if (cuts_at > section.bytes) return false;
  const bool cut = (u32(head) & kCut) != 0;
  const uint32_t cuts_bytes = cut ? cut_bytes(head + cuts_at, section.bytes - cuts_at, profile.channels) : 0;
  if (cut && cuts_bytes == 0) return false;
  const uint32_t heads_at = cuts_at + cuts_bytes;
  const uint32_t hearing_at = heads_at + ((u32(head) & kHeads) != 0 ? 4 : 0);
  if (hearing_at > section.bytes) return false;
  const bool hears = (u32(head) & kHears) != 0;
  if (hears && (version != kPlain || standardized != 0 || profile.scored || cut || hearing_at > heads_at)) return false;
  const uint32_t hearing = hears ? hearing_bytes(head + hearing_at, section.bytes - hearing_at, &profile) : 0;
  if (hears && hearing == 0) return false;
  const uint32_t edges_at = hearing_at + hearing;
  const uint32_t shares_at = edges_at + (edge_bytes + 3) / 4 * 4;
  if (section.bytes != shares_at + 2 * profile.groups * profile.bins) return false;
  if (standardized != 0) profile.scales = head + kHeadBytes;
  if (range_bytes != 0) profile.ranges = head + kHeadBytes + scale_bytes;
  if (profile.scored) {
    if (!finite(head + score_at) || !(real(head + score_at) >= 0)) return false;
    profile.threshold = real(head + score_at);
  }
  if (cut) {
    profile.cut_counts = head + cuts_at;
    profile.cuts = head + cuts_at + (2 * profile.channels + 3) / 4 * 4;
  }
  if (hearing_at > heads_at) {
    profile.heads = u32(head + heads_at);
    if (profile.heads < 2 || profile.heads > kMaxHeads) return false;
  }
  profile.edges = reinterpret_cast<const int8_t*>(head + edges_at);
  profile.shares = head + shares_at;
  for (uint32_t i = 0; i < 2 * profile.channels * standardized; ++i) {
    const uint8_t* const value = profile.scales + 4 * i;
    if (!finite(value) || (i >= profile.channels && !(real(value) > 0.0f))) return false;
  }
  if (profile.ranges != nullptr && !ranges_fit(profile.ranges, profile.channels)) return false;
  for (uint32_t group = 0; group < profile.groups; ++group) {
    const int8_t* const edges = profile.edges + group * (profile.bins - 1);
    for (uint32_t k = 1; k + 1 < profile.bins; ++k) {
      if (edges[k] < edges[k - 1]) return false;
    }
  }
  *out = profile;
  return true;
}

}  // namespace edgeward
