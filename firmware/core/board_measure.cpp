// What the board learns from its inferences: answers, drift of the inputs, and on request how long each operator takes.
#include <cstring>

#include "core/board.h"
#include "core/crc.h"
#include "core/text.h"

namespace edgeward {
namespace {

constexpr uint32_t kMaxDriftRows = 1000000;
constexpr uint32_t kMaxBenchRuns = 10000;
constexpr uint32_t kKnownAnswerHeadBytes = 12;

}  // namespace

// Before an inference on `sample`.
void Board::observe_input(const int8_t* sample) {
  if (drift_rows_ > 0) drift_.add(profile_, sample, engine_.input().bytes);
}

// After it, while its outputs are still in the engine.
void Board::observe_output() {
  if (profile_.heads > 0) {
    const HeadsAnswer said = judge_heads(engine_.output(), profile_.heads);
    metrics_.answers.add(said.choice, said.classes);
  } else {
    metrics_.answers.add(engine_.output());
  }
  if (drift_rows_ > 0 && drift_.rows() >= drift_rows_) send_drift();
}

// Counts a score; whether it is above the model's threshold.
bool Board::observe_score(float score) {
  const bool over = score > profile_.threshold;
  if (over) ++metrics_.over;
  return over;
}

void Board::send_drift() {
  uint32_t worst = 0;
  double index[kDriftGroups];
  for (uint32_t group = 0; group < profile_.groups; ++group) {
    index[group] = drift_.index(profile_, group);
    if (index[group] > index[worst]) worst = group;
  }
  last_index_ = index[worst];
  {
    Record record(output_, head_, "drift");
    record.number("rows", drift_.rows())
        .number("reference_rows", profile_.rows)
        .decimal("psi", index[worst])
        .number("group", worst)
        .decimals("psi_of_groups", index, profile_.groups);
  }
  drift_.reset();
}

void Board::drift_rows(const char* argument) {
  uint32_t rows = 0;
  if (!parse_count(argument, kMaxDriftRows, &rows)) {
    return error("bad_argument", "drift rows takes a number of inferences, 0 to 1000000");
  }
  if (uplink_.is_open() && rows > 0 && rows < kTogether) {
    return error("bad_argument", "on a network a drift record is about 32 inferences or more");
  }
  if (loaded() && profile_.groups == 0) return error("no_reference", "the model carries no reference distribution");
  drift_rows_ = rows;
  drift_.reset();
  Record(output_, head_, "ok").text("command", "drift rows").number("rows", rows);
}

// Puts the first known answer's input into the engine; zeros where the model carries none.
void Board::bench_row() {
  const TensorView input = engine_.input();
  const Section answers = model_.known_answers;
  if (answers.bytes >= kKnownAnswerHeadBytes + input.bytes) {
    std::memcpy(input.data, model_data_ + answers.offset + kKnownAnswerHeadBytes, input.bytes);
  } else {
    std::memset(input.data, 0, input.bytes);
  }
  hal::idle(0);  // feeds the watchdog
  run_rules(0);
}

void Board::bench(const char* argument) {
  uint32_t runs = 0;
  if (!parse_count(argument, kMaxBenchRuns, &runs) || runs == 0) {
    return error("bad_argument", "bench takes a number of inferences, 1 to 10000");
  }
  if (!loaded()) return error("no_model", state_);
  if (state_in_use()) return error(kStreamOn, kStreamOnReason);
  if (!rewind()) return;
  LatencyHistogram latency;
  uint64_t total_us = 0;
  for (uint32_t i = 0; i < runs; ++i) {
    bench_row();
    const uint64_t start_us = hal::clock_us();
    const Result result = engine_.invoke();
    if (!result) {
      rewind();
      return error(edgeward::to_string(result.status), result.reason);
    }
    const uint64_t took_us = hal::clock_us() - start_us;
    latency.add(took_us);
    total_us += took_us;
  }
  const uint32_t crc = crc32(reinterpret_cast<const uint8_t*>(engine_.output().data), engine_.output().bytes);
  if (!rewind()) return;
  std::memset(op_times_, 0, sizeof op_times_);
  for (uint32_t i = 0; i < runs; ++i) {
    bench_row();
    const Result result = engine_.invoke_timed(hal::clock_us, op_times_, kTimedOperators);
    if (!result) {
      rewind();
      return error(edgeward::to_string(result.status), result.reason);
    }
  }
  if (!rewind()) return;
  if (total_us == 0) return error("clock_stands", "the clock did not move: ask for more inferences");
  const uint32_t ops = engine_.op_count() < kTimedOperators ? engine_.op_count() : kTimedOperators;
  for (uint32_t i = 0; i < ops; ++i) {
    if (op_times_[i].name == nullptr) continue;
    Record(output_, head_, "op")
        .text("name", op_times_[i].name)
        .signed_number("op", op_times_[i].op)
        .number("runs", runs)
        .number("total_us", op_times_[i].us);
  }
  Record(output_, head_, "bench")
      .number("runs", runs)
      .number("ops", ops)
      .number("total_us", total_us)
      .number("latency_min_us", latency.least_us())
      .number("latency_p50_us", latency.percentile_us(50))
      .number("latency_p99_us", latency.percentile_us(99))
      .number("latency_max_us", latency.most_us())
      .number("output_crc32", crc);
}

}  // namespace edgeward
