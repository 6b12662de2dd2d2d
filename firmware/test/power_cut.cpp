// Cuts the power at every flash operation of an update, of a rollback and of the boots after them, and looks what runs.
//
//   power-cut OLD.bin NEW.bin CHUNK_BYTES
//
// Both are whole model.bin files with known answers. An operation is cut before it, half-way, in random bits, or right
// after it; the boot that follows is cut in the same ways once more. After every cut the board must run one of the two
// models with all known answers right, and the new one if it had said so. The same for rules, which are as before or as
// asked for. Then models that crash the board while they are loaded: none is loaded twice. stdout: how many cuts were made
// in each scenario, and how many crashes were checked.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "core/board.h"
#include "core/load_guard.h"
#include "test/torn_flash.h"

namespace edgeward::hal {

uint64_t clock_us() { return 0; }

void restart() { std::abort(); }

}  // namespace edgeward::hal

namespace {

using namespace edgeward;

constexpr uint32_t kArenaBytes = 64 * 1024;
alignas(16) uint8_t g_arena[kArenaBytes];

struct Model {
  Bytes bytes;
  std::string digest;
};

// A board from power-on until it has nothing left to do.
std::string run(const Bytes& input) {
  hal::g_input = input;
  hal::g_input_at = 0;
  hal::g_output.clear();
  const auto board = std::make_unique<Board>(engine(), g_arena, kArenaBytes);
  board->start();
  while (board->step(0)) {
  }
  return hal::g_output;
}

Bytes update_with(const Model& model, size_t chunk_bytes) {
  Bytes out;
  add_frame(&out, FrameType::update_begin, model.bytes.data(), kModelHeaderBytes);
  for (size_t at = kModelHeaderBytes; at < model.bytes.size(); at += chunk_bytes) {
    const size_t count = std::min(chunk_bytes, model.bytes.size() - at);
    const auto offset = static_cast<uint32_t>(at);
    uint8_t word[4];
    std::memcpy(word, &offset, sizeof word);
    add_frame(&out, FrameType::update_chunk, word, sizeof word, model.bytes.data() + at, count);
  }
  add_frame(&out, FrameType::update_commit, nullptr, 0);
  return out;
}

Bytes text(const std::string& line) { return Bytes(line.begin(), line.end()); }

struct Flash {
  Bytes slots[2];
};

Flash flash_now() { return Flash{{hal::g_flash[0], hal::g_flash[1]}}; }

void set_flash(const Flash& flash) {
  hal::g_flash[0] = flash.slots[0];
  hal::g_flash[1] = flash.slots[1];
}

// Runs with the power cut at operation `cut_at`; true if that operation came.
bool run_cut(const Bytes& input, uint32_t cut_at, hal::Tear tear, std::string* said) {
  return hal::cut_power(cut_at, tear, [&] { return run(input); }, said);
}

struct Scenario {
  const char* name;
  Flash flash;
  Bytes input;
  std::string before;  // digest of the model in use
  std::string after;
  std::string done;    // what the board says once the change is final
};

int fail(const Scenario& scenario, uint32_t at, int tear, const std::string& said) {
  std::printf("%s, operation %u, tear %d: %s\n", scenario.name, at, tear, said.c_str());
  return 1;
}

// The digest of the model in use when all its known answers are right, or nothing.
std::string working_model(std::string* said) {
  *said = run(text("selftest\n"));
  const size_t at = said->rfind("\"kind\":\"selftest\"");
  if (at == std::string::npos || !holds(said->substr(at), "\"mismatches\":0")) return "";
  const size_t line = said->rfind("@ew ", at);
  const size_t model = said->find("\"model\":\"", line) + std::strlen("\"model\":\"");
  return said->substr(model, 16);
}

int try_every_cut(const Scenario& scenario) {
  uint32_t cuts = 0;
  std::string said;
  for (int tear = 0; tear < hal::kTears; ++tear) {
    for (uint32_t at = 0;; ++at) {
      set_flash(scenario.flash);
      const bool cut = run_cut(scenario.input, at, static_cast<hal::Tear>(tear), &said);
      const bool was_done = holds(said, scenario.done);
      if (!cut && !was_done) return fail(scenario, at, tear, said);
      const Flash left = flash_now();
      for (uint32_t second = 0;; ++second) {
        set_flash(left);
        const bool cut_again = run_cut({}, second, static_cast<hal::Tear>((tear + second) % hal::kTears), &said);
        const std::string digest = working_model(&said);
        const bool allowed = digest == scenario.after || (digest == scenario.before && !was_done);
        if (!allowed) return fail(scenario, at, tear, said);
        ++cuts;
        if (!cut_again) break;
      }
      if (!cut) break;
    }
  }
  std::printf("%s %u\n", scenario.name, cuts);
  return 0;
}

// What a board says when the boot before crashed while it loaded a model whose SHA-256 begins with `word`.
std::string boot_after_crash(const Flash& flash, uint32_t word, const char* input) {
  set_flash(flash);
  LoadGuard(hal::g_retained, word).begin();
  hal::g_reason = hal::ResetReason::crash;
  const std::string said = run(text(input));
  hal::g_reason = hal::ResetReason::power_on;
  return said;
}

// The rules of the model in use, as a list in JSON, and behind it whether a stream begins with it.
std::string rules_now() {
  const std::string said = run(text("rule list\ninfo\n"));
  const size_t at = said.find("\"rules\":[");
  if (at == std::string::npos) return said;
  const char* const kept = holds(said, "\"stream_kept\":true") && holds(said, "\"stream\":true") ? " and a stream" : "";
  return said.substr(at, said.find(']', at) - at + 1) + kept;
}

struct RuleScenario {
  const char* name;
  Flash flash;
  Bytes input;
  std::string digest;               // of the model in use afterwards
  std::vector<std::string> allowed;  // rules there may be after a cut
  std::string done;                 // those where none came
};

int try_every_rule_cut(const RuleScenario& scenario) {
  uint32_t cuts = 0;
  std::string said;
  for (int tear = 0; tear < hal::kTears; ++tear) {
    for (uint32_t at = 0;; ++at) {
      set_flash(scenario.flash);
      const bool cut = run_cut(scenario.input, at, static_cast<hal::Tear>(tear), &said);
      const bool answered = !cut;
      const std::string digest = working_model(&said);
      const std::string rules = rules_now();
      bool allowed = rules == scenario.done;
      for (const std::string& each : scenario.allowed) allowed = allowed || (!answered && rules == each);
      if (digest != scenario.digest || !allowed) {
        std::printf("%s, operation %u, tear %d: %s, %s\n", scenario.name, at, tear, digest.c_str(), rules.c_str());
        return 1;
      }
      ++cuts;
      if (!cut) break;
    }
  }
  std::printf("%s %u\n", scenario.name, cuts);
  return 0;
}

std::string rules_of(const Flash& flash) {
  set_flash(flash);
  return rules_now();
}

// Rules follow their model: an update has none, a rollback those of the model before, also where a full log was erased meanwhile.
int rules_and_models(const Flash& updated, const Flash& worn, const Model& old_model, const Model& new_model,
                     const std::string& two, const std::string& none) {
  std::string said;
  set_flash(updated);
  bool holds_all = working_model(&said) == new_model.digest && rules_now() == none;
  run(text("rollback\n"));
  holds_all = holds_all && working_model(&said) == old_model.digest && rules_now() == two;
  set_flash(worn);
  holds_all = holds_all && working_model(&said) == old_model.digest && rules_now() == two;
  uint32_t erased = 0;
  for (uint32_t i = 0; i < 300; ++i) {
    const Bytes before = hal::g_flash[0];
    run(text("rollback\nrollback\n"));
    const size_t last = before.size() - kSlotLogBytes + kSlotLogBytes / 2;
    erased += hal::g_flash[0][last] == 0xFF && before[last] != 0xFF;
    holds_all = holds_all && rules_now() == two;
  }
  std::printf("rule-rollback %u\n", holds_all ? erased : 0);
  return holds_all && erased > 1 ? 0 : 1;
}

uint32_t first_word(const Model& model) {
  uint32_t word;
  std::memcpy(&word, model.bytes.data() + 48, sizeof word);
  return word;
}

// `both` holds two models and uses the new one, `single` only the old one. How many checks passed, or 0.
uint32_t crashes(const Flash& single, const Flash& both, const Model& old_model, const Model& new_model) {
  std::string said = boot_after_crash(both, first_word(new_model), "");
  if (!holds(said, "crashed_before") || working_model(&said) != old_model.digest) return 0;
  if (!holds(said, "crashed_before")) return 0;  // the boot in working_model(), after power-on: it is not forgotten
  said = run(text("rollback\n"));
  if (!holds(said, "the model in the other slot crashed the board")) return 0;
  run(text("reload\n"));  // it does not crash this time
  if (working_model(&said) != new_model.digest) return 0;
  said = boot_after_crash(single, first_word(old_model), "info\n");
  if (!holds(said, "\"state\":\"crashed_before\"") || holds(said, "\"kind\":\"model\"")) return 0;
  // A model that came over serial and crashed before its header was written is in no slot.
  said = boot_after_crash(single, ~first_word(old_model), "info\n");
  if (!holds(said, "update_crashed") || !holds(said, "\"state\":\"ready\"")) return 0;
  return 5;
}

// A stream that begins by itself and crashes the board: the boot after that has none, so that somebody can reach it, the next tries
// once more. How many checks passed, or 0. `heard` keeps one with `model`.
uint32_t stream_crashes(const Flash& heard, const Model& model) {
  const char kRuns[] = "\"stream\":true", kKept[] = "\"stream_kept\":true", kCrashed[] = "stream_crashed";
  const auto boot = [&](hal::ResetReason reason) {
    hal::g_reason = reason;
    const std::string said = run(text("info\n"));
    hal::g_reason = hal::ResetReason::power_on;
    return said;
  };
  set_flash(heard);
  std::string said = boot(hal::ResetReason::power_on);  // ends in the middle of it
  if (!holds(said, kRuns) || !LoadGuard(hal::g_retained + LoadGuard::kWords, first_word(model)).crashed_last_time(hal::ResetReason::crash)) {
    return 0;
  }
  said = boot(hal::ResetReason::restart);
  if (!holds(said, kRuns)) return 0;  // that was no crash
  for (const hal::ResetReason crash : {hal::ResetReason::crash, hal::ResetReason::watchdog}) {
    said = boot(crash);
    if (holds(said, kRuns) || !holds(said, kKept) || !holds(said, kCrashed) || !holds(said, "\"state\":\"ready\"")) return 0;
    said = boot(crash);
    if (!holds(said, kRuns) || holds(said, kCrashed)) return 0;
  }
  said = run(text("stream off\n"));
  said = boot(hal::ResetReason::crash);  // with no stream
  if (!holds(said, kRuns)) return 0;
  // Of a crash that no boot asked for nothing is left to a later one.
  run(text("stream forget\n"));
  boot(hal::ResetReason::crash);
  run(text("stream 1 0 1 0 file 100\nstream keep\n"));
  hal::g_retained[LoadGuard::kWords + 1] ^= 1;  // another model's
  said = boot(hal::ResetReason::crash);
  return holds(said, kRuns) ? 8 : 0;
}

Model read_model(const char* path) {
  std::ifstream file(path, std::ios::binary);
  Model model;
  model.bytes.assign(std::istreambuf_iterator<char>(file), {});
  constexpr char kHex[] = "0123456789abcdef";
  for (size_t i = 48; i < 56 && i < model.bytes.size(); ++i) {
    model.digest += {kHex[model.bytes[i] >> 4], kHex[model.bytes[i] & 15]};
  }
  return model;
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 4) return 2;
  setenv("EDGEWARD_BOARD_SAMPLES", arguments[1], 1);  // any file: time stands still, and nothing is due of it
  const Model old_model = read_model(arguments[1]);
  const Model new_model = read_model(arguments[2]);
  const auto chunk_bytes = static_cast<size_t>(std::atoi(arguments[3]));
  const size_t room = hal::kSlotBytes - kSlotLogBytes;
  if (old_model.bytes.size() > room || new_model.bytes.size() > room || chunk_bytes == 0) return 2;

