#include "core/running_mean.h"

namespace edgeward {

void RunningMean::start(uint32_t windows) {
  windows_ = windows;
  seen_ = at_ = 0;
}

bool RunningMean::add(const TensorView& output) {
  outputs_ = output.bytes;
  for (uint32_t i = 0; i < outputs_; ++i) kept_[at_][i] = static_cast<uint8_t>(output.data[i] + 128);
  if (++at_ == windows_) at_ = 0;
  if (seen_ < windows_) ++seen_;
  return seen_ == windows_;
}

Answers::Choice RunningMean::choice() const {
  uint32_t best = 0, most = 0;
  for (uint32_t output = 0; output < outputs_; ++output) {
    uint32_t sum = 0;
    for (uint32_t window = 0; window < windows_; ++window) sum += kept_[window][output];
    if (output == 0 || sum > most) {
      best = output;
      most = sum;
    }
  }
  const int32_t of_256 = static_cast<int32_t>(most / windows_);
  if (outputs_ == 1) return of_256 >= 128 ? Answers::Choice{1, of_256} : Answers::Choice{0, 256 - of_256};
  return Answers::Choice{best, of_256};
}

}  // namespace edgeward
