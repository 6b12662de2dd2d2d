// The commands of the MLPerf Tiny benchmark runner, written from its protocol: name, profile, timestamp, help,
// db load N / db HEX / db print, infer N W, results; and of its streaming wake word start, stop, print_detections
// (mlperf_stream.cpp). Every answer ends with `m-ready`.
//
// A sample is read as the benchmark's reference does for its four models: a byte a value is uint8, of which 128 is taken,
// where the model's zero point is -128 (images), else int8; four bytes a value are float32, quantized as the model says. A
// model that gives back such an input is scored by the mean of the squared differences, which is then the only result.
#pragma once

#include <cstdint>

#include "core/budget.h"
#include "hal/hal.h"

namespace edgeward {

class Board;

class MlperfRunner {
 public:
  // What the runner waits for after a reset.
  void hello(Board& board);

  void command(Board& board, char* line);

  // Outputs of the last model mean nothing in the scale of the next one.
  void forget_results() {
    output_bytes_ = 0;
    scored_ = false;
  }

  // Between `start` and `stop` the steps of the front end are the runner's.
  bool listening() const { return listening_; }
  void stop_listening() { listening_ = false; }
  void begin_step();
  void step(Board& board);

  // Whether `pins` gave the runner this pin; and an end of that.
  bool has_pin(uint32_t pin) const { return has_pins_ && (pin == detected_.number || pin == processing_.number); }
  void drop_pins();

 private:
  void pins(Board& board, const char* detected, const char* processing);
  const char* why_no_pins(const Board& board) const;
  void start(Board& board);
  const char* begin_listening(Board& board);
  void stop(Board& board);
  void print_detections(Board& board);
  bool claim_pins() const;
  bool activations_valid(const Board& board);
  uint32_t say_activations(Board& board);

  void load(Board& board, const char* word);
  void load_hex(Board& board, const char* digits);
  void print(Board& board) const;
  void infer(Board& board, const char* count, const char* warmups);
  void results(Board& board) const;

  enum class Format : uint8_t { none, int8, uint8, float32 };
  Format format(const Board& board) const;
  bool run(Board& board, uint32_t count, Format format);
  // float32 to int8, put behind the sample. False where a value is not finite.
  bool quantize(Board& board) const;
  void fill_input(const Board& board, Format format) const;
  float score(const Board& board) const;

  // The sample lies in the board's frame buffer; a binary frame voids it.
  bool sample_valid(const Board& board) const;

  uint32_t expected_bytes_ = 0;
  uint32_t loaded_bytes_ = 0;
  uint32_t frames_seen_ = 0;
  uint32_t output_bytes_ = 0;
  bool scored_ = false;
  float score_ = 0.0f;
  bool listening_ = false;
  bool has_pins_ = false;
  bool void_ = false;         // something else was in the board's frame buffer since `start`
  hal::Pin detected_ = {};    // low for a moment at each detection
  hal::Pin processing_ = {};  // high while a step is computed
  uint32_t steps_ = 0;        // since `start`
  uint32_t kept_ = 0;         // of them the activations that lie in the board's frame buffer
  float ms_per_step_ = 0.0f;
  int8_t outputs_[kOutputBytes] = {};
};

}  // namespace edgeward
