// Checks of the small parts of the core that nothing outside can see. Prints what failed; exit code 0 when nothing did.
#include <cstdio>
#include <cstring>
#include <initializer_list>
#include <vector>

#include "core/crc.h"
#include "core/load_guard.h"
#include "core/metrics.h"
#include "core/pins.h"
#include "core/rules.h"
#include "core/sha256.h"
#include "core/uplink.h"

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

// Free pins by chip, from what ESP-IDF's API reference leaves once flash, PSRAM, console, USB, strapping, JTAG and sensors
// are gone.
void pins() {
  struct Free {
    const char* chip;
    uint64_t pins;
  };
  const auto bits = [](std::initializer_list<uint32_t> pins) {
    uint64_t mask = 0;
    for (const uint32_t pin : pins) mask |= uint64_t{1} << pin;
    return mask;
  };
  const Free chips[] = {
      {"esp32", bits({18, 19, 21, 22, 23, 25, 26, 27, 32, 33})},
      {"esp32s3", bits({2, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 21, 38, 47, 48})},
      {"esp32c3", bits({1, 3, 7, 10})},
      {"host", bits({0, 1, 2, 3, 4, 5, 6, 7})},
      {"another", 0},
      {"", 0},
  };
  for (const Free& chip : chips) {
    for (uint32_t pin = 0; pin < 64; ++pin) {
      check((pin_refusal(chip.chip, pin) == nullptr) == ((chip.pins >> pin & 1) != 0), "the free pins of a chip");
    }
    for (const uint32_t pin : {64u, 255u, 256u + 18, UINT32_MAX}) {
      check(pin_refusal(chip.chip, pin) != nullptr, "there is no such pin");
    }
  }
}

Refusal parsed(const char* words, Rule* rule) {
  char line[161];
  std::strcpy(line, words);
  return parse_rule(line, rule);
}

constexpr uint8_t kDigest[kRuleDigestBytes] = {1, 2, 3, 4, 5, 6, 7, 8};