  const Bytes erased(hal::kSlotBytes, 0xFF);
  Flash flash{{erased, erased}};
  std::memcpy(flash.slots[0].data(), old_model.bytes.data(), old_model.bytes.size());
  std::string said;
  const auto after_running = [&](const Flash& start, const Bytes& input) {
    set_flash(start);
    run_cut(input, hal::kNever, hal::kBefore, &said);
    return flash_now();
  };
  const Bytes to_new = update_with(new_model, chunk_bytes);
  const Bytes to_old = update_with(old_model, chunk_bytes);
  const Flash both = after_running(flash, to_new);  // old in slot A, new in slot B and in use
  // As many rollbacks as fill both logs.
  std::string many;
  for (uint32_t i = 0; i < 2 * 127; ++i) many += "rollback\n";
  const Flash full = after_running(both, text(many));
  const std::string kActive = "\"state\":\"active\"", kBack = "\"command\":\"rollback\"";
  const Scenario scenarios[] = {
      {"first-update", flash, to_new, old_model.digest, new_model.digest, kActive},
      {"second-update", both, to_old, new_model.digest, old_model.digest, kActive},
      {"rollback", both, text("rollback\n"), new_model.digest, old_model.digest, kBack},
      {"full-log", full, text("rollback\n"), new_model.digest, old_model.digest, kBack},
  };
  for (const Scenario& scenario : scenarios) {
    if (const int failed = try_every_cut(scenario)) return failed;
  }
  const std::string kNone = "\"rules\":[]", kOne = "\"rules\":[\"1 0 0 1 250 record\"]",
                    kOther = "\"rules\":[\"1 1 0 1 250 level 2 high 100\"]",
                    kTwo = "\"rules\":[\"1 0 0 1 250 record\",\"2 1 0 1 250 hook\"]";
  const char kFirst[] = "rule set 1 0 0 1 250 record\n", kSecond[] = "rule set 2 1 0 1 250 hook\n";
  const Flash with_one = after_running(flash, text(kFirst));
  const Flash with_two = after_running(with_one, text(kSecond));
  const Flash both_with_two = after_running(with_two, to_new);  // the new model has none
  std::string wear;
  for (uint32_t i = 0; i < kSlotLogBytes / kRuleEntryBytes; ++i) wear = wear + kFirst + "rule set 1 1 0 1 250 level 2 high 100\n";
  const Flash worn = after_running(with_two, text(wear + "rule remove 2\n"));
  const Flash worn_logs = after_running(both_with_two, text(many + "rollback\n"));  // the old model in use, both logs nearly full
  const RuleScenario rule_scenarios[] = {
      {"rule-set", flash, text(kFirst), old_model.digest, {kNone}, kOne},
      {"rule-beside", with_one, text(kSecond), old_model.digest, {kOne}, kTwo},
      {"rule-replace", with_one, text("rule set 1 1 0 1 250 level 2 high 100\n"), old_model.digest, {kOne}, kOther},
      {"rule-remove", with_two, text("rule remove 2\n"), old_model.digest, {kTwo}, kOne},
      {"rule-clear", with_two, text("rule clear\n"), old_model.digest, {kTwo}, kNone},
      {"rule-clear-full", worn, text("rule clear\n"), old_model.digest, {rules_of(worn)}, kNone},
      {"rule-full", worn, text("rule set 3 0 0 1 250 hook\n"), old_model.digest, {}, rules_of(worn)},
  };
  for (const RuleScenario& scenario : rule_scenarios) {
    if (const int failed = try_every_rule_cut(scenario)) return failed;
  }
  // A stream lies beside the rules: they stay when it comes and goes, it stays when they do. Where the log is erased it is written
  // once more, and a cut before that loses it.
  const std::string kStream = " and a stream";
  const char kBegin[] = "stream 1 0 1 0 file 100\nstream keep\n";
  const Flash heard = after_running(with_two, text(kBegin));
  const Flash worn_heard = after_running(heard, text(wear + "rule remove 2\n"));
  const std::string worn_rules = rules_of(worn_heard).substr(0, rules_of(worn_heard).size() - kStream.size());
  const RuleScenario stream_scenarios[] = {
      {"stream-keep", with_two, text(kBegin), old_model.digest, {kTwo}, kTwo + kStream},
      {"stream-forget", heard, text("stream forget\n"), old_model.digest, {kTwo + kStream}, kTwo},
      {"stream-clear", heard, text("rule clear\n"), old_model.digest, {kTwo + kStream}, kNone + kStream},
      {"stream-clear-full", worn_heard, text("rule clear\n"), old_model.digest, {worn_rules + kStream, worn_rules, kNone},
       kNone + kStream},
      {"stream-full", worn_heard, text("stream 1 1 1 0 file 100\nstream keep\n"), old_model.digest, {}, rules_of(worn_heard)},
  };
  for (const RuleScenario& scenario : stream_scenarios) {
    if (const int failed = try_every_rule_cut(scenario)) return failed;
  }
  const uint32_t of_streams = stream_crashes(heard, old_model);
  std::printf("stream-crashes %u\n", of_streams);
  if (of_streams == 0) return 1;
  if (const int failed = rules_and_models(both_with_two, worn_logs, old_model, new_model, kTwo, kNone)) return failed;
  const uint32_t checked = crashes(flash, both, old_model, new_model);
  std::printf("crashes %u\n", checked);
  return checked > 0 ? 0 : 1;
}
