// Bytes from the host to events: a state machine without I/O, clock or allocation.
//
// Three things share the line: text commands ended by CR or LF, the MLPerf Tiny runner's commands ended by '%', and
// binary frames. A frame is 0x00, COBS bytes, 0x00; decoded it is u8 type, u32 id, body, u16 CRC-16 of all before it
// (little-endian). Text never contains 0x00. Whatever is damaged costs itself and at most one frame after it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/budget.h"

namespace edgeward {

enum class FrameType : uint8_t {
  infer = 0x01,  // body: the int8 input
  update_begin = 0x10,   // body: the header of model.bin
  update_chunk = 0x11,   // body: u32 offset in model.bin, bytes
  update_commit = 0x12,  // no body
  samples = 0x20,        // body: u32 number of the first sample, int16 values
  settings = 0x30,       // body: entries of core/settings.h, or nothing
};

enum class InputEvent : uint8_t {
  none,
  command,         // text() of length text_bytes(), zero terminated
  runner_command,  // the same, ended by '%'
  frame,           // frame()
  line_too_long,
  bad_frame,       // wrong CRC, broken COBS, too short or too long
};

struct Frame {
  uint8_t type;
  uint32_t id;
  uint8_t* body;
  uint32_t body_bytes;
};

class InputParser {
 public:
  // `buffer` has kFrameBytes; frames are decoded into it. Between frames others may use it: it is not written to while
  // frames_begun() stays the same.
  explicit InputParser(uint8_t* buffer) : decoded_(buffer) {}

  uint32_t frames_begun() const { return frames_begun_; }

  // What is returned stays valid until the next feed().
  InputEvent feed(uint8_t byte);

  // To be called when nothing has arrived for kSilenceUs: gives up a frame that was never finished, so that a stray
  // 0x00 cannot swallow the commands after it. Returns bad_frame if it gave one up.
  InputEvent silence();

  const char* text() const { return line_; }
  uint32_t text_bytes() const { return line_bytes_; }
  const Frame& frame() const { return frame_; }

 private:
  enum class Mode : uint8_t { text, skip_line, frame };

  InputEvent feed_text(uint8_t byte);
  InputEvent feed_frame(uint8_t byte);
  InputEvent end_line(InputEvent event);
  InputEvent end_frame();
  void begin_frame();
  void put(uint8_t byte);

  Mode mode_ = Mode::text;
  bool line_taken_ = false;  // line_ was handed out and is free to be overwritten
  uint32_t line_bytes_ = 0;
  char line_[kLineBytes + 1] = {};

  uint32_t cobs_left_ = 0;        // data bytes until the next code byte
  bool cobs_zero_ = false;        // a zero belongs before the next group
  bool cobs_any_ = false;         // anything since the frame began
  bool overflow_ = false;
  uint32_t frame_bytes_ = 0;
  Frame frame_ = {};
  uint32_t frames_begun_ = 0;
  uint8_t* const decoded_;
};

constexpr uint32_t kSilenceUs = 500000;

}  // namespace edgeward
