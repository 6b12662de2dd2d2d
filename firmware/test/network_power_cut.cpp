// Cuts the power at every flash operation while a board's place in a network is written, an order is noted, and a model or a program
// comes over the network, and looks what is left.
//
//   network-power-cut OLD.bin NEW.bin PARTS
//
// Both are signed model.bin files with known answers. PARTS holds, each as u32 length and bytes: the sector of keys; entries of
// settings of the federations "a" and "b"; for "a" the order `update` of NEW's header with the largest number, and as many orders
// `metrics` as the log takes and one sector more, numbered from 1; two programs, and later orders: the second program, `metrics`, the
// second program, `metrics`. An operation is cut as in power-cut.
//
// After every cut: the place is the one before, the new one or none, and the new one if the board had said so; an order that was
// obeyed is refused, a later one obeyed; one of the two models works, and the board runs a whole program and can have the other; one
// that has obeyed an order stays. Then each operation fails while the power stays. stdout: how many
// cuts, and failures, were made in each scenario.
#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iterator>
#include <new>

#include "core/board.h"
#include "hal/host/boot_choice.h"
#include "test/sent.h"
#include "test/torn_flash.h"

namespace edgeward::hal {
namespace {

uint64_t g_now_us = 0;
std::vector<Bytes> g_messages;
size_t g_messages_at = 0;
bool g_started = false;
bool g_restarted = false;
std::jmp_buf g_restart;

}  // namespace

// Two seconds a message: nothing is left without an answer for being too many.
uint64_t clock_us() { return g_now_us; }

bool network_start(const NetworkSettings& settings) {
  check_place(settings);
  return g_started = true;
}

NetworkState network_state() { return g_started ? NetworkState::connected : NetworkState::off; }

size_t network_read(uint8_t* buffer, size_t capacity) {
  if (!g_started || g_messages_at == g_messages.size()) return 0;
  g_now_us += 2000000;
  const Bytes& message = g_messages[g_messages_at++];
  if (message.size() > capacity) return 0;
  std::memcpy(buffer, message.data(), message.size());
  return message.size();
}

bool network_send(Topic, const uint8_t* data, size_t bytes) {
  check_sent(data, bytes);
  return true;
}

void restart() {
  g_restarted = true;
  std::longjmp(g_restart, 1);
}

}  // namespace edgeward::hal

