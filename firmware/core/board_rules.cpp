// What the board does by itself about what its model says: `rule list`, `rule remove NUMBER`, `rule clear`,
// `rule set NUMBER LABEL LEAST_OF_256 AGREE COOL_MS ACTION ...`.
//
// Rules lie in the log of their model's slot and are in use while that model is. They act on the windows of a stream only:
// what is asked by `infer`, `bench` or a runner is a question, and a test of rows should click no relay. Outputs are off
// whenever there is no stream or no model. Who can write to the port of a board with locked keys neither changes rules nor
// makes them act by samples of their own.
#include <cstring>

#include "core/board.h"
#include "core/pins.h"
#include "core/text.h"
#include "hooks/hooks.h"

namespace edgeward {
namespace {

hal::Pin pin_of(const Rule& rule) { return hal::Pin{rule.pin, rule.active_low, rule.hz, rule.duty_percent}; }

uint64_t left_us(uint64_t until_us, uint64_t now_us) { return until_us > now_us ? until_us - now_us : 0; }

}  // namespace

// Of the model that has just come into use. One that cannot be followed here is said, and is not in use.
void Board::load_rules() {
  rest_rules();
  runner_.drop_pins();  // a rule may want one
  const RuleSet stored = read_rules(slot_, model_.sha256);
  rules_ = RuleSet{};
  const uint64_t now_us = hal::clock_us();
  for (const Rule& rule : stored.rules) {
    if (rule.action == RuleAction::none) continue;
    const Refusal refusal = admit(rule);
    if (!refusal) {
      rules_.rules[rule.number - 1] = rule;
      watches_[rule.number - 1] = RuleWatch(rule, now_us);
      continue;
    }
    ++metrics_.errors;
    Record(output_, head_, "error")
        .text("code", refusal.code)
        .text("reason", refusal.reason)
        .text("slot", edgeward::to_string(slot_))
        .number("rule", rule.number);
  }
}

// Why this build may not drive a pin, static text; null where it may.
const char* Board::why_no_pin(uint32_t pin) const {
  if (const char* const reason = pin_refusal(system_.chip, pin)) return reason;
  return (system_.sensor_pins >> pin & 1) != 0 ? "the microphone is at this pin" : nullptr;
}

// Whether the model in use and this board can have the rule; then its pin is an output, and not active.
Refusal Board::admit(const Rule& rule) const {
  const TensorView output = engine_.output();
  RuleSubject subject{0, profile_.scored};
  if (profile_.scored) {
    subject.classes = 2;
  } else if (profile_.heads > 0) {
    subject.classes = output.bytes / profile_.heads;
  } else if (Answers::are_probabilities(output)) {
    subject.classes = output.bytes == 1 ? 2 : output.bytes;
  }
  if (const Refusal refusal = check_rule(rule, subject)) return refusal;
  if (const Refusal refusal = rules_.check_beside(rule)) return refusal;
  if (!rule.has_pin()) return Refusal{};
  if (const char* const reason = why_no_pin(rule.pin)) return Refusal{"pin_refused", reason};
  if (runner_.has_pin(rule.pin)) return Refusal{"pin_in_use", "the MLPerf Tiny runner has this pin, until a restart"};
  if (!hal::pin_claim(pin_of(rule))) return Refusal{"pin_failed", "this board cannot make the pin such an output"};
  return Refusal{};
}

void Board::rule_command(char* arguments) {
  if (!loaded()) return error("no_model", state_);
  Refusal refusal{"bad_argument", "rule takes: list, set NUMBER ..., remove NUMBER, clear"};
  Rule rule;
  uint32_t number = 0;
  if (std::strcmp(arguments, "list") == 0) {
    return send_rules();
  } else if (std::strcmp(arguments, "clear") == 0) {
    refusal = change_rule(rule);
  } else if (std::strncmp(arguments, "set ", 4) == 0) {
    refusal = parse_rule(arguments + 4, &rule);
    if (!refusal) refusal = change_rule(rule);
  } else if (std::strncmp(arguments, "remove ", 7) == 0 && parse_count(arguments + 7, kMaxRules, &number) && number > 0) {
    rule.number = static_cast<uint8_t>(number);
    refusal = change_rule(rule);
  }
  if (refusal) return error(refusal.code, refusal.reason);
  send_rules();
}

// Sets a rule; one without an action removes, all of them where its number is 0. Outputs go off first, whatever comes of it.
Refusal Board::change_rule(const Rule& rule) {
  if (!keys_.may_change_rules()) {
    return Refusal{"rules_locked", "the keys were locked, or cannot be read: only flashing allows to change rules"};
  }
  const bool removes = rule.action == RuleAction::none;
  rest_rules();
  for (const Rule& known : rules_.rules) {
    if (!removes && known == rule) return Refusal{};
  }
  Refusal refusal = removes ? Refusal{} : admit(rule);
  if (!refusal) refusal = record_rule(slot_, model_.sha256, rule);
  for (uint32_t i = 0; i < kMaxRules; ++i) {
    Rule& known = rules_.rules[i];
    // The refused one may have turned the levels of its pin around.
    if (refusal && known.has_pin()) hal::pin_claim(pin_of(known));
    if (refusal || (rule.number != 0 && i + 1 != rule.number)) continue;
    known = removes ? Rule{} : rule;
    watches_[i] = RuleWatch{};
  }
  return refusal;
}

void Board::send_rules() {
  char texts[kMaxRules][kRuleTextBytes];
  const char* shown[kMaxRules];
  uint32_t on[kMaxRules], ready_in_ms[kMaxRules];
  uint32_t count = 0;
  const uint64_t now_us = hal::clock_us();
  for (uint32_t i = 0; i < kMaxRules; ++i) {
    if (rules_.rules[i].action == RuleAction::none) continue;
    format_rule(rules_.rules[i], texts[count]);
    shown[count] = texts[count];
    on[count] = watches_[i].on() ? 1 : 0;
    ready_in_ms[count++] = static_cast<uint32_t>((left_us(watches_[i].quiet_until_us(), now_us) + 999) / 1000);
  }
  Record(output_, head_, "rules")
      .texts("rules", shown, count)
      .numbers("on", on, count)
      .numbers("ready_in_ms", ready_in_ms, count)
      .boolean("locked", !keys_.may_change_rules());
}

// What the rules make of the answer to a window.
void Board::act(const Answers::Choice& choice) {
  if (!source_open_ && !keys_.may_change_rules()) return;
  for (uint32_t i = 0; i < kMaxRules; ++i) {
    const Rule& rule = rules_.rules[i];
    if (rule.action == RuleAction::none) continue;
    const uint64_t now_us = hal::clock_us();
    switch (watches_[i].judge(rule, choice, now_us)) {
      case RuleStep::none: break;
      case RuleStep::begin: begin_action(rule, choice); break;
      case RuleStep::keep: hal::pin_on(pin_of(rule), watches_[i].until_us() - now_us); break;
      case RuleStep::end: hal::pin_off(pin_of(rule)); break;
    }
  }
}

void Board::begin_action(const Rule& rule, const Answers::Choice& choice) {
  if (rule.has_pin()) hal::pin_on(pin_of(rule), uint64_t{rule.hold_ms} * 1000);
  Record(output_, head_, "acted")
      .number("rule", rule.number)
      .text("action", edgeward::to_string(rule.action))
      .number("label", choice.label)
      .decimal("confidence", choice.of_256 / 256.0)
      .number("sample", stream_.samples())
      .number("window", stream_.windows());
  if (rule.action == RuleAction::hook) {
    hooks::user_action(rule.number, choice.label, static_cast<uint32_t>(choice.of_256));
    hal::idle(0);  // feeds the watchdog
  }
}

// All outputs off, and no window in a row.
void Board::rest_rules() {
  const uint64_t now_us = hal::clock_us();
  for (uint32_t i = 0; i < kMaxRules; ++i) {
    const Rule& rule = rules_.rules[i];
    if (rule.action == RuleAction::none) continue;
    if (watches_[i].rest(rule, now_us) == RuleStep::end) hal::pin_off(pin_of(rule));
  }
}

// Ends what is over; how long the board may wait until it has to look again.
uint32_t Board::run_rules(uint32_t max_wait_us) {
  if (!loaded() || !stream_.on()) rest_rules();
  const uint64_t now_us = hal::clock_us();
  for (uint32_t i = 0; i < kMaxRules; ++i) {
    const Rule& rule = rules_.rules[i];
    if (rule.action == RuleAction::none) continue;
    if (watches_[i].expire(rule, now_us) == RuleStep::end) hal::pin_off(pin_of(rule));
    if (!watches_[i].on()) continue;
    const uint64_t left = left_us(watches_[i].until_us(), now_us);
    if (left < max_wait_us) max_wait_us = static_cast<uint32_t>(left);
  }
  return max_wait_us;
}

}  // namespace edgeward
