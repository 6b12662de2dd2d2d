// Another program in place of the one that runs, and how the board comes back when it is no good.
//
// The new one is on trial until it has obeyed an order of the board's owner (where the one before knew of no place in a network:
// until `info` came over the serial port), so that a program that cannot be replaced in the same way is never kept. Whatever
// restarts the board before that, a crash or a cut of power too, brings the old one back; so does a model that was in use and does
// not run now, and the end of the time the signed header gives. While on trial, it notes nothing about models that the old one
// would believe.
#include <cstring>

#include "core/board.h"

namespace edgeward {
namespace {

bool has_model(hal::Slot slot) {
  ModelHeader header;
  const hal::SlotView area = model_area(slot);
  return parse_model_header(area.data, area.bytes, &header) == HeaderStatus::ok;
}

bool any_model() { return has_model(hal::Slot::a) || has_model(hal::Slot::b); }

}  // namespace

void Board::firmware_begin(const Frame& frame) {
  updater_.abandon();
  Refusal refusal;
  if (!loaded() && any_model()) {
    refusal = Refusal{"no_model", "the model of this board does not run, so a new program could not be judged by it"};
  } else {
    refusal = firmware_.begin(frame.body, frame.body_bytes, keys_, system_.chip);
  }
  send_update(frame.id, refusal ? "refused" : "ready", refusal);
}

void Board::firmware_commit(const Frame& frame) {
  Before before;
  before.had_model = loaded();
  std::memcpy(before.model, model_.sha256, sizeof before.model);
  before.by_cable = !has_place_;
  const Refusal refusal = firmware_.finish(before);
  send_update(frame.id, refusal ? "refused" : "restarting", refusal);
  if (!refusal) restart();
}

// Before any model is loaded.
void Board::read_own_program() {
  if (!hal::firmware_place(&place_)) return;
  has_places_ = true;
  if (!read_program(place_, &program_, &before_)) {
    program_ = FirmwareHeader{};
    before_ = Before{};
  }
  on_trial_ = hal::firmware_on_trial();
}

// After the model was loaded.
void Board::begin_trial() {
  if (!on_trial_) return;
  if (program_.digest[0] == 0) {
    return end_trial("trial_program", "this program does not read itself as it was signed: the one before comes back");
  }
  const bool same = loaded() && std::memcmp(before_.model, model_.sha256, sizeof model_.sha256) == 0;
  if (before_.had_model && !same) {
    return end_trial("trial_model", "the model does not run with this program: the one before comes back");
  }
  trial_until_us_ = hal::clock_us() + uint64_t{program_.trial_s} * 1000000;
}

void Board::step_trial() {
  if (!on_trial_ || hal::clock_us() < trial_until_us_) return;
  end_trial("trial_silent", "nobody gave this program an order in the time of its trial: the one before comes back");
}

void Board::end_trial(const char* code, const char* reason) {
  error(code, reason);
  restart();
}

void Board::keep_program() {
  if (!on_trial_) return;
  if (!hal::firmware_keep()) return error("flash_failed", "flash did not take that the new program is kept: it is still on trial");
  on_trial_ = false;
  presence_due_ = true;
}

}  // namespace edgeward
