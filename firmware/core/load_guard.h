// Remembers in retained memory that a model is being loaded, so that one which crashes the load is not loaded again and
// again: an arena that is too small can abort inside TFLM, and a reboot alone would repeat it for ever. Likewise, in words of its
// own, that a stream begins by itself.
#pragma once

#include <cstdint>

#include "hal/hal.h"

namespace edgeward {

class LoadGuard {
 public:
  static constexpr uint32_t kWords = 3;

  // `retained` may be null: then nothing is remembered. `model` identifies the model.
  LoadGuard(volatile uint32_t* retained, uint32_t model) : words_(retained), model_(model) {}

  // Whether the last boot crashed while it loaded this model.
  bool crashed_last_time(hal::ResetReason reason) const {
    const bool crash = reason == hal::ResetReason::crash || reason == hal::ResetReason::watchdog;
    return words_ != nullptr && crash && words_[0] == kMagic && words_[1] == model_ && words_[2] == ~model_;
  }

  // Whether the last boot crashed while it loaded any model.
  static bool any_crash(volatile uint32_t* retained, hal::ResetReason reason) {
    return retained != nullptr && LoadGuard(retained, retained[1]).crashed_last_time(reason);
  }

  void begin() {
    if (words_ == nullptr) return;
    words_[1] = model_;
    words_[2] = ~model_;
    words_[0] = kMagic;
  }

  void end() {
    if (words_ != nullptr) words_[0] = 0;
  }

 private:
  static constexpr uint32_t kMagic = 0x4C444D57;

  volatile uint32_t* words_;
  uint32_t model_;
};

}  // namespace edgeward
