// The firmware: a model in a slot, commands in, records out. One object, one thread, no heap.
//
// Commands, each a line of text:
//   info                what this board and its model are
//   metrics             one metrics record now
//   metrics rate MS     one every MS milliseconds; 0 stops them
//   metrics clear       counters and histogram back to zero
//   bench N             N inferences on the first known answer, and what each operator took
//   drift rows N        compares inputs with the training data every N inferences; 0 stops
//   stream ...          runs the model on a stream of samples (core/board_stream.cpp)
//   record ...          sends raw samples of a source, where flashing allowed it (core/board_recording.cpp)
//   selftest            runs the known answers the model carries
//   reset               what the model keeps between inferences back to its beginning
//   reload              chooses and loads a model again, even one that crashed the board
//   rollback            goes back to the model in the other slot
//   key list, key set HEX, key remove HEX, key lock
//                       whose signature a model needs (core/board_keys.cpp)
//   rule list, rule set ..., rule remove N, rule clear
//                       what it does by itself about what its model says (core/board_rules.cpp)
//   network             where the board belongs when it has a radio (core/board_network.cpp)
//   reboot
// Samples and new models come as binary frames (core/input_parser.h). Commands ended by % are the MLPerf Tiny runner's
// (core/mlperf.h). All of it, with the records that answer, is in docs/serial.md.
//
// A model may keep state from one inference to the next. It begins with its initial values when the model is loaded and on
// `reset`, and goes on with every sample in a frame. A stream begins with them, too, and has the state to itself: as long as
// it runs, samples in frames, `reset`, `selftest`, `bench` and the runner's `infer` are refused with the code stream_on.
// `selftest`, `bench`, the runner's `infer` and the end of a stream leave the initial values. Known answers are run from
// them in their order. Of a model without state none of this changes anything.
#pragma once

#include <cstdint>

#include "audio/front_end.h"
#include "core/drift.h"
#include "core/firmware_updater.h"
#include "core/heads.h"
#include "core/input_parser.h"
#include "core/input_profile.h"
#include "core/keys.h"
#include "core/known_answers.h"
#include "core/load_guard.h"
#include "core/metrics.h"
#include "core/mlperf.h"
#include "core/model_header.h"
#include "core/output.h"
#include "core/rules.h"
#include "core/running_mean.h"
#include "core/score.h"
#include "core/settings.h"
#include "core/slots.h"
#include "core/stream.h"
#include "core/updater.h"
#include "core/uplink.h"
#include "engine/engine.h"
#include "hal/hal.h"

namespace edgeward {

constexpr char kFirmwareVersion[] = "0.1.0";

// Inferences between two drift records until the host says otherwise.
constexpr uint32_t kDriftRows = 256;

// Samples on their way from a source to the host.
struct Recording {
  uint32_t channels = 0;  // 0: nothing is recorded
  uint32_t samples = 0;   // after so many it ends by itself; those that were missed count
  uint32_t next = 0;      // number of the sample after those below
  uint32_t used = 0;      // of values
  uint64_t since_us = 0;  // when the first of them came
  int16_t values[kRecordingValues] = {};

  bool on() const { return channels > 0; }
};
constexpr char kStreamOn[] = "stream_on";
constexpr char kStreamOnReason[] = "the model keeps state, and a stream goes on with it: stream off first";

class Board {
 public:
  // `arena` is 16-byte aligned.
  Board(Engine& engine, uint8_t* arena, uint32_t arena_bytes);

  // Says hello and loads the model. A model that cannot be loaded leaves a board that answers and says why.
  void start();

  // Handles what has arrived and waits up to `max_wait_us` if that was nothing. Returns whether there was something.
  bool step(uint32_t max_wait_us);

 private:
  friend class MlperfRunner;

  // board_model.cpp: which model runs, and how another one takes its place.
  void load_model(bool also_crashed);
  Refusal load_slot(const SlotState& state);
  Refusal prepare(const uint8_t* data, const uint8_t* header_bytes, const ModelHeader& header, bool prove);
  void take(hal::Slot slot, const uint8_t* data, const ModelHeader& header);
  void refuse_slot(const SlotState& state, const Refusal& refusal);
  void update_begin(const Frame& frame);
  void update_chunk(const Frame& frame);
  void update_commit(const Frame& frame);
  void send_update(uint32_t id, const char* state, const Refusal& refusal, bool changed = true);
  void rollback();
  hal::Slot update_target() const;

  // board_firmware.cpp: another program in place of this one.
  void firmware_begin(const Frame& frame);
  void firmware_commit(const Frame& frame);
  void read_own_program();
  void begin_trial();
  void step_trial();
  void end_trial(const char* code, const char* reason);
  void keep_program();

  // Every output off first.
  [[noreturn]] void restart();

  void handle(InputEvent event);
  void command(const char* line);
  void frame(const Frame& frame);
  void infer(const Frame& frame);
  void send_info();
  const char* signature_state() const;
  void send_metrics();
  void metrics_rate(const char* argument);
  void selftest();

  // board_keys.cpp
  void key_command(const char* argument);

  // board_network.cpp: records to a broker, orders from there.
  void start_network();
  bool step_network();
  void network_message(uint32_t bytes);
  bool is_ordered(const Frame& frame) const;
  void obey(uint32_t bytes);
  bool may_answer();
  void refuse_order(const Refusal& refusal, uint64_t claimed = 0);
  void send_network();
  void settings_frame(const Frame& frame);

