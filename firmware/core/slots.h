// The two model slots: what lies in them, and a log in the last sector of each of what was found out about it.
//
// An entry of the log is 32 bytes, written once, checked by a CRC and bound to a model by its digest. `proven`: the model
// gave its known answers on this board; its sequence number orders the slots. `crashed`: loading it crashed the board.
// A valid model without an entry was put there by a flasher. A cut of power leaves an entry whole or unreadable, and
// an unreadable one counts as absent. Entries of the model's rules (core/rules.h) and of the stream that begins with it
// (core/kept_stream.h) lie between, each with a magic of their own, and firmware older than them passes over these.
#pragma once

#include <cstdint>

#include "core/kept_stream.h"
#include "core/model_header.h"
#include "core/refusal.h"
#include "core/rules.h"
#include "hal/hal.h"

namespace edgeward {

constexpr uint32_t kSlots = 2;
constexpr uint32_t kSlotLogBytes = hal::kFlashSectorBytes;

inline const char* to_string(hal::Slot slot) { return slot == hal::Slot::a ? "a" : "b"; }
inline hal::Slot other(hal::Slot slot) { return slot == hal::Slot::a ? hal::Slot::b : hal::Slot::a; }

// A slot as mapped, without its log: what a model may fill. No data when the slot does not exist.
hal::SlotView model_area(hal::Slot slot);

struct SlotState {
  hal::Slot slot;
  const uint8_t* data;
  HeaderStatus status;  // `header` is valid only when this is ok
  ModelHeader header;
  uint32_t sequence;    // of what was last found out about it; 0 when nothing was
  bool proven_here;     // by this build of the firmware
  bool crashed;
};

// Reads slot and log; hashes the whole model.
SlotState inspect(hal::Slot slot);

enum class Finding : uint32_t { proven = 1, crashed = 2 };

// Appends to the log of `slot`. `build` identifies firmware and engine. False when flash did not take it.
bool record_finding(hal::Slot slot, const uint8_t* sha256, Finding finding);

// The rules the log of `slot` has for the model with this SHA-256, as they were written: nothing says that it can have them.
RuleSet read_rules(hal::Slot slot, const uint8_t* sha256);

// Appends an entry about them to the log; one whose action is `none` removes (core/rules.h). The last places are kept for
// removals. Where only those are left, removing all of them erases the log, which says `proven` again.
Refusal record_rule(hal::Slot slot, const uint8_t* sha256, const Rule& rule);

// Likewise the stream that begins with the model; one that is not on forgets it.
KeptStream read_stream(hal::Slot slot, const uint8_t* sha256);
Refusal record_stream(hal::Slot slot, const uint8_t* sha256, const KeptStream& stream);

// The order in which to try the slots: what a flasher put there, then from the newest finding. Slots without a whole
// model and, unless `also_crashed`, models that crashed the board are left out. Returns how many are in `order`.
uint32_t order_to_try(const SlotState states[kSlots], bool also_crashed, hal::Slot order[kSlots]);

// What firmware and engine this is: a proof by another one orders the slots, but does not spare the known answers.
void set_build(const char* firmware, const char* engine);

}  // namespace edgeward
