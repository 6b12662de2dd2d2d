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
    line(out, "m-commands-[name, profile, timestamp, help, db load N, db HEX, db print, infer N W, results]");
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
  if (word == nullptr) return line(out, "e-[Command 'db load' requires the # of bytes]");
  if (!parse_number(word, &bytes) || bytes == 0) return line(out, "e-[Command 'db load' must be >0 bytes]");
  if (bytes > kSampleBytes) return line(out, "e-[Command 'db load': more bytes than the sample buffer]");
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
  const uint32_t wanted = board.engine_.input().bytes;
  if (!sample_valid(board) || loaded_bytes_ != expected_bytes_ || loaded_bytes_ != wanted) {
    out.text("e-[Load ");
    out.number(wanted);
    return line(out, " bytes first]");
  }
  line(out, "m-warmup-start-", warm);
  if (!run(board, warm)) return line(out, "e-[Inference failed]");
  line(out, "m-warmup-done");
  line(out, "m-infer-start-", runs);
  line(out, "m-lap-us-", hal::clock_us());
  out.flush();
  const bool done = run(board, runs);
  line(out, "m-lap-us-", hal::clock_us());
  if (!done) return line(out, "e-[Inference failed]");
  line(out, "m-infer-done");
  results(board);
}

bool MlperfRunner::run(Board& board, uint32_t count) {
  for (uint32_t i = 0; i < count; ++i) {
    const TensorView input = board.engine_.input();
    std::memcpy(input.data, board.sample_, input.bytes);  // the last run has overwritten it
    uint64_t latency_us = 0;
    if (!board.invoke(&latency_us)) return false;
    hal::idle(0);
  }
  const TensorView output = board.engine_.output();
  output_bytes_ = output.bytes < kOutputBytes ? output.bytes : kOutputBytes;
  if (count > 0) std::memcpy(outputs_, output.data, output_bytes_);
  return true;
}

// Real values with three decimals, rounded half away from zero.
void MlperfRunner::results(Board& board) const {
  Output& out = board.output_;
  const TensorView output = board.engine_.output();
  out.text("m-results-[");
  for (uint32_t i = 0; i < output_bytes_; ++i) {
    const float value = output.scale * static_cast<float>(outputs_[i] - output.zero_point) * 1000.0f;
    const auto thousandths = static_cast<int64_t>(value < 0 ? value - 0.5f : value + 0.5f);
    const uint64_t size = static_cast<uint64_t>(thousandths < 0 ? -thousandths : thousandths);
    if (i > 0) out.put(',');
    if (thousandths < 0) out.put('-');
    out.number(size / 1000);
    out.put('.');
    for (uint64_t unit = 100; unit > 0; unit /= 10) out.put(static_cast<char>('0' + size / unit % 10));
  }
  line(out, "]");
}

}  // namespace edgeward