void rules_as_text_and_in_flash() {
  const char* const good[] = {
      "1 0 0 1 250 record", "8 31 256 1000 86400000 hook", "2 1 204 3 5000 level 7 high 3600000", "3 1 1 2 1000 pulse 3 low 1",
      "4 1 255 1 250 pwm 33 high 3600000 8000 99", "5 1 0 1 250 pwm 0 low 1 20 1",
  };
  for (const char* const words : good) {
    Rule rule;
    check(!parsed(words, &rule), words);
    check(!check_rule(rule, RuleSubject{32, false}), words);
    char text[kRuleTextBytes];
    format_rule(rule, text);
    check(std::strcmp(text, words) == 0, "what is shown is what was given");
    uint8_t entry[kRuleEntryBytes];
    pack_rule(rule, kDigest, entry);
    RuleSet set;
    set.apply(entry, kDigest);
    check(set.count() == 1 && set.rules[rule.number - 1] == rule, "flash gives back what was written");
    // Any single bit of the entry, of its digest, and whatever a write leaves that was cut short.
    for (uint32_t bit = 0; bit < 8 * kRuleEntryBytes; ++bit) {
      uint8_t damaged[kRuleEntryBytes];
      std::memcpy(damaged, entry, sizeof damaged);
      damaged[bit / 8] = static_cast<uint8_t>(damaged[bit / 8] ^ 1u << bit % 8);
      RuleSet nothing;
      nothing.apply(damaged, kDigest);
      check(nothing.count() == 0, "a damaged entry is no rule");
    }
    for (uint32_t written = 0; written < kRuleEntryBytes; ++written) {
      uint8_t torn[kRuleEntryBytes];
      std::memset(torn, 0xFF, sizeof torn);
      std::memcpy(torn, entry, written);
      RuleSet nothing;
      nothing.apply(torn, kDigest);
      check(nothing.count() == 0, "half an entry is no rule");
    }
    constexpr uint8_t kOther[kRuleDigestBytes] = {1, 2, 3, 4, 5, 6, 7, 9};
    RuleSet other;
    other.apply(entry, kOther);
    check(other.count() == 0, "a rule is of one model");
    Rule removal;
    removal.number = rule.number;
    pack_rule(removal, kDigest, entry);
    set.apply(entry, kDigest);
    check(set.count() == 0, "a rule that was removed is gone");
  }
  const char* const bad[] = {
      "", "1", "1 0 0 1 250", "1 0 0 1 250 dance", "1 0 0 1 250 none", "1 0 0 1 250 record 1", "9 0 0 1 250 record",
      "-1 0 0 1 250 record", "1 256 0 1 250 record", "1 0 257 1 250 record", "1 0 0 1001 250 record",
      "1 0 0 1 86400001 record", "1 0 0 1 4294967546 record", "1 0 0 1 250 level", "1 0 0 1 250 level 1",
      "1 0 0 1 250 level 1 high", "1 0 0 1 250 level 1 on 5", "1 0 0 1 250 level 256 high 5",
      "1 0 0 1 250 level 1 high 3600001", "1 0 0 1 250 level 1 high 5 5", "1 0 0 1 250 pwm 1 high 5 50",
      "1 0 0 1 250 pwm 1 high 5 8001 5", "1 0 0 1 250 pwm 1 high 5 50 100", "1 0 nan 1 250 record",
      "1 0 0.5 1 250 record", "1 0 0 1 1e3 record", "1 0 0 1 250 Record",
  };
  for (const char* const words : bad) {
    Rule rule;
    check(static_cast<bool>(parsed(words, &rule)) && rule == Rule{}, words);
  }
  const char* const out_of_range[] = {
      "0 0 0 1 250 record", "1 3 0 1 250 record", "1 0 0 0 250 record", "1 0 0 1 249 record", "1 0 0 1 0 record",
      "1 0 0 1 250 level 1 high 0", "1 0 0 1 250 pulse 1 high 0", "1 0 0 1 250 pwm 1 high 5 19 5",
      "1 0 0 1 250 pwm 1 high 5 50 0",
  };
  for (const char* const words : out_of_range) {
    Rule rule;
    check(!parsed(words, &rule) && check_rule(rule, RuleSubject{3, false}), words);
  }
  Rule rule;
  check(!parsed("1 0 0 1 250 record", &rule), "a rule");
  check(std::strcmp(check_rule(rule, RuleSubject{0, false}).code, "no_classes") == 0, "a model without classes has no rules");
  check(!check_rule(rule, RuleSubject{2, true}), "a model with a threshold has");
  rule.least_of_256 = 1;
  check(static_cast<bool>(check_rule(rule, RuleSubject{2, true})), "it says nothing of how sure it is");
}

// An entry of a kind this firmware does not know takes the place of the one before it, and is no rule.
void rules_of_newer_firmware() {
  Rule rule;
  check(!parsed("1 0 0 1 250 record", &rule), "a rule");
  uint8_t entry[kRuleEntryBytes];
  RuleSet set;
  pack_rule(rule, kDigest, entry);
  set.apply(entry, kDigest);
  for (const int action : {6, 77, 127}) {
    rule.action = static_cast<RuleAction>(action);
    pack_rule(rule, kDigest, entry);
    set.apply(entry, kDigest);
    check(set.count() == 0, "an action nobody knows is no rule");
  }
}

void pins_and_timers_have_one_rule() {
  RuleSet set;
  for (uint8_t number = 1; number <= 5; ++number) {
    Rule rule;
    check(!parsed("1 0 0 1 250 pwm 1 high 5 50 50", &rule), "a rule");
    rule.number = number;
    check(!set.check_beside(rule) == (number == 1), "a pin has one rule");
    rule.pin = number;
    check(!set.check_beside(rule) == (number < 5), "there are four timers");
    if (number < 5) set.rules[number - 1] = rule;
  }
  check(!set.check_beside(set.rules[0]), "a rule may be set again");
}

