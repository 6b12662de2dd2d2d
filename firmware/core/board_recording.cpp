// Raw samples of a source to the host, in records: `record SOURCE RATE_HZ CHANNELS SAMPLES`, `record off`, `record forbid`.
//
// They may be a patient's, so no command allows them: an entry in the sector of the keys does, which only a flasher writes. A
// recording ends after SAMPLES, and when the host falls silent: a port does not go on saying them to whatever opens it next.
#include <cstring>

#include "core/board.h"
#include "core/text.h"

namespace edgeward {
namespace {

constexpr uint32_t kMaxRateHz = 10000;
constexpr uint32_t kMaxChannels = 32;
constexpr uint32_t kMaxSamples = INT32_MAX;
constexpr uint32_t kSendUs = 200000;       // no sample waits longer for others
constexpr uint32_t kPatienceUs = 5000000;  // with a host that says nothing
constexpr size_t kValuesAtOnce = 64;
constexpr int kReadsAtOnce = 8;
static_assert(kMaxChannels <= kRecordingValues, "a record holds a whole sample");

}  // namespace

void Board::record_command(char* arguments) {
  char* rest = arguments;
  const char* words[4] = {};
  uint32_t count = 0;
  while (count < 4 && (words[count] = next_word(&rest)) != nullptr) ++count;
  const bool off = count == 1 && std::strcmp(words[0], "off") == 0;
  const bool forbid = count == 1 && std::strcmp(words[0], "forbid") == 0;
  Recording asked;
  uint32_t rate_hz = 0;
  const bool whole = count == 4 && next_word(&rest) == nullptr && parse_count(words[1], kMaxRateHz, &rate_hz) && rate_hz > 0 &&
                     parse_count(words[2], kMaxChannels, &asked.channels) && asked.channels > 0 &&
                     parse_count(words[3], kMaxSamples, &asked.samples) && asked.samples > 0;
  if (!off && !forbid && !whole) {
    return error("bad_argument", "record off, record forbid, or record SOURCE RATE_HZ CHANNELS SAMPLES");
  }
  if (off && !recording_.on()) {
    Record(output_, head_, "recorded").number("samples", 0).text("why", "off");
    return;
  }
  if (whole && !keys_.may_record()) {
    return error("recording_not_allowed", "this board sends no raw samples: only flashing it allows that");
  }
  stop_stream();
  if (loaded() && !rewind()) return;
  if (off) return;
  if (forbid) {
    const Refusal refusal = forbid_recording();
    keys_ = read_keys();
    if (refusal) return error(refusal.code, refusal.reason);
    Record(output_, head_, "ok").text("command", "record forbid");
    return;
  }
  source_open_ = hal::source_open(words[0], rate_hz, asked.channels, hal::Missed::counted);
  if (!source_open_) {
    return error("no_source", "this board does not have the source with so many channels, or it does not answer");
  }
  recording_ = asked;
  Record(output_, head_, "ok")
      .text("command", "record")
      .number("rate_hz", rate_hz)
      .number("channels", asked.channels)
      .number("samples", asked.samples);
}

void Board::read_recording() {
  if (hal::clock_us() - last_input_us_ >= kPatienceUs) return end_recording("silence");
  int16_t values[kValuesAtOnce];
  size_t count = kValuesAtOnce;
  for (int reads = 0; reads < kReadsAtOnce && count > 0 && recording_.on(); ++reads) {
    count = hal::source_read(values, kValuesAtOnce);
    for (size_t i = 0; i < count && recording_.on(); ++i) record_value(values[i]);
  }
  if (!recording_.on()) return;
  const uint32_t missed = count == 0 ? hal::source_missed() : 0;
  if (missed > 0) {
    send_samples();  // the next record begins behind the gap
    const uint32_t left = recording_.samples - recording_.next;
    recording_.next += missed < left ? missed : left;
    if (recording_.next == recording_.samples) return end_recording("whole");
  }
  if (recording_.used > 0 && hal::clock_us() - recording_.since_us >= kSendUs) send_samples();
}

void Board::record_value(int16_t counts) {
  if (recording_.used == 0) recording_.since_us = hal::clock_us();
  recording_.values[recording_.used++] = counts;
  if (recording_.used % recording_.channels != 0) return;
  ++recording_.next;
  if (recording_.next == recording_.samples) return end_recording("whole");
  if (recording_.used + recording_.channels > kRecordingValues) send_samples();
}

// Sends the whole samples that wait. Every target is little-endian, as the record is.
void Board::send_samples() {
  if (recording_.used == 0 || recording_.used % recording_.channels != 0) return;
  Record(output_, head_, "samples")
      .number("first_sample", recording_.next - recording_.used / recording_.channels)
      .number("of_channels", recording_.channels)
      .bytes("values", reinterpret_cast<const uint8_t*>(recording_.values), 2 * recording_.used);
  recording_.used = 0;
}

void Board::end_recording(const char* why) {
  if (!recording_.on()) return;
  recording_.used -= recording_.used % recording_.channels;
  send_samples();
  Record(output_, head_, "recorded").number("samples", recording_.next).text("why", why);
  recording_ = Recording{};
  hal::source_close();
  source_open_ = false;
}

}  // namespace edgeward
