#include "hal/host/boot_choice.h"

#include <cstring>

#include "core/crc.h"

namespace edgeward::hal {
namespace {

// Two entries, each at the beginning of a sector of its own.
enum State : uint32_t { kNew = 0, kPending = 1, kValid = 2, kInvalid = 3, kAborted = 4 };
constexpr uint32_t kErased = 0xFFFFFFFF;
constexpr uint32_t kEntries = 2;
constexpr uint32_t kNone = kEntries;

struct Entry {
  uint32_t sequence;  // from 1 on: program a for odd numbers, b for even ones; the largest counts
  uint8_t label[20];
  uint32_t state;
  uint32_t crc;  // of the sequence
};
static_assert(sizeof(Entry) == 32, "as the boot loader has it");

Slot g_runs = Slot::app_a;

uint32_t crc_of(const Entry& entry) { return crc32(reinterpret_cast<const uint8_t*>(&entry.sequence), sizeof entry.sequence); }

bool is_written(const Entry& entry) { return entry.sequence != kErased && entry.crc == crc_of(entry); }

bool counts(const Entry& entry) { return is_written(entry) && entry.state != kInvalid && entry.state != kAborted; }

struct Choice {
  Entry entries[kEntries];

  uint32_t active() const {
    const bool first = counts(entries[0]), second = counts(entries[1]);
    if (first && second) return entries[0].sequence > entries[1].sequence ? 0 : 1;
    return first ? 0 : second ? 1 : kNone;
  }
};

Choice read_choice() {
  Choice choice;
  const SlotView view = slot_map(Slot::choice);
  for (uint32_t i = 0; i < kEntries; ++i) std::memcpy(&choice.entries[i], view.data + i * kFlashSectorBytes, sizeof(Entry));
  return choice;
}

bool write_entry(uint32_t number, Entry entry) {
  entry.crc = crc_of(entry);
  const uint32_t offset = number * kFlashSectorBytes;
  const auto* const bytes = reinterpret_cast<const uint8_t*>(&entry);
  return slot_erase(Slot::choice, offset, kFlashSectorBytes) && slot_write(Slot::choice, offset, bytes, sizeof entry);
}

bool write_state(uint32_t number, Entry entry, State state) {
  entry.state = state;
  return write_entry(number, entry);
}

Slot program_of(uint32_t sequence) { return sequence % 2 == 1 ? Slot::app_a : Slot::app_b; }

}  // namespace

Slot choose_program() {
  Choice choice = read_choice();
  for (uint32_t i = 0; i < kEntries; ++i) {
    Entry& entry = choice.entries[i];
    if (!counts(entry) || entry.state != kPending) continue;
    entry.state = kAborted;
    write_entry(i, entry);
  }
  const uint32_t active = choice.active();
  if (active == kNone) {
    Entry first;
    std::memset(&first, 0xFF, sizeof first);
    first.sequence = 1;
    if (!is_written(choice.entries[0]) && !is_written(choice.entries[1])) write_state(0, first, kValid);
    return Slot::app_a;
  }
  if (choice.entries[active].state == kNew) write_state(active, choice.entries[active], kPending);
  return program_of(choice.entries[active].sequence);
}

void set_program(Slot runs) { g_runs = runs; }

bool firmware_place(Slot* runs) {
  *runs = g_runs;
  return true;
}

bool firmware_try(Slot slot) {
  const Choice choice = read_choice();
  const uint32_t active = choice.active();
  Entry entry;
  std::memset(&entry, 0xFF, sizeof entry);
  entry.sequence = active == kNone ? 1 : choice.entries[active].sequence;
  while (program_of(entry.sequence) != slot) ++entry.sequence;
  return write_state(active == 0 ? 1 : 0, entry, kNew);
}

bool firmware_on_trial() {
  const Choice choice = read_choice();
  const uint32_t active = choice.active();
  return active != kNone && choice.entries[active].state == kPending && program_of(choice.entries[active].sequence) == g_runs;
}

bool firmware_keep() {
  const Choice choice = read_choice();
  const uint32_t active = choice.active();
  return active != kNone && write_state(active, choice.entries[active], kValid);
}

}  // namespace edgeward::hal
