// Whole messages from one task to another, in order, in memory of their own. One task writes and one reads, so neither ever waits
// for the other: counters say what belongs to whom, as in hal/esp32/source.cpp.
#pragma once

#include <atomic>
#include <cstdint>

namespace edgeward::hal {

template <uint32_t kMessages, uint32_t kBytes>
class MessageQueue {
  static_assert((kMessages & (kMessages - 1)) == 0, "places keep their order when the counters wrap");

 public:
  // For the task that writes: room for the next message, null while kMessages wait; then that it is whole.
  uint8_t* back() {
    const uint32_t pushed = pushed_.load(std::memory_order_relaxed);
    return pushed - popped_.load(std::memory_order_acquire) < kMessages ? room_[pushed % kMessages] : nullptr;
  }
  void push(uint32_t bytes) {
    const uint32_t pushed = pushed_.load(std::memory_order_relaxed);
    bytes_[pushed % kMessages] = bytes;
    pushed_.store(pushed + 1, std::memory_order_release);
  }

  // For the task that reads: the oldest message, null when there is none; then that it is read.
  const uint8_t* front(uint32_t* bytes) const {
    const uint32_t popped = popped_.load(std::memory_order_relaxed);
    if (pushed_.load(std::memory_order_acquire) == popped) return nullptr;
    *bytes = bytes_[popped % kMessages];
    return room_[popped % kMessages];
  }
  void pop() { popped_.store(popped_.load(std::memory_order_relaxed) + 1, std::memory_order_release); }

  // For any task.
  bool empty() const { return pushed_.load(std::memory_order_acquire) == popped_.load(std::memory_order_acquire); }

 private:
  // Counted without end; one side writes each.
  std::atomic<uint32_t> pushed_{0};
  std::atomic<uint32_t> popped_{0};
  uint32_t bytes_[kMessages] = {};
  uint8_t room_[kMessages][kBytes] = {};
};

}  // namespace edgeward::hal
