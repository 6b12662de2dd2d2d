// Receives a program into the place that does not run. It counts for nothing before finish(), which makes the next start try it.
#pragma once

#include <cstdint>

#include "core/arrival.h"
#include "core/firmware_file.h"

namespace edgeward {

// Nothing that lasts is changed by a program that may go.
constexpr Refusal kOnTrial{"on_trial", "the program that runs is on trial: an order of the board's owner keeps it"};

class FirmwareUpdater {
 public:
  // Checks `header`, the first kFirmwareHeaderBytes of the file; erases what is said about the program before.
  Refusal begin(const uint8_t* header, uint32_t bytes, const Keys& keys, const char* chip);

  // `offset` counts from the start of the file. Bytes that are there already are passed over.
  Refusal chunk(uint32_t offset, const uint8_t* data, uint32_t bytes);

  // Whether all of it is in flash and is what was signed. Ends the update in any case. `before`: what its trial goes by.
  Refusal finish(const Before& before);

  void abandon();

  bool open() const { return arrival_.open; }
  uint32_t next_offset() const { return arrival_.next; }

 private:
  Refusal complete(const Before& before) const;
  bool write(uint32_t offset, const uint8_t* data, uint32_t bytes) const;

  hal::Slot target_ = hal::Slot::app_b;
  Arrival arrival_;
  FirmwareHeader header_;
  uint8_t header_bytes_[kFirmwareHeaderBytes] = {};
};

}  // namespace edgeward
