// The MLPerf Tiny runner's streaming wake word: `start`, `stop`, `print_detections` and, of this firmware alone, `pins`.
//
// As the benchmark's reference does: what lies before the first sample is silence, inputs begin as zeros, every step of the front end is
// an inference, and an output of the first class above 115 is a detection. The interface board times two pins: one that is high
// while a step is computed, one that goes low for a moment at the first step and at each detection.
#include <cstring>

#include "core/board.h"
#include "core/pins.h"
#include "core/text.h"

namespace edgeward {
namespace {

constexpr int8_t kDetects = 115;
constexpr uint64_t kLongestStepUs = 10000000;
constexpr uint32_t kActivationsPerLine = 16;
constexpr uint32_t kLeastStepMs = 10;  // of a model whose output is the sound itself, one a sample would be a recording
constexpr const char* kSources[] = {"mic", "file", "user"};

// One pin as `pins` takes it. False where the word is no number.
bool parse_pin(const char* word, bool active_low, hal::Pin* out) {
  *out = hal::Pin{0, active_low, 0, 0};
  return word != nullptr && parse_count(word, kMostPins - 1, &out->number);
}

}  // namespace

const char* MlperfRunner::why_no_pins(const Board& board) const {
  if (!board.keys_.may_change_rules()) return "the keys were locked: only flashing lets another drive pins";
  const hal::Pin* const pins[] = {&detected_, &processing_};
  for (const hal::Pin* const pin : pins) {
    if (const char* const reason = board.why_no_pin(pin->number)) return reason;
    for (const Rule& rule : board.rules_.rules) {
      if (rule.has_pin() && rule.pin == pin->number) return "a rule has this pin";
    }
  }
  return detected_.number == processing_.number ? "two pins are needed" : nullptr;
}

// pins DETECTED PROCESSING: until the next restart, or until keys are locked.
void MlperfRunner::pins(Board& board, const char* detected, const char* processing) {
  Output& out = board.output_;
  board.stop_stream();
  drop_pins();
  if (!parse_pin(detected, true, &detected_) || !parse_pin(processing, false, &processing_)) {
    return out.text("e-[pins takes two numbers: of the pin for detections and of the one for processing]\r\n");
  }
  const char* why = why_no_pins(board);
  if (why == nullptr && !claim_pins()) why = "this board cannot drive them";
  has_pins_ = why == nullptr;
  if (has_pins_) return out.text("m-[Pins are set]\r\n");
  out.text("e-[Pins refused: ");
  out.text(why);
  out.text("]\r\n");
}

bool MlperfRunner::claim_pins() const { return hal::pin_claim(detected_) && hal::pin_claim(processing_); }

void MlperfRunner::drop_pins() {
  if (!has_pins_) return;
  hal::pin_off(detected_);
  hal::pin_off(processing_);
  has_pins_ = false;
}

const char* MlperfRunner::begin_listening(Board& board) {
  if (!board.loaded()) return "no model is loaded";
  if (board.profile_.audio == nullptr) return "the model does not hear: export it with --audio";
  if (!Answers::are_probabilities(board.engine_.output())) return "detections need a classifier with softmax or sigmoid outputs";
  if (has_pins_ && !claim_pins()) return "this board cannot drive the pins";
  if (!board.rewind()) return "the model's state cannot be reset";
  StreamSettings settings;
  settings.hop = 1;
  settings.early = true;
  Refusal refusal = board.start_hearing(settings, 0);
  const AudioTables& tables = board.front_end_.tables();
  if (!refusal) refusal = board.stream_.start(board.profile_, board.engine_.input(), settings, tables.channels);
  if (refusal) return refusal.reason;
  if (1000 * tables.step_samples < kLeastStepMs * tables.sample_rate_hz && !board.keys_.may_record()) {
    return "activations less than 10 ms apart would say what was heard: only a board that may record gives these";
  }
  for (const char* const source : kSources) {
    board.source_open_ = hal::source_open(source, tables.sample_rate_hz, 1, hal::Missed::repeated);
    if (board.source_open_) break;
  }
  if (!board.source_open_) return "this board has no source of sound, or it does not answer";
  const int16_t silence = 0;
  while (board.front_end_.due() > tables.step_samples) board.front_end_.feed(&silence, 1);
  return nullptr;
}

void MlperfRunner::start(Board& board) {
  Output& out = board.output_;
  board.stop_stream();
  steps_ = kept_ = 0;
  expected_bytes_ = 0;  // what was loaded makes room for activations
  frames_seen_ = board.parser_.frames_begun();
  void_ = false;
  ms_per_step_ = 0;
  if (const char* const why = begin_listening(board)) {
    board.stop_stream();
    out.text("e-[Cannot listen: ");
    out.text(why);
    return out.text("]\r\n");
  }
  listening_ = true;
  const AudioTables& tables = board.front_end_.tables();
  ms_per_step_ = 1000.0f * static_cast<float>(tables.step_samples) / static_cast<float>(tables.sample_rate_hz);
  out.text("m-[Listening]\r\n");
}

void MlperfRunner::begin_step() {
  if (has_pins_) hal::pin_on(processing_, kLongestStepUs);
}

// The window that a step completed through the model.
void MlperfRunner::step(Board& board) {
  const TensorView output = board.engine_.output();
  board.stream_.copy_window(board.engine_.input().data);
  uint64_t latency_us = 0;
  const bool done = static_cast<bool>(board.invoke(&latency_us));
  hal::idle(0);  // feeds the watchdog
  const int8_t activation = done ? output.data[0] : INT8_MIN;
  if (has_pins_) {
    if (steps_ == 0 || activation > kDetects) {
      hal::pin_on(detected_, 1);
      hal::pin_off(detected_);
    }
    hal::pin_off(processing_);
  }
  if (kept_ == steps_ && kept_ < kSampleBytes && activations_valid(board)) board.sample_[kept_++] = static_cast<uint8_t>(activation);
  ++steps_;
}

// Whether the board's frame buffer is theirs: once a frame or `db load` came, not before the next `start`.
bool MlperfRunner::activations_valid(const Board& board) {
  void_ = void_ || frames_seen_ != board.parser_.frames_begun();
  return !void_;
}

// Why there are fewer activations than steps, if so; of those there are, the first `kept_`.
uint32_t MlperfRunner::say_activations(Board& board) {
  Output& out = board.output_;
  if (steps_ == 0) return 0;
  if (!activations_valid(board)) {
    out.text("m-[A frame or a sample took the place of the activations]\r\n");
    return 0;
  }
  if (kept_ < steps_) {
    out.text("m-[Activations of the first ");
    out.number(kept_);
    out.text(" steps were kept, of ");
    out.number(steps_);
    out.text("]\r\n");
  }
  return kept_;
}

void MlperfRunner::stop(Board& board) {
  Output& out = board.output_;
  if (!listening_) return out.text("m-[Not listening]\r\n");
  board.stop_stream();
  out.text("m-[Stopped]\r\n");
  const uint32_t count = say_activations(board);
  out.text("target activations:\r\n[");
  for (uint32_t i = 0; i < count; ++i) {
    if (i > 0) out.text(i % kActivationsPerLine == 0 ? ",\r\n" : ",");
    const int32_t value = static_cast<int8_t>(board.sample_[i]);
    if (value < 0) out.put('-');
    out.number(static_cast<uint32_t>(value < 0 ? -value : value));
  }
  out.text("]\r\n");
}

// Milliseconds of sound from `start` to the end of each step with a detection; the first is that of the first step, as of the pin.
void MlperfRunner::print_detections(Board& board) {
  Output& out = board.output_;
  const uint32_t count = say_activations(board);
  out.text("Detection Timestamps (ms)\r\n");
  for (uint32_t i = 0; i < count; ++i) {
    if (i > 0 && static_cast<int8_t>(board.sample_[i]) <= kDetects) continue;
    out.number(static_cast<uint32_t>(static_cast<float>(i + 1) * ms_per_step_));
    out.text(",\r\n");
  }
}

}  // namespace edgeward
