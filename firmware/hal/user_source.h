// The source "user" (hooks/hooks.h) where no timer reads sensors: samples are asked for when they are due, by the clock.
#pragma once

#include "hal/hal.h"
#include "hooks/hooks.h"

namespace edgeward::hal {

class UserSource {
 public:
  static constexpr uint32_t kMostChannels = 32;

  bool open(uint32_t rate_hz, uint32_t channels, Missed missed) {
    close();
    if (channels > kMostChannels || !hooks::user_sensor_open(channels)) return false;
    *this = UserSource{};
    rate_hz_ = rate_hz;
    channels_ = channels;
    missed_are_ = missed;
    start_us_ = clock_us();
    return true;
  }

  void close() {
    if (on()) hooks::user_sensor_close();
    channels_ = 0;
  }

  bool on() const { return channels_ > 0; }

  // Whole samples that are due, behind what is left of the last one where `capacity` had no room for it.
  size_t read(int16_t* out, size_t capacity) {
    size_t count = 0;
    while (count < capacity) {
      if (at_ == 0 && !next()) return count;
      while (at_ < channels_ && count < capacity) out[count++] = sample_[at_++];
      if (at_ == channels_) at_ = 0;
    }
    return count;
  }

  uint32_t take_missed() {
    const uint32_t count = missed_;
    missed_ = 0;
    return count;
  }

 private:
  // The next sample that is due. A gap that is counted ends what is read, so that it stays in its place.
  bool next() {
    if (missed_ > 0) return false;
    if (waits_) {
      waits_ = false;
      return true;
    }
    const uint64_t due = (clock_us() - start_us_) * rate_hz_ / 1000000;
    while (taken_ < due) {
      ++taken_;
      if (hooks::user_sensor_read(sample_) || missed_are_ == Missed::repeated) {
        waits_ = missed_ > 0;
        return !waits_;
      }
      ++missed_;
    }
    return false;
  }

  uint64_t rate_hz_ = 0;
  uint32_t channels_ = 0;
  Missed missed_are_ = Missed::repeated;
  uint64_t start_us_ = 0;
  uint64_t taken_ = 0;
  uint32_t missed_ = 0;
  bool waits_ = false;  // sample_ is behind a gap nobody has counted yet
  uint32_t at_ = 0;     // of the next value of sample_
  int16_t sample_[kMostChannels] = {};
};

}  // namespace edgeward::hal