constexpr uint64_t kMs = 1000;

// Every step of one rule, the times in ms.
void rules_in_time() {
  const Answers::Choice yes{1, 200}, unsure{1, 199}, no{0, 256};
  Rule level;
  check(!parsed("1 1 200 2 1000 level 1 high 500", &level), "a rule");
  RuleWatch watch;
  check(watch.judge(level, yes, 0) == RuleStep::none, "one window is not two");
  check(watch.judge(level, unsure, 1 * kMs) == RuleStep::none, "an unsure one breaks the row");
  check(watch.judge(level, yes, 2 * kMs) == RuleStep::none, "it begins again");
  check(watch.judge(level, yes, 3 * kMs) == RuleStep::begin && watch.on(), "two in a row");
  check(watch.judge(level, yes, 400 * kMs) == RuleStep::keep, "it goes on");
  check(watch.expire(level, 899 * kMs) == RuleStep::none, "its time is not over");
  check(watch.expire(level, 900 * kMs) == RuleStep::end, "it ends without a window");
  check(watch.judge(level, yes, 1899 * kMs) == RuleStep::none, "its cool-down begins at the end");
  check(watch.judge(level, yes, 1900 * kMs) == RuleStep::begin, "after it, it begins once more");
  check(watch.judge(level, kNothingSaid, 1901 * kMs) == RuleStep::end, "an inference that failed ends it");
  check(watch.judge(level, yes, 4000 * kMs) == RuleStep::none, "and breaks the row");
  check(watch.judge(level, yes, 4001 * kMs) == RuleStep::begin, "a row");
  check(watch.judge(level, yes, 4501 * kMs) == RuleStep::end, "a window that comes too late does not go on");
  check(watch.rest(level, 4502 * kMs) == RuleStep::none, "it is off already");
  Rule pulse;
  check(!parsed("2 1 200 1 1000 pulse 1 high 500", &pulse), "a rule");
  RuleWatch short_one;
  check(short_one.judge(pulse, yes, 0) == RuleStep::begin, "a pulse");
  check(short_one.judge(pulse, no, 10 * kMs) == RuleStep::none && short_one.on(), "no window ends it");
  check(short_one.judge(pulse, yes, 499 * kMs) == RuleStep::none, "and none makes it longer");
  check(short_one.until_us() == 500 * kMs, "it has an end from the beginning");
  check(short_one.rest(pulse, 499 * kMs) == RuleStep::end && !short_one.on(), "the end of a stream ends it");
  check(short_one.judge(pulse, yes, 1498 * kMs) == RuleStep::none, "the cool-down outlives a stream");
  check(short_one.judge(pulse, yes, 1499 * kMs) == RuleStep::begin, "and is over");
  Rule said;
  check(!parsed("3 1 0 3 1000 record", &said), "a rule");
  RuleWatch record;
  uint32_t times = 0;
  for (uint64_t ms = 0; ms <= 10000; ms += 10) times += record.judge(said, yes, ms * kMs) == RuleStep::begin;
  check(times == 10, "once each cool-down, after three windows");
  check(!record.on(), "a record is over at once");
  RuleWatch from_flash(said, 0);
  for (uint64_t ms = 0; ms < 1000; ms += 10) {
    check(from_flash.judge(said, yes, ms * kMs) == RuleStep::none, "a start begins with it");
  }
  check(from_flash.judge(said, yes, 1000 * kMs) == RuleStep::begin, "and then it acts");
  check(record.judge(said, kNothingSaid, 99999 * kMs) == RuleStep::none, "nothing said is no class");
}

}  // namespace

int main() {
  uplink();
  load_guard();
  percentiles();
  digests();
  pins();
  rules_as_text_and_in_flash();
  rules_of_newer_firmware();
  pins_and_timers_have_one_rule();
  rules_in_time();
  return g_failures == 0 ? 0 : 1;
}
