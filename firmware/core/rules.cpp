#include "core/rules.h"

#include <cstddef>
#include <cstring>

#include "core/crc.h"
#include "core/text.h"

namespace edgeward {
namespace {

constexpr uint32_t kMagic = 0x4C525745;  // "EWRL"
constexpr uint32_t kAgreeBits = 10, kLeastBits = 9;
constexpr uint32_t kHoldBits = 22;
constexpr uint8_t kActiveLow = 0x80;

struct Entry {
  uint32_t magic;
  uint8_t number;
  uint8_t action;  // and kActiveLow
  uint8_t label;
  uint8_t pin;
  uint32_t row;    // agree, least_of_256, hz
  uint32_t cool_ms;
  uint32_t hold;   // hold_ms, duty_percent
  uint8_t digest[kRuleDigestBytes];
  uint32_t crc;    // CRC-32 of what is before it
};
static_assert(sizeof(Entry) == kRuleEntryBytes, "as long as every other entry of the log");
static_assert(kMostAgree < 1u << kAgreeBits && kMostPwmHz < 1u << (32 - kAgreeBits - kLeastBits), "they fit into the entry");
static_assert(kMostHoldMs < 1u << kHoldBits, "it fits into the entry");

uint32_t crc_of(const Entry& entry) { return crc32(reinterpret_cast<const uint8_t*>(&entry), offsetof(Entry, crc)); }

constexpr const char* kActions[] = {"none", "record", "hook", "level", "pulse", "pwm"};
constexpr uint32_t kActionCount = sizeof kActions / sizeof *kActions;

RuleAction action_of(const char* word) {
  for (uint32_t i = 1; i < kActionCount; ++i) {
    if (std::strcmp(word, kActions[i]) == 0) return static_cast<RuleAction>(i);
  }
  return RuleAction::none;
}

// Words that follow an action: its pin, high or low, its time, and of PWM frequency and share.
uint32_t words_of(RuleAction action) {
  return action == RuleAction::pwm ? 5 : action == RuleAction::level || action == RuleAction::pulse ? 3 : 0;
}

constexpr char kUsage[] =
    "rule set NUMBER LABEL LEAST_OF_256 AGREE COOL_MS, then record, hook, level PIN high|low HOLD_MS, pulse PIN high|low MS, "
    "or pwm PIN high|low HOLD_MS HZ PERCENT";

// A number into a field of any width; false where it is not one, or above `most`.
template <typename Field>
bool read(const char* word, uint32_t most, Field* out) {
  uint32_t value = 0;
  if (word == nullptr || !parse_count(word, most, &value)) return false;
  *out = static_cast<Field>(value);
  return true;
}

}  // namespace

const char* to_string(RuleAction action) {
  const auto i = static_cast<uint32_t>(action);
  return kActions[i < kActionCount ? i : 0];
}

bool operator==(const Rule& a, const Rule& b) {
  return a.number == b.number && a.action == b.action && a.label == b.label && a.pin == b.pin && a.active_low == b.active_low &&
         a.duty_percent == b.duty_percent && a.agree == b.agree && a.least_of_256 == b.least_of_256 && a.hz == b.hz &&
         a.cool_ms == b.cool_ms && a.hold_ms == b.hold_ms;
}

Refusal parse_rule(char* words, Rule* out) {
  constexpr uint32_t kWords = 6;
  const char* head[kWords] = {};
  const char* more[5] = {};
  uint32_t count = 0, extra = 0;
  while (count < kWords && (head[count] = next_word(&words)) != nullptr) ++count;
  Rule rule;
  if (count == kWords) rule.action = action_of(head[5]);
  if (rule.action != RuleAction::none) {
    while (extra < words_of(rule.action) && (more[extra] = next_word(&words)) != nullptr) ++extra;
  }
  bool whole = rule.action != RuleAction::none && extra == words_of(rule.action) && next_word(&words) == nullptr &&
               read(head[0], kMaxRules, &rule.number) && read(head[1], UINT8_MAX, &rule.label) &&
               read(head[2], 256, &rule.least_of_256) && read(head[3], kMostAgree, &rule.agree) &&
               read(head[4], kMostCoolMs, &rule.cool_ms);
  if (whole && rule.has_pin()) {
    rule.active_low = std::strcmp(more[1], "low") == 0;
    whole = (rule.active_low || std::strcmp(more[1], "high") == 0) && read(more[0], UINT8_MAX, &rule.pin) &&
            read(more[2], kMostHoldMs, &rule.hold_ms);
  }
  if (whole && rule.action == RuleAction::pwm) {
    whole = read(more[3], kMostPwmHz, &rule.hz) && read(more[4], 99, &rule.duty_percent);
  }
  if (!whole) return Refusal{"bad_argument", kUsage};
  *out = rule;
  return Refusal{};
}

void format_rule(const Rule& rule, char out[kRuleTextBytes]) {
  char* at = out;
  const auto word = [&at, out](const char* text) {
    if (at != out) *at++ = ' ';
    while (*text != 0) *at++ = *text++;
  };
  const auto number = [&word](uint32_t value) {
    char digits[11] = {};
    uint32_t first = sizeof digits - 1;
    do {
      digits[--first] = static_cast<char>('0' + value % 10);
      value /= 10;
    } while (value > 0);
    word(digits + first);
  };
  const uint32_t head[] = {rule.number, rule.label, rule.least_of_256, rule.agree, rule.cool_ms};
  for (const uint32_t value : head) number(value);
  word(to_string(rule.action));
  if (rule.has_pin()) {
    number(rule.pin);
    word(rule.active_low ? "low" : "high");
    number(rule.hold_ms);
  }
  if (rule.action == RuleAction::pwm) {
    number(rule.hz);
    number(rule.duty_percent);
  }
  *at = 0;
}

Refusal check_rule(const Rule& rule, const RuleSubject& subject) {
  if (subject.classes == 0) {
    return Refusal{"no_classes", "rules are about classes, and this model gives neither probabilities of them nor a score"};
  }
  if (rule.label >= subject.classes) return Refusal{"bad_rule", "the model has no such class"};
  if (rule.least_of_256 > 256) return Refusal{"bad_rule", "the least probability is 0 to 256, in 1/256"};
  if (subject.scored && rule.least_of_256 > 0) {
    return Refusal{"bad_rule", "a model with a threshold does not say how sure it is: the least probability is 0"};
  }
  if (rule.number < 1 || rule.number > kMaxRules) return Refusal{"bad_rule", "rules have the numbers 1 to 8"};
  if (rule.agree < 1 || rule.agree > kMostAgree) return Refusal{"bad_rule", "1 to 1000 windows in a row"};
  if (rule.cool_ms < kLeastCoolMs || rule.cool_ms > kMostCoolMs) {
    return Refusal{"bad_rule", "a cool-down is 250 ms to a day"};
  }
  if (rule.has_pin() && (rule.hold_ms < 1 || rule.hold_ms > kMostHoldMs)) {
    return Refusal{"bad_rule", "an output is on for 1 ms to an hour"};
  }
  if (rule.action == RuleAction::pwm && (rule.hz < kLeastPwmHz || rule.hz > kMostPwmHz)) {
    return Refusal{"bad_rule", "PWM has 20 to 8000 Hz"};
  }
  if (rule.action == RuleAction::pwm && (rule.duty_percent < 1 || rule.duty_percent > 99)) {
    return Refusal{"bad_rule", "PWM is on for 1 to 99 percent; a level is on for all of it"};
  }
  return Refusal{};
}

uint32_t RuleSet::count() const {
  uint32_t found = 0;
  for (const Rule& rule : rules) found += rule.action != RuleAction::none;
  return found;
}

Refusal RuleSet::check_beside(const Rule& rule) const {
  uint32_t with_pwm = 0;
  for (const Rule& other : rules) {
    if (other.action == RuleAction::none || other.number == rule.number) continue;
    if (rule.has_pin() && other.has_pin() && other.pin == rule.pin) {
      return Refusal{"pin_in_use", "another rule has this pin, and a pin has one rule"};
    }
    with_pwm += other.action == RuleAction::pwm;
  }
  if (rule.action == RuleAction::pwm && with_pwm == kMaxPwmRules) {
    return Refusal{"no_pwm", "four rules have PWM, and there are no more timers"};
  }
  return Refusal{};
}

void RuleSet::apply(const uint8_t bytes[kRuleEntryBytes], const uint8_t digest[kRuleDigestBytes]) {
  Entry entry;
  std::memcpy(&entry, bytes, sizeof entry);
  if (entry.magic != kMagic || entry.crc != crc_of(entry) || entry.number > kMaxRules) return;
  if (std::memcmp(entry.digest, digest, sizeof entry.digest) != 0) return;
  Rule rule;
  rule.number = entry.number;
  rule.action = static_cast<RuleAction>(entry.action & ~kActiveLow);
  if (rule.action == RuleAction::none && entry.number == 0) *this = RuleSet{};
  if (entry.number == 0) return;
  rule.active_low = (entry.action & kActiveLow) != 0;
  rule.label = entry.label;
  rule.pin = entry.pin;
  rule.agree = entry.row & ((1u << kAgreeBits) - 1);
  rule.least_of_256 = entry.row >> kAgreeBits & ((1u << kLeastBits) - 1);
  rule.hz = static_cast<uint16_t>(entry.row >> (kAgreeBits + kLeastBits));
  rule.cool_ms = entry.cool_ms;
  rule.hold_ms = entry.hold & ((1u << kHoldBits) - 1);
  rule.duty_percent = static_cast<uint8_t>(entry.hold >> kHoldBits);
  // An action of newer firmware takes the number from the rule before: what was replaced does not go on.
  const bool known = (entry.action & ~kActiveLow) < kActionCount && rule.action != RuleAction::none;
  rules[entry.number - 1] = known ? rule : Rule{};
}

void pack_rule(const Rule& rule, const uint8_t digest[kRuleDigestBytes], uint8_t out[kRuleEntryBytes]) {
  Entry entry = {};
  entry.magic = kMagic;
  entry.number = rule.number;
  entry.action = static_cast<uint8_t>(static_cast<uint8_t>(rule.action) | (rule.active_low ? kActiveLow : 0));
  entry.label = rule.label;
  entry.pin = rule.pin;
  entry.row = rule.agree | uint32_t{rule.least_of_256} << kAgreeBits | uint32_t{rule.hz} << (kAgreeBits + kLeastBits);
  entry.cool_ms = rule.cool_ms;
  entry.hold = rule.hold_ms | uint32_t{rule.duty_percent} << kHoldBits;
  std::memcpy(entry.digest, digest, sizeof entry.digest);
  entry.crc = crc_of(entry);
  std::memcpy(out, &entry, sizeof entry);
}

RuleStep RuleWatch::judge(const Rule& rule, const Answers::Choice& choice, uint64_t now_us) {
  const bool agrees = choice.label == rule.label && choice.of_256 >= static_cast<int32_t>(rule.least_of_256);
  row_ = !agrees ? 0 : row_ < rule.agree ? row_ + 1 : row_;
  if (on_ && now_us >= until_us_) return end(rule, now_us);
  if (on_ && !rule.lasts()) return RuleStep::none;
  if (on_ && !agrees) return end(rule, now_us);
  if (!on_ && (row_ < rule.agree || now_us < quiet_until_us_)) return RuleStep::none;
  const bool was_on = on_;
  if (!rule.has_pin()) {
    quiet_until_us_ = now_us + 1000 * uint64_t{rule.cool_ms};
    return RuleStep::begin;
  }
  on_ = true;
  until_us_ = now_us + 1000 * uint64_t{rule.hold_ms};
  return was_on ? RuleStep::keep : RuleStep::begin;
}

RuleStep RuleWatch::expire(const Rule& rule, uint64_t now_us) {
  return on_ && now_us >= until_us_ ? end(rule, now_us) : RuleStep::none;
}

RuleStep RuleWatch::rest(const Rule& rule, uint64_t now_us) {
  row_ = 0;
  return on_ ? end(rule, now_us) : RuleStep::none;
}

RuleStep RuleWatch::end(const Rule& rule, uint64_t now_us) {
  on_ = false;
  quiet_until_us_ = now_us + 1000 * uint64_t{rule.cool_ms};
  return RuleStep::end;
}

}  // namespace edgeward
