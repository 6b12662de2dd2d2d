#include "core/mlperf.h"

#include <cstring>

#include "core/board.h"
#include "core/text.h"
#include "hal/hal.h"

namespace edgeward {
namespace {

constexpr uint32_t kDefaultWarmups = 10;
constexpr uint32_t kMaxRuns = 1000000;
constexpr uint32_t kBytesPerPrintedLine = 8;
constexpr uint32_t kFloatBytes = 4;
constexpr double kFar = 1000.0;
constexpr float kLargestPrinted = 1e15f;

bool parse_number(const char* word, uint32_t* out) {
  uint32_t value = 0;
  for (const char* p = word; *p; ++p) {
    if (*p < '0' || *p > '9' || value > kMaxRuns) return false;
    value = value * 10 + static_cast<uint32_t>(*p - '0');
  }
  *out = value;
  return *word != 0;
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

void line(Output& out, const char* text) {
  out.text(text);
  out.text("\r\n");
}

void line(Output& out, const char* text, uint64_t value) {
  out.text(text);
  out.number(value);
  out.text("\r\n");
}

void bracketed(Output& out, const char* before, const char* text) {
  out.text(before);
  // What a host sent comes back printable, so that it cannot pass for a line of our own.
  for (; *text; ++text) out.put(*text >= 0x20 && *text < 0x7F ? *text : '?');
  out.text("]\r\n");
}

// With three decimals, rounded half away from zero.
void real_value(Output& out, float value) {
  if (!(value < kLargestPrinted && value > -kLargestPrinted)) return out.text(value < 0 ? "-inf" : "inf");
  const float scaled = value * 1000.0f;
  const auto thousandths = static_cast<int64_t>(scaled < 0 ? scaled - 0.5f : scaled + 0.5f);
  const uint64_t size = static_cast<uint64_t>(thousandths < 0 ? -thousandths : thousandths);
  if (thousandths < 0) out.put('-');
  out.number(size / 1000);
  out.put('.');
  for (uint64_t unit = 100; unit > 0; unit /= 10) out.put(static_cast<char>('0' + size / unit % 10));
}

float float_at(const uint8_t* sample, uint32_t place) {
  float value = 0.0f;
  std::memcpy(&value, sample + kFloatBytes * place, kFloatBytes);
  return value;
}

// A zero point of -128 leaves nothing below 0: such a model is given what a camera gives.
bool is_image(const TensorView& input) { return input.zero_point == -128; }

}  // namespace

void MlperfRunner::hello(Board& board) {
  Output& out = board.output_;
  line(out, "m-timestamp-mode-performance");
  line(out, "m-lap-us-", hal::clock_us());
  line(out, "m-init-done");
  line(out, "m-ready");
  out.flush();
}

void MlperfRunner::command(Board& board, char* text) {
  Output& out = board.output_;
  char* rest = text;
  char* const word = next_word(&rest);
  const auto is = [word](const char* name) { return word != nullptr && std::strcmp(word, name) == 0; };
  if (is("name")) {
    line(out, "m-name-dut-[edgeward]");
  } else if (is("profile")) {
    line(out, "m-profile-[MLPerf Tiny, edgeward 0.1.0]");
    bracketed(out, "m-model-[", board.loaded() ? board.model_.name : "none");
  } else if (is("timestamp")) {
    line(out, "m-lap-us-", hal::clock_us());
  } else if (is("help")) {
    line(out,
         "m-commands-[name, profile, timestamp, help, db load N, db HEX, db print, infer N W, results, start, stop, "
         "print_detections, pins DETECTED PROCESSING]");
  } else if (is("db")) {
    const char* const what = next_word(&rest);
    if (what == nullptr) {
      line(out, "e-[Command 'db' requires a subcommand]");
    } else if (std::strcmp(what, "load") == 0) {
      load(board, next_word(&rest));
    } else if (std::strcmp(what, "print") == 0) {
      print(board);
    } else {
      load_hex(board, what);
    }
  } else if (is("infer")) {
    const char* const count = next_word(&rest);
    infer(board, count, next_word(&rest));
  } else if (is("results")) {
    results(board);
  } else if (is("start")) {
    start(board);
  } else if (is("stop")) {
    stop(board);
  } else if (is("print_detections")) {
    print_detections(board);
  } else if (is("pins")) {
    const char* const detected = next_word(&rest);
    pins(board, detected, next_word(&rest));
  } else {
    bracketed(out, "e-[Unknown command: ", word == nullptr ? "" : word);
  }
  line(out, "m-ready");
  out.flush();
}

bool MlperfRunner::sample_valid(const Board& board) const {
  return expected_bytes_ > 0 && frames_seen_ == board.parser_.frames_begun();
}

void MlperfRunner::load(Board& board, const char* word) {
  Output& out = board.output_;
  uint32_t bytes = 0;
  expected_bytes_ = loaded_bytes_ = 0;
  void_ = true;
  if (word == nullptr) return line(out, "e-[Command 'db load' requires the # of bytes]");
  if (!parse_number(word, &bytes) || bytes == 0) return line(out, "e-[Command 'db load' must be >0 bytes]");
  const uint32_t values = board.loaded() ? board.engine_.input().bytes : 0;
  const uint32_t quantized = values > 0 && bytes / kFloatBytes == values && bytes % kFloatBytes == 0 ? values : 0;
  if (bytes > kSampleBytes - quantized) return line(out, "e-[Command 'db load': more bytes than the sample buffer]");
  expected_bytes_ = bytes;
  frames_seen_ = board.parser_.frames_begun();
  out.text("m-[Expecting ");
  out.number(bytes);
  line(out, " bytes]");
}

void MlperfRunner::load_hex(Board& board, const char* digits) {
  Output& out = board.output_;
  if (!sample_valid(board)) return line(out, "e-[Command 'db' before 'db load']");
  const size_t length = std::strlen(digits);
  if (length % 2 != 0) return line(out, "e-[Insufficient number of hex digits]");
  for (size_t i = 0; i < length; i += 2) {
    const int high = hex_digit(digits[i]);
    const int low = hex_digit(digits[i + 1]);
    if (high < 0 || low < 0) return line(out, "e-[Invalid hex digit]");
    if (loaded_bytes_ == expected_bytes_) return line(out, "e-[More bytes than 'db load' announced]");
    board.sample_[loaded_bytes_++] = static_cast<uint8_t>(high << 4 | low);
  }
  if (loaded_bytes_ == expected_bytes_) line(out, "m-load-done");
}

void MlperfRunner::print(Board& board) const {
  Output& out = board.output_;
  if (!sample_valid(board)) return line(out, "e-[Nothing loaded]");
  for (uint32_t i = 0; i < loaded_bytes_; ++i) {
    out.text(i % kBytesPerPrintedLine == 0 ? "m-buffer-" : "-");
    out.hex(board.sample_[i]);
    if ((i + 1) % kBytesPerPrintedLine == 0 || i + 1 == loaded_bytes_) line(out, "");
  }
}

void MlperfRunner::infer(Board& board, const char* count, const char* warmups) {
  Output& out = board.output_;
  uint32_t runs = 1;
  uint32_t warm = kDefaultWarmups;
  if (count != nullptr && (!parse_number(count, &runs) || runs == 0)) {
    return line(out, "e-[Inference count must be greater than zero]");
  }
  if (warmups != nullptr && !parse_number(warmups, &warm)) return line(out, "e-[Bad number of warmups]");
  if (!board.loaded()) return bracketed(out, "e-[No model: ", board.state_);
  if (board.state_in_use()) return line(out, "e-[The model keeps state, and a stream goes on with it: stream off first]");
  const uint32_t wanted = board.engine_.input().bytes;
  const Format sample = format(board);
  if (sample == Format::none) {
    out.text("e-[Load ");
    out.number(wanted);
    return line(out, " bytes first]");
  }
  if (sample == Format::float32 && !quantize(board)) {
    return line(out, "e-[The sample holds a value that is no finite number]");
  }
  line(out, "m-warmup-start-", warm);
  if (!board.rewind() || !run(board, warm, sample)) return line(out, "e-[Inference failed]");
  if (!board.rewind()) return line(out, "e-[Inference failed]");
  line(out, "m-warmup-done");
  line(out, "m-infer-start-", runs);
  line(out, "m-lap-us-", hal::clock_us());
  out.flush();
  const bool done = run(board, runs, sample);
  line(out, "m-lap-us-", hal::clock_us());
  if (!board.rewind() || !done) return line(out, "e-[Inference failed]");
  line(out, "m-infer-done");
  results(board);
}

MlperfRunner::Format MlperfRunner::format(const Board& board) const {
  const uint64_t values = board.engine_.input().bytes;
  if (!sample_valid(board) || loaded_bytes_ != expected_bytes_) return Format::none;
  if (loaded_bytes_ == values) return is_image(board.engine_.input()) ? Format::uint8 : Format::int8;
  return loaded_bytes_ == kFloatBytes * values ? Format::float32 : Format::none;
}

bool MlperfRunner::quantize(Board& board) const {
  const TensorView input = board.engine_.input();
  for (uint32_t i = 0; i < input.bytes; ++i) {
    const float value = float_at(board.sample_, i);
    if (!(value - value == 0.0f)) return false;
    const double steps = static_cast<double>(value / input.scale);
    // Half away from zero. What is far outside int8 is cut off before it becomes a whole number.
    const double away = steps < 0 ? steps - 0.5 : steps + 0.5;
    const int32_t whole = static_cast<int32_t>(away < -kFar ? -kFar : away > kFar ? kFar : away) + input.zero_point;
    board.sample_[loaded_bytes_ + i] = static_cast<uint8_t>(whole < -128 ? -128 : whole > 127 ? 127 : whole);
  }
  return true;
}

void MlperfRunner::fill_input(const Board& board, Format format) const {
  const TensorView input = board.engine_.input();
  std::memcpy(input.data, board.sample_ + (format == Format::float32 ? loaded_bytes_ : 0), input.bytes);
  if (format != Format::uint8) return;
  for (uint32_t i = 0; i < input.bytes; ++i) input.data[i] = static_cast<int8_t>(board.sample_[i] ^ 0x80);
}

float MlperfRunner::score(const Board& board) const {
  const TensorView output = board.engine_.output();
  float sum = 0.0f;
  for (uint32_t i = 0; i < output.bytes; ++i) {
    const float real = static_cast<float>(output.data[i] - output.zero_point) * output.scale;
    const float difference = real - float_at(board.sample_, i);
    sum += difference * difference;
  }
  return sum / static_cast<float>(output.bytes);
}

bool MlperfRunner::run(Board& board, uint32_t count, Format format) {
  for (uint32_t i = 0; i < count; ++i) {
    fill_input(board, format);  // the last run has overwritten it
    uint64_t latency_us = 0;
    if (!board.invoke(&latency_us)) return false;
    hal::idle(0);
  }
  if (count == 0) return true;
  const TensorView output = board.engine_.output();
  output_bytes_ = output.bytes < kOutputBytes ? output.bytes : kOutputBytes;
  std::memcpy(outputs_, output.data, output_bytes_);
  scored_ = format == Format::float32 && output.bytes == board.engine_.input().bytes;
  if (scored_) score_ = score(board);
  return true;
}

void MlperfRunner::results(Board& board) const {
  Output& out = board.output_;
  const TensorView output = board.engine_.output();
  out.text("m-results-[");
  if (scored_) {
    real_value(out, score_);
  } else {
    for (uint32_t i = 0; i < output_bytes_; ++i) {
      if (i > 0) out.put(',');
      real_value(out, output.scale * static_cast<float>(outputs_[i] - output.zero_point));
    }
  }
  line(out, "]");
}

}  // namespace edgeward
