// Which model the board runs, and how another one takes its place.
#include <cstring>

#include "core/board.h"
#include "core/little_endian.h"
#include "core/load_guard.h"

namespace edgeward {
namespace {

constexpr uint32_t kOffsetBytes = 4;

}  // namespace

void Board::load_model(bool also_crashed) {
  stop_stream();
  engine_.unload();
  updater_.abandon();
  head_.digest = nullptr;
  SlotState states[kSlots] = {inspect(hal::Slot::a), inspect(hal::Slot::b)};
  const char* problem = nullptr;
  bool crash_explained = !LoadGuard::any_crash(system_.retained, system_.reset_reason);
  for (SlotState& state : states) {
    const bool whole = state.status == HeaderStatus::ok;
    if (whole && LoadGuard(system_.retained, u32(state.header.sha256)).crashed_last_time(system_.reset_reason)) {
      crash_explained = true;
      if (!on_trial_) record_finding(state.slot, state.header.sha256, Finding::crashed);
      state.crashed = true;
    }
    if (whole && state.crashed && !also_crashed) {
      refuse_slot(state, Refusal{"crashed_before", "this model crashed the board; reload tries it once more"});
    } else if (!whole && state.status != HeaderStatus::empty) {
      refuse_slot(state, Refusal{edgeward::to_string(state.status), "the model slot"});
    } else {
      continue;
    }
    if (problem == nullptr) problem = state_;
  }
  if (!crash_explained) error("update_crashed", "the new model of an update crashed the board and was not kept");
  hal::Slot order[kSlots];
  const uint32_t count = order_to_try(states, also_crashed, order);
  for (uint32_t i = 0; i < count; ++i) {
    const SlotState& state = states[static_cast<uint8_t>(order[i])];
    const Refusal refusal = load_slot(state);
    if (!refusal) return;
    refuse_slot(state, refusal);
    if (problem == nullptr) problem = state_;
    if (on_trial_) break;  // a finding about another model would change what the program before runs
  }
  if (problem == nullptr) {
    return refuse_slot(states[0], Refusal{edgeward::to_string(HeaderStatus::empty), "no slot has a model"});
  }
  state_ = problem;
}

Refusal Board::load_slot(const SlotState& state) {
  head_.digest = nullptr;
  const Refusal refusal = prepare(state.data, state.data, state.header, on_trial_ || !state.proven_here);
  if (refusal) return refusal;
  if (!state.proven_here && !on_trial_) record_finding(state.slot, state.header.sha256, Finding::proven);
  take(state.slot, state.data, state.header);
  return Refusal{};
}

// Loads a model into the engine, and with `prove` runs its known answers. On refusal no model is loaded.
// The header is given apart: in an update it is not in the slot yet.
Refusal Board::prepare(const uint8_t* data, const uint8_t* header_bytes, const ModelHeader& header, bool prove) {
  stop_stream();  // its windows were for another model
  state_ = "not_loaded";
  if (const Refusal refusal = check_signature(keys_, header_bytes, header)) return refusal;
  // Too small an arena can abort inside TFLM, so the header decides.
  const uint32_t needed = engine_.arena_needed_bytes(header.arena_tflm_bytes, header.arena_direct_bytes);
  if (needed > arena_bytes_) return Refusal{"arena_too_small", "the header asks for more than there is"};
  InputProfile profile;
  if (!read_input_profile(data, header.input_profile, &profile)) {
    return Refusal{"bad_input_profile", "what the model says about its inputs is damaged"};
  }
  AudioTables heard;
  if (profile.audio != nullptr) {
    if (const Refusal refusal = read_audio_tables(profile.audio, profile.audio_bytes, &heard)) return refusal;
  }
  LoadGuard guard(system_.retained, u32(header.sha256));
  if (!on_trial_) guard.begin();  // a crash is this program's fault, not the model's
  const Result result = engine_.load(view_of(data, header), arena_, arena_bytes_);
  Refusal refusal;
  if (!result) {
    refusal = Refusal{edgeward::to_string(result.status), result.reason, result.op};
  } else if (profile.scored && engine_.output().bytes != engine_.input().bytes) {
    refusal = Refusal{"bad_input_profile", "a threshold is for a model that gives as many values as it takes"};
  } else if (profile.heads > 0 && !are_heads(engine_.output(), profile.heads)) {
    refusal = Refusal{"bad_input_profile", "heads are for a model that gives probabilities of each of them"};
  } else if (heard.channels > 0 && engine_.input().bytes % heard.channels != 0) {
    refusal = Refusal{"bad_input_profile", "the front end's channels do not divide the input"};
  } else if (profile.averaged > 1 && !Answers::are_probabilities(engine_.output())) {
    refusal = Refusal{"bad_input_profile", "what is averaged over windows are probabilities"};
  } else if (prove && header.known_answers.bytes > 0) {
    const KnownAnswers answers = run_known_answers(engine_, data, header);
    refusal = answers.refusal;
    if (!refusal && answers.mismatches > 0) {
      refusal = Refusal{"known_answers_differ", "this board computes other outputs than the model's known answers"};
    }
  }
  guard.end();
  if (refusal) {
    engine_.unload();
  } else {
    profile_ = profile;
  }
  return refusal;
}

void Board::take(hal::Slot slot, const uint8_t* data, const ModelHeader& header) {
  const bool another = std::memcmp(model_.sha256, header.sha256, sizeof model_.sha256) != 0;
  const bool had_model = model_.total_bytes > 0;
  slot_ = slot;
  model_data_ = data;
  model_ = header;
  verified_ = keys_.count > 0;
  head_.digest = model_.digest;
  state_ = nullptr;
  presence_due_ = true;
  update_due_ = false;  // it was ordered to take the place of another model
  if (had_model && another) metrics_.forget_model();
  drift_.reset();
  last_index_ = -1.0;
  runner_.forget_results();
  Record(output_, head_, "model")
      .text("name", model_.name)
      .text("slot", edgeward::to_string(slot_))
      .number("arena_used_bytes", engine_.arena_used_bytes())
      .number("arena_bytes", arena_bytes_);
  load_rules();
  begin_kept_stream();
}

void Board::refuse_slot(const SlotState& state, const Refusal& refusal) {
  state_ = refusal.code;
  presence_due_ = true;
  ++metrics_.errors;
  head_.digest = state.status == HeaderStatus::ok ? state.header.digest : nullptr;
  Record(output_, head_, "error")
      .text("code", refusal.code)
      .text("reason", refusal.reason)
      .signed_number("op", refusal.op)
      .text("slot", edgeward::to_string(state.slot))
      .number("arena_bytes", arena_bytes_);
  head_.digest = nullptr;
}

// The slot that is not in use; without a model in use, one that holds no whole model, if there is one.
hal::Slot Board::update_target() const {
  if (loaded()) return other(slot_);
  ModelHeader header;
  const hal::SlotView a = model_area(hal::Slot::a);
  return parse_model_header(a.data, a.bytes, &header) == HeaderStatus::ok ? hal::Slot::b : hal::Slot::a;
}

// `changed`: whether what is answered was more than a part that had come already, or could not be used.
void Board::send_update(uint32_t id, const char* state, const Refusal& refusal, bool changed) {
  if (refusal) ++metrics_.errors;
  if (head_.order != 0 && !changed && !may_answer()) return;
  Record record(output_, head_, "update");
  record.number("id", id).text("state", state).number("next_offset", firmware_.open() ? firmware_.next_offset() : updater_.next_offset());
  if (refusal) record.text("code", refusal.code).text("reason", refusal.reason).signed_number("op", refusal.op);
}

void Board::update_begin(const Frame& frame) {
  if (is_firmware(frame.body, frame.body_bytes)) return firmware_begin(frame);
  firmware_.abandon();
  const hal::Slot target = update_target();
  Refusal refusal = updater_.check(target, frame.body, frame.body_bytes);
  if (on_trial_) refusal = kOnTrial;
  if (!refusal) refusal = check_signature(keys_, frame.body, updater_.header());
  if (!refusal) {
    const ModelHeader& header = updater_.header();
    if (engine_.arena_needed_bytes(header.arena_tflm_bytes, header.arena_direct_bytes) > arena_bytes_) {
      refusal = Refusal{"arena_too_small", "the header asks for more than there is"};
    }
  }
  if (!refusal) refusal = updater_.begin();
  send_update(frame.id, refusal ? "refused" : "ready", refusal);
}

void Board::update_chunk(const Frame& frame) {
  const bool program = firmware_.open();
  const uint32_t before = program ? firmware_.next_offset() : updater_.next_offset();
  Refusal refusal{"bad_chunk", "a chunk begins with its offset"};
  if (frame.body_bytes > kOffsetBytes) {
    const uint8_t* const data = frame.body + kOffsetBytes;
    const uint32_t bytes = frame.body_bytes - kOffsetBytes, offset = u32(frame.body);
    refusal = program ? firmware_.chunk(offset, data, bytes) : updater_.chunk(offset, data, bytes);
  }
  const uint32_t reached = program ? firmware_.next_offset() : updater_.next_offset();
  send_update(frame.id, refusal ? "refused" : "received", refusal, reached != before);
}

// The new model is tried before its header is written: one that crashes the board leaves a slot without a model.
void Board::update_commit(const Frame& frame) {
  if (firmware_.open()) return firmware_commit(frame);
  Refusal refusal = updater_.check_body();
  if (refusal) {
    // Who carries the parts can spoil them, and not have the board hash them again and again.
    if (head_.order != 0 && updater_.open() && updater_.next_offset() == updater_.header().total_bytes) updater_.abandon();
    return send_update(frame.id, "refused", refusal, false);
  }
  const hal::Slot target = updater_.target();
  const uint8_t* const data = model_area(target).data;
  engine_.unload();
  head_.digest = nullptr;
  refusal = prepare(data, updater_.header_bytes(), updater_.header(), true);
  if (!refusal) refusal = updater_.write_header();
  if (refusal) {
    load_model(false);
    return send_update(frame.id, "rolled_back", refusal);
  }
  const bool recorded = record_finding(target, updater_.header().sha256, Finding::proven);
  take(target, data, updater_.header());
  if (!recorded) error("flash_failed", "the new model runs, but flash did not take the note that it was proven");
  send_update(frame.id, "active", Refusal{});
}

void Board::rollback() {
  const SlotState state = inspect(other(slot_));
  if (!loaded()) return error("no_model", state_);
  if (on_trial_) return error(kOnTrial.code, kOnTrial.reason);
  if (state.status != HeaderStatus::ok) return error(edgeward::to_string(state.status), "the other slot has no model");
  if (state.crashed) return error("crashed_before", "the model in the other slot crashed the board");
  Refusal refusal = prepare(state.data, state.data, state.header, true);
  if (!refusal && !record_finding(state.slot, state.header.sha256, Finding::proven)) {
    refusal = Refusal{"flash_failed", "flash did not take the note that the other model is in use"};
  }
  if (refusal) {
    load_model(false);
    return error(refusal.code, refusal.reason);
  }
  updater_.abandon();
  take(state.slot, state.data, state.header);
  Record(output_, head_, "ok").text("command", "rollback");
}

}  // namespace edgeward
