#include "core/input_parser.h"

#include "core/crc.h"

namespace edgeward {

InputEvent InputParser::feed(uint8_t byte) {
  if (line_taken_) {
    line_taken_ = false;
    line_bytes_ = 0;
  }
  return mode_ == Mode::frame ? feed_frame(byte) : feed_text(byte);
}

InputEvent InputParser::silence() {
  if (mode_ != Mode::frame) return InputEvent::none;
  mode_ = Mode::text;
  return cobs_any_ ? InputEvent::bad_frame : InputEvent::none;
}

InputEvent InputParser::feed_text(uint8_t byte) {
  if (byte == 0) {
    const bool lost_text = line_bytes_ > 0;
    line_bytes_ = 0;
    begin_frame();
    return lost_text ? InputEvent::line_too_long : InputEvent::none;
  }
  const bool end = byte == '\n' || byte == '\r' || byte == '%';
  if (mode_ == Mode::skip_line) {
    if (!end) return InputEvent::none;
    mode_ = Mode::text;
    return end_line(InputEvent::line_too_long);
  }
  if (end) {
    if (byte == '%') return end_line(InputEvent::runner_command);
    return line_bytes_ == 0 ? InputEvent::none : end_line(InputEvent::command);  // LF after CR, empty lines
  }
  if (line_bytes_ == kLineBytes) {
    mode_ = Mode::skip_line;
    return InputEvent::none;
  }
  line_[line_bytes_++] = static_cast<char>(byte);
  return InputEvent::none;
}

InputEvent InputParser::end_line(InputEvent event) {
  line_[line_bytes_] = 0;
  line_taken_ = true;
  return event;
}

void InputParser::begin_frame() {
  mode_ = Mode::frame;
  cobs_left_ = 0;
  cobs_zero_ = cobs_any_ = overflow_ = false;
  frame_bytes_ = 0;
  ++frames_begun_;
}

InputEvent InputParser::feed_frame(uint8_t byte) {
  if (byte == 0) return end_frame();
  cobs_any_ = true;
  if (cobs_left_ > 0) {
    --cobs_left_;
    put(byte);
    return InputEvent::none;
  }
  if (cobs_zero_) put(0);
  cobs_left_ = byte - 1u;
  cobs_zero_ = byte != 0xFF;
  return InputEvent::none;
}

void InputParser::put(uint8_t byte) {
  if (frame_bytes_ < kFrameBytes) {
    decoded_[frame_bytes_++] = byte;
  } else {
    overflow_ = true;
  }
}

InputEvent InputParser::end_frame() {
  // Two zeros in a row are the end of one frame and the start of the next; take the second as a start.
  if (!cobs_any_) return InputEvent::none;
  mode_ = Mode::text;
  if (cobs_left_ > 0 || overflow_ || frame_bytes_ < kFrameHeadBytes + kFrameTailBytes) return InputEvent::bad_frame;
  const uint32_t checked = frame_bytes_ - kFrameTailBytes;
  const uint16_t crc = static_cast<uint16_t>(decoded_[checked] | decoded_[checked + 1] << 8);
  if (crc != crc16(decoded_, checked)) return InputEvent::bad_frame;
  frame_.type = decoded_[0];
  frame_.id = 0;
  for (int i = 4; i >= 1; --i) frame_.id = frame_.id << 8 | decoded_[i];
  frame_.body = decoded_ + kFrameHeadBytes;
  frame_.body_bytes = checked - kFrameHeadBytes;
  return InputEvent::frame;
}

}  // namespace edgeward
