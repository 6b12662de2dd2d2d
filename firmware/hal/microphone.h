// Between the driver of an I2S microphone and the firmware: slots of 32 bits in, samples out, and a gap where some were lost.
// Nothing of ESP-IDF.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "hal/hal.h"

namespace edgeward::hal {

constexpr uint32_t kLeastMicRateHz = 8000, kMostMicRateHz = 48000;
// Of the clock a microphone gets, 64 periods a sample, an INMP441 needs 2^18 before its data is sound: 256 ms at 16 kHz.
constexpr uint32_t kSettlingSamples = 4096;
// The longest gap that is filled. To catch up on a longer one would lose more than it keeps in its place.
constexpr uint32_t kMostRepeated = 8192;

// A slot has the sample in its upper bits. A shift of 16 leaves full scale as it is; each bit less doubles the sound.
constexpr int16_t sample_of_slot(int32_t slot, unsigned shift) {
  const int32_t value = slot >> shift;
  return static_cast<int16_t>(value > INT16_MAX ? INT16_MAX : value < INT16_MIN ? INT16_MIN : value);
}

// Driver has
//   size_t read(uint8_t* to, size_t bytes)  what was received, without waiting; 0: there is nothing, or an error
//   uint32_t dropped_bytes()                how much of the oldest was dropped unread since start(), modulo 2^32
// It drops the oldest it has, so what was dropped by the time a read returns lay before what was read. What it drops between
// that and the look at its count is put a block too early.
template <typename Driver, unsigned kShift>
class Microphone {
 public:
  static constexpr uint32_t kBlockSamples = 256;
  static_assert(kShift >= 8 && kShift <= 16, "24 bits of a slot are the sample");

  constexpr explicit Microphone(Driver driver) : driver_(driver) {}

  // The driver's count is 0 then.
  void start(Missed missed) {
    *this = Microphone(driver_);
    missed_are_ = missed;
    settling_ = kSettlingSamples;
    caught_up_ = true;
  }

  size_t read(int16_t* out, size_t capacity) {
    size_t count = 0;
    while (count < capacity) {
      if (missed_ > 0) break;  // a gap nobody has counted yet
      if (repeat_ > 0) {
        --repeat_;
        out[count++] = last_;
      } else if (at_ < samples_) {
        last_ = sample(at_++);
        out[count++] = last_;
      } else if (!next_block()) {
        break;
      }
    }
    return count;
  }

  uint32_t take_missed() {
    const uint32_t count = missed_;
    missed_ = 0;
    return count;
  }

  uint32_t lost() const { return lost_; }
  uint32_t repeated() const { return repeated_; }

 private:
  int16_t sample(uint32_t i) const {
    int32_t slot;
    std::memcpy(&slot, bytes_ + sizeof slot * i, sizeof slot);  // every target is little-endian
    return sample_of_slot(slot, kShift);
  }

  // Whether there is something new.
  bool next_block() {
    // Bytes of a slot that is not whole stay in front.
    const uint32_t whole = samples_ * sizeof(int32_t), left = filled_ - whole;
    std::memmove(bytes_, bytes_ + whole, left);
    const size_t room = sizeof bytes_ - left;
    const size_t got = driver_.read(bytes_ + left, room);
    filled_ = left + static_cast<uint32_t>(got < room ? got : room);
    samples_ = filled_ / sizeof(int32_t);
    note_dropped();
    const uint32_t skipped = samples_ < settling_ ? samples_ : settling_;
    settling_ -= skipped;
    at_ = skipped;
    if (got == 0) caught_up_ = true;
    return got > 0;
  }

  void note_dropped() {
    const uint32_t dropped = (driver_.dropped_bytes() - counted_bytes_) / sizeof(int32_t);
    counted_bytes_ += dropped * sizeof(int32_t);
    const uint32_t settled = dropped < settling_ ? dropped : settling_;
    settling_ -= settled;
    const uint32_t missing = dropped - settled;
    if (missing == 0) return;
    lost_ += missing;
    if (missed_are_ == Missed::counted) {
      missed_ += missing;
    } else if (caught_up_) {
      // A board too slow for its stream never catches up. It hears what there is, instead of ever more repetitions.
      repeat_ = missing < kMostRepeated ? missing : kMostRepeated;
      repeated_ += repeat_;
      caught_up_ = false;
    }
  }

  Driver driver_;
  Missed missed_are_ = Missed::repeated;
  uint32_t settling_ = 0;       // samples to pass over yet
  uint32_t counted_bytes_ = 0;  // of the driver's count
  uint32_t lost_ = 0;
  uint32_t repeated_ = 0;
  uint32_t missed_ = 0;
  uint32_t repeat_ = 0;
  bool caught_up_ = false;
  int16_t last_ = 0;
  uint32_t at_ = 0;       // of the next sample in bytes_
  uint32_t samples_ = 0;  // whole ones in bytes_
  uint32_t filled_ = 0;   // bytes in bytes_
  alignas(4) uint8_t bytes_[kBlockSamples * sizeof(int32_t)] = {};
};

}  // namespace edgeward::hal
