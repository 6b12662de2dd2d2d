// The commands of the MLPerf Tiny benchmark runner, written from its protocol: name, profile, timestamp, help,
// db load N / db HEX / db print, infer N W, results. Every answer ends with `m-ready`.
#pragma once

#include <cstdint>

#include "core/budget.h"

namespace edgeward {

class Board;

class MlperfRunner {
 public:
  // What the runner waits for after a reset.
  void hello(Board& board);

  void command(Board& board, char* line);

  // Outputs of the last model mean nothing in the scale of the next one.
  void forget_results() { output_bytes_ = 0; }

 private:
  void load(Board& board, const char* word);
  void load_hex(Board& board, const char* digits);
  void print(Board& board) const;
  void infer(Board& board, const char* count, const char* warmups);
  void results(Board& board) const;
  bool run(Board& board, uint32_t count);

  // The sample lies in the board's frame buffer; a binary frame voids it.
  bool sample_valid(const Board& board) const;

  uint32_t expected_bytes_ = 0;
  uint32_t loaded_bytes_ = 0;
  uint32_t frames_seen_ = 0;
  uint32_t output_bytes_ = 0;
  int8_t outputs_[kOutputBytes] = {};
};

}  // namespace edgeward
