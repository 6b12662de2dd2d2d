// Copies of records for the network: one JSON object a message, numbered by themselves, with a check value that only who has
// the board's secret can make.
//
// Only the kinds of kCarried leave. What a model answered about a sample, windows of a stream and raw samples do not: they may
// be about a person, and a broker has no part in that. Of what does leave, counts of answers and indices of drift are about
// kTogether inferences at least.
#pragma once

#include <cstdint>

#include "core/budget.h"
#include "core/hmac.h"
#include "hal/network.h"

namespace edgeward {

class Uplink {
 public:
  // From now on records leave. `secret` is static.
  void open(const uint8_t secret[kSecretBytes]) { secret_ = secret; }
  bool is_open() const { return secret_ != nullptr; }

  // Begins a record where its kind is carried; what is put until end() is its text.
  void begin(const char* kind);
  bool writing() const { return writing_; }
  void put(char c);

  // Closes the object with `mac`, the first 16 bytes of HMAC-SHA256 of all before `,"mac"`, and sends it.
  void end();

  // Number of the next record on the network.
  uint32_t take_sequence() { return sequence_++; }

  // Where the next records go.
  void address(hal::Topic topic) { topic_ = topic; }

  // Records that were too long or that the network did not take.
  uint32_t dropped() const { return dropped_; }

 private:
  const uint8_t* secret_ = nullptr;
  hal::Topic topic_ = hal::Topic::record;
  bool writing_ = false;
  uint32_t sequence_ = 0;
  uint32_t dropped_ = 0;
  uint32_t used_ = 0;  // of the text
  uint8_t room_[kHmacBlockBytes + kUplinkBytes] = {};
};

}  // namespace edgeward