  // board_measure.cpp: what is learned from inferences.
  void observe_input(const int8_t* sample);
  void observe_output();
  bool observe_score(float score);
  void send_drift();
  void drift_rows(const char* argument);
  void bench(const char* argument);
  void bench_row();

  // board_stream.cpp: windows of samples through the engine.
  void stream_command(char* arguments);
  void keep_stream(bool on);
  Refusal begin_stream(const StreamSettings& settings, const char* source, uint32_t rate_hz);
  void begin_kept_stream();
  void remember_stream_crash();
  LoadGuard stream_guard(uint32_t model) const;
  Refusal start_hearing(const StreamSettings& settings, uint32_t rate_hz);
  void stop_stream();
  void feed(const Frame& frame);
  bool read_source();
  void take_value(int16_t counts);
  void hear(int16_t sample);
  void run_window();
  uint32_t stream_samples() const { return front_end_.on() ? heard_ : stream_.samples(); }
  uint32_t stream_channels() const { return front_end_.on() ? 1 : profile_.channels; }

  // board_rules.cpp: what it does about what its model says.
  void load_rules();
  void rule_command(char* arguments);
  Refusal change_rule(const Rule& rule);
  const char* why_no_pin(uint32_t pin) const;
  Refusal admit(const Rule& rule) const;
  void send_rules();
  void act(const Answers::Choice& choice);
  void begin_action(const Rule& rule, const Answers::Choice& choice);
  void rest_rules();
  uint32_t run_rules(uint32_t max_wait_us);

  // board_recording.cpp: raw samples to the host.
  void record_command(char* arguments);
  void read_recording();
  void record_value(int16_t counts);
  void send_samples();
  void end_recording(const char* why);
  void error(const char* code, const char* reason);
  bool loaded() const { return state_ == nullptr; }

  // Whether a stream goes on with the state of the model, which nothing else may touch then.
  bool state_in_use() const { return stream_.on() && engine_.state_bytes() > 0; }

  // The model's state back to its initial values. False where that failed: then there is no model any more, and an error was
  // sent.
  bool rewind();
  void reset_state();

  // Runs the engine on what is in its input and counts it.
  Result invoke(uint64_t* latency_us);

  Engine& engine_;
  uint8_t* const arena_;
  const uint32_t arena_bytes_;
  hal::SystemInfo system_;
  RecordHead head_;
  ModelHeader model_ = {};
  hal::Slot slot_ = hal::Slot::a;
  const uint8_t* model_data_ = nullptr;
  const char* state_ = "not_loaded";  // why there is no model; null when one is loaded
  Updater updater_;
  FirmwareUpdater firmware_;
  bool has_places_ = false;                  // of programs; `place_` and `program_` say nothing without
  hal::Slot place_ = hal::Slot::app_a;       // of the program that runs
  FirmwareHeader program_;                   // without a digest where a flasher brought it
  Before before_;                            // what the program before knew
  bool on_trial_ = false;
  uint64_t trial_until_us_ = 0;
  Keys keys_;
  bool verified_ = false;  // the model in use was signed by one of keys_ when it was loaded
  Metrics metrics_;
  InputProfile profile_;
  Drift drift_;
  uint32_t drift_rows_ = kDriftRows;
  double last_index_ = -1.0;  // of the last drift record; none yet
  Stream stream_;
  AudioFrontEnd front_end_;  // on while a model that hears has a stream
  uint32_t heard_ = 0;       // samples it has been given since; wraps
  RunningMean mean_;
  bool source_open_ = false;
  KeptStream running_;       // the stream from a source that was begun last
  bool stream_crashed_ = false;     // the last boot, and nobody has said so yet
  uint32_t crashed_model_ = 0;      // whose it was
  uint64_t stream_trusted_us_ = 0;  // from when on a stream that began by itself is not what crashes; 0: nothing is guarded
  Recording recording_;
  RuleSet rules_;
  RuleWatch watches_[kMaxRules];
  OpTime op_times_[kTimedOperators] = {};
  uint32_t metrics_every_us_ = 0;
  uint64_t metrics_next_us_ = 0;
  uint64_t last_input_us_ = 0;
  Settings settings_;
  Uplink uplink_;
  uint8_t message_[kMessageBytes] = {};   // from the network
  bool has_place_ = false;                // in a network; also where its settings cannot be read
  bool was_connected_ = false;
  bool presence_due_ = false;
  uint64_t quiet_until_us_ = 0;
  uint64_t answers_from_us_ = 0;          // to what nobody ordered, or changed nothing
  uint64_t update_order_ = 0;             // of the last update that was ordered; 0 for none
  bool update_due_ = false;               // it has not begun
  uint8_t ordered_header_[kSha256Bytes] = {};
  bool by_network_ = false;               // the update that is open
  Output output_;
  uint8_t sample_[kFrameBytes] = {};
  InputParser parser_;
  MlperfRunner runner_;
};

static_assert(sizeof(Board) <= kCoreBudgetBytes + kAudioFrontEndBytes, "core/budget.h says what the core may use");

// start() and step() for ever.
[[noreturn]] void run_board(Board& board);

}  // namespace edgeward
