#include "core/board.h"

#include <cstring>

#include "core/text.h"

namespace edgeward {
namespace {

const char* to_string(hal::ResetReason reason) {
  switch (reason) {
    case hal::ResetReason::unknown: return "unknown";
    case hal::ResetReason::power_on: return "power_on";
    case hal::ResetReason::restart: return "restart";
    case hal::ResetReason::crash: return "crash";
    case hal::ResetReason::watchdog: return "watchdog";
    case hal::ResetReason::brown_out: return "brown_out";
    case hal::ResetReason::deep_sleep: return "deep_sleep";
  }
  return "unknown";
}

bool starts_with(const char* line, const char* prefix) { return std::strncmp(line, prefix, std::strlen(prefix)) == 0; }

constexpr uint32_t kSourceWaitUs = 4000;  // half a sample at 125 Hz
constexpr uint32_t kMaxRateMs = 3600 * 1000;

}  // namespace

Board::Board(Engine& engine, uint8_t* arena, uint32_t arena_bytes)
    : engine_(engine),
      arena_(arena),
      arena_bytes_(arena_bytes),
      system_(hal::system_info()),
      head_{system_.boot_id, 0, nullptr, 0},
      parser_(sample_) {
  set_build(kFirmwareVersion, engine.name());
}

void Board::start() {
  hal::pins_release();
  Record(output_, head_, "boot")
      .text("firmware", kFirmwareVersion)
      .text("chip", system_.chip)
      .boolean("simulated", system_.simulated)
      .text("engine", engine_.name())
      .text("reset", to_string(system_.reset_reason));
  keys_ = read_keys();
  read_own_program();
  remember_stream_crash();
  load_model(false);
  start_network();
  begin_trial();
  runner_.hello(*this);
}

bool Board::step(uint32_t max_wait_us) {
  uint8_t bytes[kReadBytes];
  const size_t count = hal::serial_read(bytes, sizeof bytes);
  for (size_t i = 0; i < count; ++i) handle(parser_.feed(bytes[i]));
  const uint64_t now_us = hal::clock_us();
  if (count > 0) {
    last_input_us_ = now_us;
  } else if (now_us - last_input_us_ >= kSilenceUs) {
    handle(parser_.silence());
  }
  const bool more = read_source();
  const bool message = step_network();
  step_trial();
  max_wait_us = run_rules(max_wait_us);
  if (metrics_every_us_ > 0 && now_us >= metrics_next_us_) {
    metrics_next_us_ += metrics_every_us_;  // keeps the pace; a board that fell behind does not catch up in a burst
    if (metrics_next_us_ <= now_us) metrics_next_us_ = now_us + metrics_every_us_;
    send_metrics();
  }
  if (count > 0 || message || more) {
    hal::idle(0);  // feeds the watchdog: input without a pause is no hang
  } else {
    uint32_t wait_us = source_open_ && max_wait_us > kSourceWaitUs ? kSourceWaitUs : max_wait_us;
    if (metrics_every_us_ > 0 && metrics_next_us_ - now_us < wait_us) {
      wait_us = metrics_next_us_ > now_us ? static_cast<uint32_t>(metrics_next_us_ - now_us) : 0;
    }
    hal::idle(wait_us);
  }
  return count > 0 || message;
}

void Board::handle(InputEvent event) {
  switch (event) {
    case InputEvent::none: return;
    case InputEvent::command: return command(parser_.text());
    case InputEvent::runner_command: {
      char line[kLineBytes + 1];
      std::memcpy(line, parser_.text(), parser_.text_bytes() + 1);
      return runner_.command(*this, line);
    }
    case InputEvent::frame: return frame(parser_.frame());
    case InputEvent::line_too_long: return error("line_too_long", "a command was too long or cut short");
    case InputEvent::bad_frame:
      ++metrics_.bad_frames;
      return error("bad_frame", "a frame arrived damaged");
  }
}

void Board::command(const char* line) {
  if (std::strcmp(line, "info") == 0) {
    if (before_.by_cable) keep_program();
    return send_info();
  }
  if (std::strcmp(line, "metrics") == 0) return send_metrics();
  if (std::strcmp(line, "metrics clear") == 0) {
    metrics_ = Metrics{};
    drift_.reset();
    return send_metrics();
  }
  if (starts_with(line, "metrics rate ")) return metrics_rate(line + std::strlen("metrics rate "));
  if (starts_with(line, "drift rows ")) return drift_rows(line + std::strlen("drift rows "));
  if (starts_with(line, "bench ")) return bench(line + std::strlen("bench "));
  const bool record = starts_with(line, "record "), rule = starts_with(line, "rule ");
  if (record || rule || starts_with(line, "stream ")) {
    char arguments[kLineBytes + 1];
    std::strcpy(arguments, line + (rule ? std::strlen("rule ") : std::strlen("stream ")));
    return rule ? rule_command(arguments) : record ? record_command(arguments) : stream_command(arguments);
  }
  if (std::strcmp(line, "selftest") == 0) return selftest();
  if (std::strcmp(line, "reset") == 0) return reset_state();
  if (std::strcmp(line, "reload") == 0) return load_model(true);
  if (std::strcmp(line, "rollback") == 0) return rollback();
  if (std::strcmp(line, "network") == 0) return send_network();
  if (starts_with(line, "key ")) return key_command(line + std::strlen("key "));
  if (std::strcmp(line, "reboot") == 0) {
    { Record(output_, head_, "reboot"); }
    restart();
  }
  error("unknown_command",
        "known: info, metrics, metrics rate MS, metrics clear, bench N, drift rows N, stream, record, selftest, reset, "
        "reload, rollback, key, network, rule, reboot");
}

void Board::restart() {
  rest_rules();
  hal::restart();
}

void Board::frame(const Frame& frame) {
  switch (static_cast<FrameType>(frame.type)) {
    case FrameType::infer: return infer(frame);
    case FrameType::update_begin: by_network_ = false; return update_begin(frame);
    case FrameType::update_chunk: return by_network_ ? send_update(frame.id, "refused", kNoUpdate) : update_chunk(frame);
    case FrameType::update_commit: return by_network_ ? send_update(frame.id, "refused", kNoUpdate) : update_commit(frame);
    case FrameType::settings: return settings_frame(frame);
    case FrameType::samples: return feed(frame);
  }
  error("unknown_frame", "this firmware does not know the type of the frame");
}

void Board::infer(const Frame& frame) {
  const TensorView input = engine_.input();
  if (!loaded() || frame.body_bytes != input.bytes) {
    ++metrics_.errors;
    Record(output_, head_, "error")
        .number("id", frame.id)
        .text("code", loaded() ? "wrong_size" : "no_model")
        .text("reason", loaded() ? "the sample does not have the size of the input" : state_)
        .number("expected_bytes", input.bytes)
        .number("got_bytes", frame.body_bytes);
    return;
  }
  if (state_in_use()) {
    ++metrics_.errors;
    Record(output_, head_, "error").number("id", frame.id).text("code", kStreamOn).text("reason", kStreamOnReason);
    return;
  }
  std::memcpy(input.data, frame.body, input.bytes);
  observe_input(input.data);
  uint64_t latency_us = 0;
  const Result result = invoke(&latency_us);
  if (!result) {
    Record(output_, head_, "error")
        .number("id", frame.id)
        .text("code", edgeward::to_string(result.status))
        .text("reason", result.reason)
        .signed_number("op", result.op);
    return;
  }
  const TensorView output = engine_.output();
  {
    Record record(output_, head_, "result");
    record.number("id", frame.id)
        .number("latency_us", latency_us)
        .bytes("out", reinterpret_cast<const uint8_t*>(output.data), output.bytes);
    if (profile_.scored) {
      const auto sample = [&frame](uint32_t i) { return static_cast<int8_t>(frame.body[i]); };
      const float score = reconstruction_error(sample, input, output);
      record.real("score", score).boolean("over", observe_score(score));
    }
    if (profile_.heads > 0) {
      const HeadsAnswer said = judge_heads(output, profile_.heads);
      record.decimals("mean", said.mean, said.classes).decimal("spread", said.spread);
    }
  }
  observe_output();
}

Result Board::invoke(uint64_t* latency_us) {
  const uint64_t start_us = hal::clock_us();
  const Result result = engine_.invoke();
  *latency_us = hal::clock_us() - start_us;
  hal::idle(0);  // feeds the watchdog: one piece of input may hold many rows
  run_rules(0);
  if (result) {
    ++metrics_.inferences;
    metrics_.latency.add(*latency_us);
  } else {
    ++metrics_.errors;
  }
  return result;
}

void Board::send_info() {
  const TensorView input = engine_.input();
  const TensorView output = engine_.output();
  Record record(output_, head_, "info");
  record.text("firmware", kFirmwareVersion)
      .text("chip", system_.chip)
      .boolean("simulated", system_.simulated)
      .text("engine", engine_.name())
      .text("reset", to_string(system_.reset_reason))
      .text("state", loaded() ? "ready" : state_)
      .number("arena_bytes", arena_bytes_)
      .number("arena_used_bytes", engine_.arena_used_bytes())
      .number("sample_bytes", kSampleBytes)
      .number("model_bytes", model_area(update_target()).bytes)
      .number("program_bytes", has_places_ ? program_capacity(other_program(place_)) : 0)
      .text("program", program_.digest)
      .text("program_slot", program_name(place_))
      .boolean("on_trial", on_trial_)
      .number("keys", keys_.count)
      .boolean("keys_locked", keys_.locked)
      .boolean("recording_allowed", keys_.may_record())
      .boolean("recording", recording_.on());
  if (!loaded()) return;
  record.text("name", model_.name)
      .text("slot", edgeward::to_string(slot_))
      .text("signature", signature_state())
      .number("ops", engine_.op_count())
      .number("state_bytes", engine_.state_bytes())
      .number("rules", rules_.count())
      .boolean("stream", stream_.on())
      .boolean("stream_kept", read_stream(slot_, model_.sha256).on())
      .number("input_bytes", input.bytes)
      .real("input_scale", input.scale)
      .signed_number("input_zero_point", input.zero_point)
      .number("output_bytes", output.bytes)
      .real("output_scale", output.scale)
      .signed_number("output_zero_point", output.zero_point);
}

// A model is loaded only when keys_ allows it, and keys that came later count from the next load on.
const char* Board::signature_state() const {
  if (!is_signed(model_)) return "none";
  return verified_ ? "verified" : "not_verified";
}

void Board::send_metrics() {
  const hal::SystemInfo now = hal::system_info();
  const LatencyHistogram& latency = metrics_.latency;
  Record record(output_, head_, "metrics");
  record.number("inferences", metrics_.inferences)
      .number("errors", metrics_.errors)
      .number("bad_frames", metrics_.bad_frames)
      .number("latency_count", latency.count())
      .number("latency_min_us", latency.least_us())
      .number("latency_p50_us", latency.percentile_us(50))
      .number("latency_p95_us", latency.percentile_us(95))
      .number("latency_p99_us", latency.percentile_us(99))
      .number("latency_max_us", latency.most_us())
      .number("arena_used_bytes", engine_.arena_used_bytes())
      .number("arena_bytes", arena_bytes_)
      .number("heap_free_bytes", now.heap_free_bytes)
      .number("heap_least_free_bytes", now.heap_least_free_bytes)
      .number("stack_least_free_bytes", now.stack_least_free_bytes)
      .text("reset", to_string(system_.reset_reason))
      .boolean("recording", recording_.on());
  metrics_.show();
  const Answers& answers = metrics_.answers;
  const Answers& shown = metrics_.shown.answers;
  if (answers.class_count > 0) {
    record.numbers("classes", answers.classes, shown.classes, answers.class_count)
        .numbers("confidence", answers.confidence, shown.confidence, Answers::kConfidenceBins);
  }
  if (profile_.scored) record.number("over", metrics_.over, metrics_.shown.over);
  if (last_index_ >= 0) record.decimal("psi", last_index_);
}

void Board::metrics_rate(const char* argument) {
  uint32_t ms = 0;
  if (!parse_count(argument, kMaxRateMs, &ms)) {
    return error("bad_argument", "metrics rate takes milliseconds, 0 to 3600000");
  }
  metrics_every_us_ = ms * 1000;
  metrics_next_us_ = hal::clock_us() + metrics_every_us_;
  Record(output_, head_, "ok").text("command", "metrics rate").number("ms", ms);
}

void Board::selftest() {
  if (!loaded()) return error("no_model", state_);
  if (state_in_use()) return error(kStreamOn, kStreamOnReason);
  const KnownAnswers answers = run_known_answers(engine_, model_data_, model_);
  if (answers.refusal) {
    if (engine_.input().data == nullptr) state_ = answers.refusal.code;  // the state could not be reset
    return error(answers.refusal.code, answers.refusal.reason);
  }
  Record(output_, head_, "selftest").number("rows", answers.rows).number("mismatches", answers.mismatches);
}

void Board::reset_state() {
  if (!loaded()) return error("no_model", state_);
  if (state_in_use()) return error(kStreamOn, kStreamOnReason);
  if (!rewind()) return;
  Record(output_, head_, "ok").text("command", "reset").number("state_bytes", engine_.state_bytes());
}

bool Board::rewind() {
  if (engine_.state_bytes() == 0) return true;
  const Result result = engine_.reset();
  if (result) return true;
  state_ = edgeward::to_string(result.status);
  error(state_, result.reason);
  head_.digest = nullptr;
  return false;
}

void Board::error(const char* code, const char* reason) {
  ++metrics_.errors;
  Record(output_, head_, "error").text("code", code).text("reason", reason);
}

void run_board(Board& board) {
  constexpr uint32_t kMaxWaitUs = 100000;
  board.start();
  for (;;) board.step(kMaxWaitUs);
}

}  // namespace edgeward
