// Messages of the broker, which esp-mqtt hands over in pieces, put together.
#pragma once

#include <cstdint>
#include <cstring>

#include "core/budget.h"
#include "hal/esp32/with_network/message_queue.h"

namespace edgeward::hal {

class Inbox {
 public:
  // In esp-mqtt's task: the next piece of a message of `total` bytes, `offset` bytes into it. Returns whether that made it whole.
  // Dropped are messages that are retained, empty or longer than kMessageBytes, those that come while four wait, and those
  // of which a piece is missing.
  bool take(const char* piece, int bytes, int offset, int total, bool retained) {
    if (offset == 0) begin(total, retained);
    if (place_ == nullptr) return false;
    if (offset != got_ || total != total_ || bytes < 0 || bytes > total_ - got_) {
      place_ = nullptr;
      return false;
    }
    if (bytes > 0) std::memcpy(place_ + got_, piece, static_cast<size_t>(bytes));
    got_ += bytes;
    if (got_ < total_) return false;
    queue_.push(static_cast<uint32_t>(total_));
    place_ = nullptr;
    return true;
  }

  // In the firmware's task: as network_read().
  size_t read(uint8_t* buffer, size_t capacity) {
    uint32_t bytes = 0;
    const uint8_t* const message = queue_.front(&bytes);
    if (message == nullptr) return 0;
    const bool fits = bytes <= capacity;
    if (fits) std::memcpy(buffer, message, bytes);
    queue_.pop();
    return fits ? bytes : 0;
  }

  bool empty() const { return queue_.empty(); }

 private:
  void begin(int total, bool retained) {
    const bool wanted = !retained && total > 0 && total <= static_cast<int>(kMessageBytes);
    place_ = wanted ? queue_.back() : nullptr;
    total_ = total;
    got_ = 0;
  }

  MessageQueue<4, kMessageBytes> queue_;
  uint8_t* place_ = nullptr;  // in the queue, of the message whose pieces come; null when it is dropped
  int total_ = 0;
  int got_ = 0;
};

}  // namespace edgeward::hal
