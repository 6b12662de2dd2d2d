// Receives a model into a slot that is not in use. The header of model.bin comes first and is checked before anything is
// erased, but written last: until then the slot holds no model, whatever happens.
#pragma once

#include <cstdint>

#include "core/arrival.h"
#include "core/model_header.h"
#include "core/refusal.h"
#include "hal/hal.h"

namespace edgeward {

class Updater {
 public:
  // Checks `header` (the first kModelHeaderBytes of a model.bin) against what a slot holds. Erases nothing.
  Refusal check(hal::Slot target, const uint8_t* header, uint32_t bytes);

  // Erases the slot check() was about: log and header first.
  Refusal begin();

  // `offset` counts from the start of model.bin. Bytes that are there already are passed over.
  Refusal chunk(uint32_t offset, const uint8_t* data, uint32_t bytes);

  // Whether all of the body is in flash, by its SHA-256.
  Refusal check_body() const;

  // Makes the slot hold a model.
  Refusal write_header();

  void abandon() { arrival_.open = false; }

  bool open() const { return arrival_.open; }
  hal::Slot target() const { return target_; }
  const ModelHeader& header() const { return header_; }
  const uint8_t* header_bytes() const { return header_bytes_; }
  uint32_t next_offset() const { return arrival_.next; }

 private:
  bool write(uint32_t offset, const uint8_t* data, uint32_t bytes) const;

  hal::Slot target_ = hal::Slot::a;
  Arrival arrival_;
  ModelHeader header_ = {};
  uint8_t header_bytes_[kModelHeaderBytes] = {};
};

}  // namespace edgeward
