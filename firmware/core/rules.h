// What a board does about what its model says, without code: a class, how sure and how often in a row, and then a record,
// a hook or a pin. Pure: no clock, no pins, no flash; core/board_rules.cpp has these.
//
// A rule looks at every window of a stream. It holds while the last `agree` windows chose its class with at least its
// probability.
// Where it holds and its cool-down is over, it acts: `record` and `hook` at once; `level` and `pwm` switch a pin on until a
// window says something else, and at the latest `hold_ms` after the last one that agreed; `pulse` for `hold_ms`, whatever
// windows say. The cool-down begins when an action ends. A rule read from flash begins with one, so that what pulls the supply
// down is not switched on once more by every restart.
#pragma once

#include <cstdint>

#include "core/metrics.h"
#include "core/refusal.h"

namespace edgeward {

constexpr uint32_t kMaxRules = 8;
constexpr uint32_t kMaxPwmRules = 4;        // as many timers a chip has for them
constexpr uint32_t kLeastCoolMs = 250;      // eight rules that record leave the line to other records
constexpr uint32_t kMostCoolMs = 86400000;  // a day
constexpr uint32_t kMostHoldMs = 3600000;
constexpr uint32_t kMostAgree = 1000;
constexpr uint32_t kLeastPwmHz = 20;
constexpr uint32_t kMostPwmHz = 8000;

constexpr uint32_t kRuleTextBytes = 64;
constexpr uint32_t kRuleEntryBytes = 32;
constexpr uint32_t kRuleDigestBytes = 8;

// As in flash: a new one gets a new number.
enum class RuleAction : uint8_t { none = 0, record = 1, hook = 2, level = 3, pulse = 4, pwm = 5 };

const char* to_string(RuleAction action);

struct Rule {
  uint8_t number = 0;  // 1 to kMaxRules
  RuleAction action = RuleAction::none;
  uint8_t label = 0;
  uint8_t pin = 0;
  bool active_low = false;
  uint8_t duty_percent = 0;
  uint16_t agree = 0;
  uint16_t least_of_256 = 0;
  uint16_t hz = 0;
  uint32_t cool_ms = 0;
  uint32_t hold_ms = 0;

  bool has_pin() const { return action >= RuleAction::level; }
  bool lasts() const { return action == RuleAction::level || action == RuleAction::pwm; }
};

bool operator==(const Rule& a, const Rule& b);

// What a model says of a window. No classes: neither probabilities nor a threshold, so there is nothing a rule could be about.
struct RuleSubject {
  uint32_t classes;
  bool scored;  // label 1 is over the threshold, 0 is not; nobody says how sure it is
};

// NUMBER LABEL LEAST_OF_256 AGREE COOL_MS ACTION ..., cut up in place.
Refusal parse_rule(char* words, Rule* out);

// What parse_rule() takes, zero terminated.
void format_rule(const Rule& rule, char out[kRuleTextBytes]);

// Whether numbers are within what there is, of a rule from a command or from flash.
Refusal check_rule(const Rule& rule, const RuleSubject& subject);

// The rules of one model, by number.
struct RuleSet {
  Rule rules[kMaxRules];

  uint32_t count() const;
  bool holds(uint32_t number) const { return rules[number - 1].action != RuleAction::none; }

  // Whether `rule` may stand beside the others: a pin has one rule, and there are so many timers.
  Refusal check_beside(const Rule& rule) const;

  // One entry of a log: those about another model, of another kind and that cannot be read change nothing.
  void apply(const uint8_t entry[kRuleEntryBytes], const uint8_t digest[kRuleDigestBytes]);
};

// An entry that sets a rule; one whose action is `none` removes that number, or all where it is 0.
void pack_rule(const Rule& rule, const uint8_t digest[kRuleDigestBytes], uint8_t out[kRuleEntryBytes]);

enum class RuleStep : uint8_t { none, begin, keep, end };

// Where one rule stands.
class RuleWatch {
 public:
  RuleWatch() = default;
  // From flash: its cool-down runs from now on.
  RuleWatch(const Rule& rule, uint64_t now_us) : quiet_until_us_(now_us + 1000 * uint64_t{rule.cool_ms}) {}

  // What a window means for it. `begin` and `keep`: on until until_us().
  RuleStep judge(const Rule& rule, const Answers::Choice& choice, uint64_t now_us);

  // `end` where its time is over.
  RuleStep expire(const Rule& rule, uint64_t now_us);

  // No stream, no window in a row. `end` where it was on.
  RuleStep rest(const Rule& rule, uint64_t now_us);

  bool on() const { return on_; }
  uint64_t until_us() const { return until_us_; }
  uint64_t quiet_until_us() const { return quiet_until_us_; }

 private:
  RuleStep end(const Rule& rule, uint64_t now_us);

  uint32_t row_ = 0;
  bool on_ = false;
  uint64_t until_us_ = 0;
  uint64_t quiet_until_us_ = 0;
};

// What a window says that no rule can be about: an inference that failed, or a score that is no number.
constexpr Answers::Choice kNothingSaid{UINT32_MAX, 0};

}  // namespace edgeward