namespace {

using namespace edgeward;

constexpr uint32_t kArenaBytes = 64 * 1024;
alignas(16) uint8_t g_arena[kArenaBytes];
alignas(Board) uint8_t g_board[sizeof(Board)];

using Messages = std::vector<Bytes>;

// A board from power-on until it has nothing left to do, or restarts.
std::string run(const Bytes& serial, const Messages& messages = {}) {
  hal::g_input = serial;
  hal::g_input_at = 0;
  hal::g_messages = messages;
  hal::g_messages_at = 0;
  hal::g_started = hal::g_restarted = false;
  hal::g_now_us = 0;
  hal::g_output.clear();
  if (setjmp(hal::g_restart) == 0) {
    hal::set_program(hal::choose_program());
    auto* const board = new (g_board) Board(engine(), g_arena, kArenaBytes);
    board->start();
    while (board->step(0)) {
    }
  }
  return hal::g_output;
}

Bytes text(const std::string& line) { return Bytes(line.begin(), line.end()); }

struct Flash {
  Bytes slots[2];
  Bytes network;
  Bytes programs[2];
  Bytes choice;
};

Flash flash_now() {
  return Flash{{hal::g_flash[0], hal::g_flash[1]}, hal::g_network, {hal::g_programs[0], hal::g_programs[1]}, hal::g_choice};
}

void set_flash(const Flash& flash) {
  hal::g_flash[0] = flash.slots[0];
  hal::g_flash[1] = flash.slots[1];
  hal::g_network = flash.network;
  hal::g_programs[0] = flash.programs[0];
  hal::g_programs[1] = flash.programs[1];
  hal::g_choice = flash.choice;
}

bool run_cut(const Bytes& serial, const Messages& messages, uint32_t cut_at, hal::Tear tear, std::string* said) {
  return hal::cut_power(cut_at, tear, [&] { return run(serial, messages); }, said);
}

struct Scenario {
  const char* name;
  Flash flash;
  Bytes serial;
  Messages messages;
  std::string done;  // what the board says once it is final
  // Whether a board is well after a cut; `was_done`: it had said so before.
  std::function<bool(bool was_done)> well;
};

int try_every_cut(const Scenario& scenario) {
  uint32_t cuts = 0;
  std::string said;
  for (int tear = 0; tear < hal::kTears; ++tear) {
    for (uint32_t at = 0;; ++at) {
      set_flash(scenario.flash);
      const bool cut = run_cut(scenario.serial, scenario.messages, at, static_cast<hal::Tear>(tear), &said);
      const bool was_done = holds(said, scenario.done);
      const std::string before = said;
      bool well = cut || was_done;
      const Flash left = flash_now();
      for (uint32_t second = 0; well; ++second) {
        set_flash(left);
        const bool cut_again = run_cut({}, {}, second, static_cast<hal::Tear>((tear + second) % hal::kTears), &said);
        well = scenario.well(was_done);
        ++cuts;
        if (!cut_again) break;
      }
      if (!well) {
        std::printf("%s, operation %u, tear %d\n%s\n%s\n", scenario.name, at, tear, before.c_str(), hal::g_output.c_str());
        return 1;
      }
      if (!cut) break;
    }
  }
  std::printf("%s %u\n", scenario.name, cuts);
  return 0;
}

// With each operation failing while the power stays.
int try_every_failure(const char* name, const Flash& flash, const Bytes& serial, const Messages& messages,
                      const std::function<bool(const std::string& said)>& well) {
  uint32_t failures = 0;
  for (;; ++failures) {
    set_flash(flash);
    hal::g_operations = 0;
    hal::g_fails_at = failures;
    const std::string said = run(serial, messages);
    hal::g_fails_at = hal::kNever;
    if (hal::g_operations <= failures) break;
    if (well(said)) continue;
    std::printf("%s, operation %u\n%s\n", name, failures, said.c_str());
    return 1;
  }
  std::printf("%s %u\n", name, failures);
  return 0;
}

std::string after(const std::string& said, const std::string& mark) {
  const size_t at = said.rfind(mark);
  if (at == std::string::npos) return "";
  const size_t begin = at + mark.size();
  return said.substr(begin, said.find('"', begin) - begin);
}

// The federation the board belongs to, or nothing.
std::string place() { return after(run(text("network\n")), "\"federation\":\""); }

// The digest of the model in use when all its known answers are right, or nothing.
std::string working_model() {
  const std::string said = run(text("selftest\n"));
  const size_t at = said.rfind("\"kind\":\"selftest\"");
  if (at == std::string::npos || !holds(said.substr(at), "\"mismatches\":0")) return "";
  return after(said.substr(0, at), "\"model\":\"");
}

// What a board says of its program as soon as it is connected; nobody orders anything, so one on trial is gone at the next start.
std::string program() { return after(run(text("info\n")), "\"program\":\""); }

bool is_old(const Bytes& order) { return holds(run({}, {order}), "\"code\":\"old_order\""); }
bool is_obeyed(const Bytes& order) { return holds(run({}, {order}), "\"state\":\"obeyed\""); }

Bytes message(FrameType type, const uint8_t* body, size_t bytes, const Bytes& before = {}) {
  Bytes out(kFrameHeadBytes + before.size() + bytes);
  out[0] = static_cast<uint8_t>(type);
  out[1] = 1;
  std::copy(before.begin(), before.end(), out.begin() + kFrameHeadBytes);
  std::copy(body, body + bytes, out.end() - static_cast<std::ptrdiff_t>(bytes));
  return out;
}

Messages parts_of(const Bytes& model) {
  constexpr size_t kChunkBytes = 512;
  Messages out = {message(FrameType::update_begin, model.data(), kModelHeaderBytes)};
  for (size_t at = kModelHeaderBytes; at < model.size(); at += kChunkBytes) {
    const auto offset = static_cast<uint32_t>(at);
    Bytes word(4);
    std::memcpy(word.data(), &offset, sizeof offset);
    out.push_back(message(FrameType::update_chunk, model.data() + at, std::min(kChunkBytes, model.size() - at), word));
  }
  out.push_back(message(FrameType::update_commit, nullptr, 0));
  return out;
}

Bytes read_file(const char* path) {
  std::ifstream file(path, std::ios::binary);
  return Bytes(std::istreambuf_iterator<char>(file), {});
}

std::string digest_of(const Bytes& file, size_t at = 48) {
  std::string digest;
  for (size_t i = at; i < at + 8; ++i) digest += {"0123456789abcdef"[file[i] >> 4], "0123456789abcdef"[file[i] & 15]};
  return digest;
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 4) return 2;
  const Bytes old_model = read_file(arguments[1]), new_model = read_file(arguments[2]), file = read_file(arguments[3]);
  std::vector<Bytes> parts;
  for (size_t at = 0; at + 4 <= file.size();) {
    uint32_t bytes;
    std::memcpy(&bytes, file.data() + at, sizeof bytes);
    parts.emplace_back(file.data() + at + 4, file.data() + at + 4 + bytes);
    at += 4 + bytes;
  }
  constexpr size_t kFirstOrder = 4, kFull = 128;  // a sector takes so many orders
  if (parts.size() != kFirstOrder + 2 * kFull + 3 + 6) return 2;
  const Bytes* const late = &parts[kFirstOrder + 2 * kFull + 3];
  const Bytes &old_program = late[0], &new_program = late[1];
  hal::g_keys = parts[0];
  const Bytes& update = parts[3];
  const auto order = [&](size_t number) { return parts[kFirstOrder + number - 1]; };
  const auto settings = [&](const Bytes& entries) {
    Bytes out;
    add_frame(&out, FrameType::settings, entries.data(), entries.size());
    return out;
  };
  constexpr uint32_t kProgramBytes = 5 * hal::kFlashSectorBytes;
  Flash none{{Bytes(hal::kSlotBytes, 0xFF), Bytes(hal::kSlotBytes, 0xFF)},
             Bytes(3 * hal::kFlashSectorBytes, 0xFF),
             {Bytes(kProgramBytes, 0xFF), Bytes(kProgramBytes, 0xFF)},
             Bytes(2 * hal::kFlashSectorBytes, 0xFF)};
  std::memcpy(none.slots[0].data(), old_model.data(), old_model.size());
  std::memcpy(none.programs[0].data(), old_program.data() + kFirmwareHeaderBytes, old_program.size() - kFirmwareHeaderBytes);
  std::memcpy(none.programs[0].data() + kProgramBytes - hal::kFlashSectorBytes, old_program.data(), kFirmwareHeaderBytes);
  const auto after_running = [&](const Flash& start, const Bytes& serial, const Messages& messages) {
    set_flash(start);
    run(serial, messages);
    return flash_now();
  };
  const auto after_orders = [&](const Flash& start, size_t first, size_t last) {
    Messages messages;
    for (size_t number = first; number <= last; ++number) messages.push_back(order(number));
    return after_running(start, {}, messages);
  };
  const Flash in_a = after_running(none, settings(parts[1]), {});
  const Flash three = after_orders(in_a, 1, 3);
  const Flash full = after_orders(three, 4, kFull);
  const Flash both_full = after_orders(full, kFull + 1, 2 * kFull);

