// Checks of the small parts of the core that nothing outside can see. Prints what failed; exit code 0 when nothing did.
#include <cstdio>
#include <cstring>
#include <initializer_list>
#include <vector>

#include "core/crc.h"
#include "core/load_guard.h"
#include "core/metrics.h"
#include "core/sha256.h"
#include "core/uplink.h"
#include "engine/direct/plan.h"
#include "engine/engine.h"

using namespace edgeward;

namespace {

uint32_t g_sent = 0, g_sent_bytes = 0;  // on the network

}  // namespace

bool hal::network_send(Topic, const uint8_t*, size_t bytes) {
  g_sent_bytes = static_cast<uint32_t>(bytes);
  return ++g_sent != 3;
}

namespace {

int g_failures = 0;

void check(bool holds, const char* what) {
  if (holds) return;
  std::printf("%s\n", what);
  ++g_failures;
}

const uint8_t* bytes(const char* text) { return reinterpret_cast<const uint8_t*>(text); }

void load_guard() {
  uint32_t words[hal::kRetainedWords];
  for (uint32_t noise : {0u, 0xFFFFFFFFu, 0xA5A5A5A5u}) {
    for (uint32_t& word : words) word = noise;
    check(!LoadGuard(words, 7).crashed_last_time(hal::ResetReason::crash), "noise in retained memory is no crash");
  }
  LoadGuard guard(words, 7);
  guard.begin();
  check(guard.crashed_last_time(hal::ResetReason::crash), "a crash while loading is remembered");
  check(guard.crashed_last_time(hal::ResetReason::watchdog), "a watchdog reset while loading is remembered");
  check(!guard.crashed_last_time(hal::ResetReason::restart), "a restart on purpose tries again");
  check(!guard.crashed_last_time(hal::ResetReason::power_on), "power-on tries again");
  check(!LoadGuard(words, 8).crashed_last_time(hal::ResetReason::crash), "another model is tried");
  guard.end();
  check(!guard.crashed_last_time(hal::ResetReason::crash), "a crash after loading is not the load's");
  LoadGuard none(nullptr, 7);
  none.begin();
  none.end();
  check(!none.crashed_last_time(hal::ResetReason::crash), "without retained memory nothing is remembered");
}

void percentiles() {
  LatencyHistogram histogram;
  check(histogram.percentile_us(50) == 0 && histogram.least_us() == 0, "an empty histogram is all zero");
  for (uint64_t us = 1; us <= 10000; ++us) histogram.add(us);
  for (const uint32_t percent : {1u, 50u, 95u, 99u, 100u}) {
    const uint64_t exact = 100 * percent;
    const uint64_t got = histogram.percentile_us(percent);
    check(got >= exact && got <= exact + exact / 15, "a percentile is exact to one sixteenth");
  }
  check(histogram.least_us() == 1 && histogram.most_us() == 10000, "least and most are exact");
  LatencyHistogram extremes;
  extremes.add(0);
  extremes.add(UINT64_MAX);
  check(extremes.percentile_us(50) == 0 && extremes.percentile_us(100) == UINT64_MAX, "the ends are not lost");
}

// Published test vectors: FIPS 180-4 examples, and the check values of the CRC catalogues.
void digests() {
  check(crc16(bytes("123456789"), 9) == 0x29B1, "CRC-16/CCITT-FALSE");
  check(crc16(bytes("6789"), 4, crc16(bytes("12345"), 5)) == 0x29B1, "CRC-16 in two parts");
  check(crc32(bytes("123456789"), 9) == 0xCBF43926, "CRC-32");
  uint8_t out[kSha256Bytes];
  sha256(bytes("abc"), 3, out);
  check(std::memcmp(out, "\xba\x78\x16\xbf\x8f\x01\xcf\xea", 8) == 0, "SHA-256 of abc");
  sha256(bytes("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"), 56, out);
  check(std::memcmp(out, "\x24\x8d\x6a\x61\xd2\x06\x38\xb8", 8) == 0, "SHA-256 of two blocks");
  sha256(nullptr, 0, out);
  check(std::memcmp(out, "\xe3\xb0\xc4\x42\x98\xfc\x1c\x14", 8) == 0, "SHA-256 of nothing");
}

// All variables of a damaged plan lie in the same place: 4 GiB of them, of which 32 bits say that there are none.
void kept_of_a_damaged_plan() {
  constexpr uint32_t kArena = 1u << 24, kVariables = 256;
  struct {
    direct::PlanHeader header;
    direct::Record records[kVariables];
  } plan{};
  direct::Record& fill = plan.records[0];
  fill.kind = direct::Kind::fill;
  fill.in = fill.out = direct::Shape{1, 1u << 12, 1u << 12};
  for (direct::Record& record : plan.records) record = fill;
  plan.header = direct::PlanHeader{direct::kPlanMagic, direct::kPlanVersionWithState, sizeof plan, kArena, 0, kVariables,
                                   sizeof(direct::PlanHeader), kVariables, {}, {}};
  std::vector<uint8_t> arena(kArena);
  const ModelView model{nullptr, 0, reinterpret_cast<const uint8_t*>(&plan), sizeof plan};
  check(static_cast<bool>(engine().load(model, arena.data(), kArena)), "a plan whose variables overlap is loaded");
  check(engine().state_bytes() == kArena, "no model keeps more than its arena, nor nothing where it keeps something");
  engine().unload();
}

void uplink() {
  constexpr uint8_t kSecret[kSecretBytes] = {};
  constexpr uint32_t kMark = 9 + 32 + 1;  // ,"mac":" and 32 digits and "}, of which one byte is }
  const auto say = [](Uplink* uplink, const char* kind, uint32_t count) {
    uplink->begin(kind);
    for (uint32_t i = 0; i < count && uplink->writing(); ++i) uplink->put('x');
    uplink->end();
  };
  Uplink uplink;
  say(&uplink, "info", 10);
  check(g_sent == 0, "nothing leaves before there is a place");
  uplink.open(kSecret);
  say(&uplink, "info", kUplinkBytes - kMark);
  check(g_sent == 1 && g_sent_bytes == kUplinkBytes && uplink.dropped() == 0, "the longest record leaves");
  for (const uint32_t count : {kUplinkBytes - kMark + 1, kUplinkBytes, kUplinkBytes + 1, 10 * kUplinkBytes}) say(&uplink, "info", count);
  check(g_sent == 1 && uplink.dropped() == 4, "longer ones are dropped and counted");
  for (const char* const kind : {"result", "samples", "detect", "fed", "recorded", "op", "bench", "keys", "network", "settings", "", "inf"}) {
    say(&uplink, kind, 10);
  }
  check(g_sent == 1 && uplink.dropped() == 4, "other kinds do not leave");
  say(&uplink, "metrics", 10);
  check(g_sent == 2 && uplink.dropped() == 4, "a record after one that was too long");
  say(&uplink, "metrics", 10);
  check(g_sent == 3 && uplink.dropped() == 5, "what the network does not take is counted");
}

}  // namespace

int main() {
  uplink();
  load_guard();
  percentiles();
  digests();
  kept_of_a_damaged_plan();
  return g_failures == 0 ? 0 : 1;
}
