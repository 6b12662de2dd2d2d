// Streaming inference: samples from the host or from a sensor, windows through the engine, detections as records.
#include <cstring>

#include "core/board.h"
#include "core/little_endian.h"
#include "core/text.h"

namespace edgeward {
namespace {

constexpr uint32_t kIndexBytes = 4;
constexpr uint32_t kMaxRateHz = 10000;
constexpr size_t kValuesAtOnce = 64;

}  // namespace

// stream off | stream keep | stream forget | stream COUNTS_PER_UNIT HOP AGREE LEAST_OF_256 [SOURCE RATE_HZ]
void Board::stream_command(char* arguments) {
  const bool keeps = std::strcmp(arguments, "keep") == 0;
  if (keeps || std::strcmp(arguments, "forget") == 0) return keep_stream(keeps);
  stop_stream();
  char* rest = arguments;
  const char* words[6] = {};
  uint32_t count = 0;
  while (count < 6 && (words[count] = next_word(&rest)) != nullptr) ++count;
  if (loaded() && !rewind()) return;
  if (count == 1 && std::strcmp(words[0], "off") == 0) {
    Record(output_, head_, "ok").text("command", "stream off");
    return;
  }
  StreamSettings settings;
  uint32_t rate_hz = 0;
  const uint32_t most_rate_hz = profile_.audio == nullptr ? kMaxRateHz : kMostSoundHz;
  const bool whole = (count == 4 || count == 6) && next_word(&rest) == nullptr &&
                     parse_count(words[0], kMostCounts, &settings.counts_per_unit) &&
                     parse_count(words[1], kMostHop, &settings.hop) && parse_count(words[2], kMostStreamAgree, &settings.agree) &&
                     parse_count(words[3], 256, &settings.least_of_256) &&
                     (count == 4 || (parse_count(words[5], most_rate_hz, &rate_hz) && rate_hz > 0));
  if (!whole) {
    return error("bad_argument", "stream off, keep, forget, or COUNTS_PER_UNIT HOP AGREE LEAST_OF_256 and maybe SOURCE RATE_HZ");
  }
  if (!loaded()) return error("no_model", state_);
  if (const Refusal refusal = begin_stream(settings, words[4], rate_hz)) return error(refusal.code, refusal.reason);
  uint32_t window = stream_.window_samples(), hop = stream_.settings().hop;
  if (front_end_.on()) {
    window = (window - 1) * front_end_.tables().step_samples + front_end_.tables().window_samples;
    hop *= front_end_.tables().step_samples;
  }
  Record(output_, head_, "ok")
      .text("command", "stream")
      .number("window_samples", window)
      .number("channels", stream_channels())
      .number("hop_samples", hop);
}

// From a source of the board, or, where it is null, of samples that come in frames. Without a stream where it is refused.
Refusal Board::begin_stream(const StreamSettings& settings, const char* source, uint32_t rate_hz) {
  if (!profile_.scored && profile_.heads == 0 && !Answers::are_probabilities(engine_.output())) {
    return Refusal{"no_probabilities", "detections need a classifier with softmax or sigmoid outputs, or a score"};
  }
  Refusal refusal = start_hearing(settings, source == nullptr ? 0 : rate_hz);
  if (!refusal) refusal = stream_.start(profile_, engine_.input(), settings, front_end_.tables().channels);
  running_ = KeptStream{};
  if (!refusal && source != nullptr) {
    source_open_ = hal::source_open(source, rate_hz, stream_channels(), hal::Missed::repeated);
    if (!source_open_) refusal = Refusal{"no_source", "this board does not have the source, or it does not answer"};
  }
  if (refusal) {
    stop_stream();
  } else if (source != nullptr && std::strlen(source) <= kSourceNameBytes) {
    std::strcpy(running_.source, source);
    running_.rate_hz = rate_hz;
    running_.settings = settings;
  }
  return refusal;
}

LoadGuard Board::stream_guard(uint32_t model) const {
  return LoadGuard(system_.retained == nullptr ? nullptr : system_.retained + LoadGuard::kWords, model);
}

// Once in a boot: what is not asked for in it says nothing of a later one.
void Board::remember_stream_crash() {
  if (system_.retained == nullptr) return;
  crashed_model_ = system_.retained[LoadGuard::kWords + 1];
  stream_crashed_ = stream_guard(crashed_model_).crashed_last_time(system_.reset_reason);
  stream_guard(crashed_model_).end();
}

// `stream keep` and `stream forget`: whether the stream that runs begins by itself from now on, with its model.
void Board::keep_stream(bool on) {
  if (!loaded()) return error("no_model", state_);
  if (!keys_.may_change_rules()) {
    return error("rules_locked", "the keys were locked, or cannot be read: only flashing allows to keep a stream");
  }
  if (on && !(source_open_ && running_.on())) return error("no_stream", "begin a stream from a source of this board first");
  if (const Refusal refusal = record_stream(slot_, model_.sha256, on ? running_ : KeptStream{})) {
    return error(refusal.code, refusal.reason);
  }
  Record(output_, head_, "ok").text("command", on ? "stream keep" : "stream forget");
}

// That of the model which has just come into use. One that cannot begin here is said, and so is one that crashed the board when it
// began: it waits for the next restart, so that somebody can reach the board before.
void Board::begin_kept_stream() {
  constexpr uint64_t kGuardedUs = 10000000;
  const uint32_t model = u32(model_.sha256);
  const bool crashed = stream_crashed_ && crashed_model_ == model;
  stream_crashed_ = false;
  const KeptStream kept = read_stream(slot_, model_.sha256);
  if (!kept.on()) return;
  Refusal refusal{"stream_crashed", "the board crashed within 10 s of this stream's beginning: it begins after the next restart"};
  if (!crashed) {
    LoadGuard guard = stream_guard(model);
    if (!on_trial_) guard.begin();  // a crash is this program's fault, not the stream's
    refusal = begin_stream(kept.settings, kept.source, kept.rate_hz);
    if (!refusal && !on_trial_) stream_trusted_us_ = hal::clock_us() + kGuardedUs;
    if (refusal) guard.end();
  }
  if (!refusal) return;
  ++metrics_.errors;
  Record(output_, head_, "error")
      .text("code", refusal.code)
      .text("reason", refusal.reason)
      .text("slot", edgeward::to_string(slot_))
      .text("stream", kept.source);
}

// Of a model whose inputs are features of sound. `rate_hz` is the source's, 0 where samples come in frames.
Refusal Board::start_hearing(const StreamSettings& settings, uint32_t rate_hz) {
  mean_.start(profile_.averaged);
  heard_ = 0;
  if (profile_.audio == nullptr) return Refusal{};
  if (settings.counts_per_unit != 1) return Refusal{"bad_argument", "sound is heard as it is: counts per unit are 1"};
  const Refusal refusal = front_end_.start(profile_.audio, profile_.audio_bytes);
  if (!refusal && rate_hz > 0 && rate_hz != front_end_.tables().sample_rate_hz) {
    return Refusal{"bad_argument", "the model hears sound of another rate"};
  }
  return refusal;
}

void Board::stop_stream() {
  end_recording("stopped");
  if (source_open_) hal::source_close();
  source_open_ = false;
  running_ = KeptStream{};
  if (stream_trusted_us_ > 0) stream_guard(u32(model_.sha256)).end();
  stream_trusted_us_ = 0;
  stream_.stop();
  runner_.stop_listening();
  rest_rules();
  front_end_.stop();
}

// Samples from the host. Those accepted already are passed over, so a frame can be sent again; one ahead of its turn is
// refused, and `next_sample` says from where.
void Board::feed(const Frame& frame) {
  const uint32_t sample_bytes = 2 * stream_channels();
  const bool whole = frame.body_bytes > kIndexBytes && stream_.on();
  const bool fits = whole && (frame.body_bytes - kIndexBytes) % sample_bytes == 0;
  if (!fits || source_open_) {
    ++metrics_.errors;
    Record(output_, head_, "error")
        .number("id", frame.id)
        .text("code", stream_.on() ? "bad_samples" : "no_stream")
        .text("reason", source_open_ ? "samples come from the board's own source" : "send whole samples to a stream");
    return;
  }
  const uint32_t first = u32(frame.body);
  const uint32_t count = (frame.body_bytes - kIndexBytes) / sample_bytes;
  const uint32_t known = stream_samples() - first;
  if (known <= count) {
    const uint8_t* const values = frame.body + kIndexBytes;
    for (uint32_t i = known * sample_bytes; i < count * sample_bytes; i += 2) take_value(i16(values + i));
  }
  Record(output_, head_, "fed").number("id", frame.id).number("next_sample", stream_samples());
}

// Whether there may be more to read already: sound comes faster than a wait between reads allows.
bool Board::read_source() {
  if (stream_trusted_us_ > 0 && hal::clock_us() >= stream_trusted_us_) {
    stream_guard(u32(model_.sha256)).end();
    stream_trusted_us_ = 0;
  }
  if (recording_.on()) {
    read_recording();
    return false;
  }
  if (!source_open_) return false;
  int16_t values[kValuesAtOnce];
  const size_t count = hal::source_read(values, kValuesAtOnce);
  for (size_t i = 0; i < count; ++i) take_value(values[i]);
  return count == kValuesAtOnce;
}

void Board::take_value(int16_t counts) {
  if (front_end_.on()) return hear(counts);
  if (stream_.push(counts, profile_)) run_window();
}

void Board::hear(int16_t sample) {
  ++heard_;
  if (runner_.listening() && front_end_.due() == 1) runner_.begin_step();
  front_end_.feed(&sample, 1);
  if (!front_end_.complete()) return;
  for (uint32_t i = 0; i < front_end_.tables().channels; ++i) {
    if (stream_.push_feature(front_end_.features()[i], profile_, front_end_.tables().toward_zero != 0)) run_window();
  }
}

// The last window through the model.
void Board::run_window() {
  if (runner_.listening()) return runner_.step(*this);
  const TensorView input = engine_.input();
  stream_.copy_window(input.data);
  observe_input(input.data);
  uint64_t latency_us = 0;
  const Result result = invoke(&latency_us);
  hal::idle(0);  // feeds the watchdog
  if (!result) {
    Record(output_, head_, "error").text("code", edgeward::to_string(result.status)).text("reason", result.reason);
    return act(kNothingSaid);
  }
  HeadsAnswer said;
  if (profile_.heads > 0) said = judge_heads(engine_.output(), profile_.heads);
  Answers::Choice choice = profile_.heads > 0 ? said.choice : Answers::choose(engine_.output());
  float score = 0;
  if (profile_.scored) {  // label 1: unusual
    score = reconstruction_error([this](uint32_t i) { return stream_.window_at(i); }, input, engine_.output());
    choice = Answers::Choice{observe_score(score) ? 1u : 0u, 256};
  }
  bool whole = true;  // as many windows as are averaged
  if (profile_.averaged > 1) {
    whole = mean_.add(engine_.output());
    choice = mean_.choice();
  }
  if (whole && stream_.detect(choice)) {
    Record record(output_, head_, "detect");
    record.number("sample", stream_samples())
        .number("window", stream_.windows())
        .number("label", choice.label)
        .decimal("confidence", choice.of_256 / 256.0)
        .number("agreed", stream_.agreed())
        .number("latency_us", latency_us);
    if (profile_.scored) record.real("score", score);
    if (profile_.heads > 0) record.decimal("spread", said.spread);
  }
  act(whole && is_number(score) ? choice : kNothingSaid);
  observe_output();
}

}  // namespace edgeward