  // `before` and `next`: the places before and afterwards.
  const auto belongs = [&](const std::string& before, const std::string& next) {
    return [&, before, next](bool was_done) {
      const std::string now = place();
      if (now != next && (was_done || (now != before && now != ""))) return false;
      if (before == "a" && (is_obeyed(order(3)) || is_obeyed(order(1)))) return false;
      if (before == "a" && now == "a" && (!is_old(order(3)) || !is_obeyed(order(4)) || !is_old(order(4)))) return false;
      return working_model() == digest_of(old_model);
    };
  };
  const auto numbered = [&](size_t last) {
    return [&, last](bool was_done) {
      if (!is_old(order(last)) || !is_old(order(1)) || place() != "a") return false;
      if (was_done && !is_old(order(last + 1))) return false;
      if (!is_obeyed(order(last + 2)) || !is_old(order(last + 2)) || !is_old(order(last + 1))) return false;
      return working_model() == digest_of(old_model);
    };
  };
  Messages whole = parts_of(new_model);
  whole.insert(whole.begin(), update);
  const auto program_by = [&](const Bytes& order) {
    Messages messages = parts_of(new_program);
    messages.insert(messages.begin(), order);
    return messages;
  };
  const std::string old_name = digest_of(old_program, 16), new_name = digest_of(new_program, 16);
  // Whatever became of it, the board runs a whole program, and can have the new one.
  const auto can_have_it = [&] {
    if (working_model() != digest_of(old_model) || place() != "a") return false;
    if (!holds(run({}, program_by(late[4])), "\"state\":\"restarting\"") || !is_obeyed(late[5])) return false;
    return program() == new_name && program() == new_name && working_model() == digest_of(old_model);
  };
  const Flash on_trial = after_running(three, {}, program_by(late[2]));
  const auto obeyed = [&](size_t number) { return "\"order\":" + std::to_string(number) + ",\"state\":\"obeyed\""; };
  const std::string kKept = "\"kind\":\"settings\"";
  const Scenario scenarios[] = {
      {"first-settings", none, settings(parts[2]), {}, kKept, belongs("", "b")},
      {"other-settings", three, settings(parts[2]), {}, kKept, belongs("a", "b")},
      {"same-settings", three, settings(parts[1]), {}, kKept, belongs("a", "a")},
      {"no-settings", three, settings({}), {}, kKept, belongs("a", "")},
      {"order", three, {}, {order(4)}, obeyed(4), numbered(3)},
      {"full-sector", full, {}, {order(kFull + 1)}, obeyed(kFull + 1), numbered(kFull)},
      {"full-log", both_full, {}, {order(2 * kFull + 1)}, obeyed(2 * kFull + 1), numbered(2 * kFull)},
      {"update", three, {}, whole, "\"state\":\"active\"",
       [&](bool was_done) {
         const std::string model = working_model();
         if (model != digest_of(new_model) && (was_done || model != digest_of(old_model))) return false;
         if (!is_old(order(3)) || place() != "a") return false;
         // With all of it once more the board goes no further than an order that was never obeyed allows.
         const Flash left = flash_now();
         const bool was_obeyed = is_old(update);
         set_flash(left);
         const std::string said = run({}, whole);
         return holds(said, "\"state\":\"active\"") ? !was_obeyed : was_obeyed && working_model() == model;
       }},
  };
  const Scenario programs[] = {
      {"program", three, {}, program_by(late[2]), "\"state\":\"restarting\"",
       [&](bool) {
         const std::string now = program();
         return (now == old_name || now == new_name) && can_have_it();
       }},
      {"trial", on_trial, {}, {late[3]}, "\"kind\":\"metrics\"",
       [&](bool was_done) {
         const std::string now = program();
         if (now != new_name && (was_done || now != old_name)) return false;
         return (!was_done || program() == new_name) && can_have_it();
       }},
  };
  for (const Scenario& scenario : programs) {
    if (const int failed = try_every_cut(scenario)) return failed;
  }
  for (const Scenario& scenario : scenarios) {
    if (const int failed = try_every_cut(scenario)) return failed;
  }
  // A board whose flash fails obeys no order that it cannot note, and does not go on with a place whose settings are gone.
  const auto not_obeyed = [&](const std::string& said) {
    return holds(said, "\"code\":\"flash_failed\"") && !holds(said, obeyed(kFull + 1)) && is_obeyed(order(kFull + 1));
  };
  const auto gone = [&](const std::string& said) {
    return hal::g_restarted && holds(said, "\"code\":\"flash_failed\"") && !holds(said, "\"state\":\"obeyed\"") &&
           working_model() == digest_of(old_model);
  };
  if (try_every_failure("failed-order", full, {}, {order(kFull + 1)}, not_obeyed) != 0) return 1;
  return try_every_failure("failed-settings", three, settings(parts[2]), {order(4)}, gone);
}
