// Flash whose power goes in the middle of an operation, and a serial port: for programs that cut the power.
#pragma once

#include <algorithm>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "core/crc.h"
#include "core/input_parser.h"
#include "core/pins.h"
#include "hal/hal.h"

namespace edgeward::hal {
namespace {

using Bytes = std::vector<uint8_t>;
enum Tear { kBefore, kHalf, kRandomBits, kAfter, kTears };
constexpr uint32_t kNever = UINT32_MAX;
constexpr uint32_t kSlotBytes = 16 * kFlashSectorBytes;

Bytes g_flash[2];
Bytes g_keys(kFlashSectorBytes, 0xFF);
Bytes g_network;  // none, unless a program gives it sectors
Bytes g_programs[2], g_choice;  // likewise
Bytes& flash_of(Slot slot) {
  switch (slot) {
    case Slot::a: return g_flash[0];
    case Slot::b: return g_flash[1];
    case Slot::keys: return g_keys;
    case Slot::network: return g_network;
    case Slot::app_a: return g_programs[0];
    case Slot::app_b: return g_programs[1];
    case Slot::choice: return g_choice;
  }
  return g_choice;
}
Bytes g_input;
size_t g_input_at = 0;
std::string g_output;
uint32_t g_retained[kRetainedWords];
ResetReason g_reason = ResetReason::power_on;
bool g_power = true;
uint32_t g_operations = 0;
uint32_t g_cut_at = kNever;
uint32_t g_fails_at = kNever;  // the operation that does nothing and says so, while the power stays
Tear g_tear = kBefore;
uint32_t g_random = 1;

uint32_t random_word() { return g_random = g_random * 1664525 + 1013904223; }

// What `target` becomes when it was on its way from `before` to `after`.
void tear(uint8_t* target, const Bytes& after) {
  for (size_t i = 0; i < after.size(); ++i) {
    const auto mask = static_cast<uint8_t>(random_word() >> 24);
    const bool done = g_tear == kAfter || (g_tear == kHalf && i < after.size() / 2);
    if (done) target[i] = after[i];
    if (g_tear == kRandomBits) target[i] = static_cast<uint8_t>((target[i] & mask) | (after[i] & ~mask));
  }
}

bool change(Slot slot, uint32_t offset, const Bytes& after) {
  if (!g_power || uint64_t{offset} + after.size() > flash_of(slot).size()) return false;
  uint8_t* const target = flash_of(slot).data() + offset;
  if (g_operations == g_fails_at) return ++g_operations, false;
  if (g_operations++ == g_cut_at) {
    g_power = false;
    tear(target, after);
    return false;
  }
  std::memcpy(target, after.data(), after.size());
  return true;
}

}  // namespace

size_t serial_read(uint8_t* buffer, size_t capacity) {
  const size_t count = std::min(capacity, g_input.size() - g_input_at);
  std::memcpy(buffer, g_input.data() + g_input_at, count);
  g_input_at += count;
  return count;
}

void serial_write(const uint8_t* data, size_t bytes) {
  if (g_power) g_output.append(reinterpret_cast<const char*>(data), bytes);
}

uint32_t slot_bytes(Slot slot) { return static_cast<uint32_t>(flash_of(slot).size()); }

void slot_unmap(Slot) {}

SlotView slot_map(Slot slot) { return SlotView{flash_of(slot).data(), static_cast<uint32_t>(flash_of(slot).size())}; }

bool slot_erase(Slot slot, uint32_t offset, uint32_t bytes) { return change(slot, offset, Bytes(bytes, 0xFF)); }

bool slot_write(Slot slot, uint32_t offset, const uint8_t* data, uint32_t bytes) {
  Bytes after(data, data + bytes);
  const uint8_t* const before = flash_of(slot).data() + offset;
  for (uint32_t i = 0; i < bytes; ++i) after[i] &= before[i];
  return change(slot, offset, after);
}

SystemInfo system_info() {
  SystemInfo info{};
  info.chip = "host";
  info.simulated = true;
  info.reset_reason = g_reason;
  info.boot_id = 1;
  info.retained = g_retained;
  return info;
}

void idle(uint32_t) {}

void pins_release() {}
bool pin_claim(const Pin&) { return true; }
void pin_on(const Pin&, uint64_t) {}
void pin_off(const Pin&) {}

// What `run` says with the power cut at operation `cut_at`; whether that operation came.
bool cut_power(uint32_t cut_at, Tear tear, const std::function<std::string()>& run, std::string* said) {
  g_power = true;
  g_operations = 0;
  g_cut_at = cut_at;
  g_tear = tear;
  *said = run();
  const bool cut = !g_power;
  g_power = true;
  g_cut_at = kNever;
  return cut;
}

}  // namespace edgeward::hal

namespace edgeward {
namespace {

using hal::Bytes;

bool holds(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

void add_frame(Bytes* out, FrameType type, const uint8_t* body, size_t bytes, const uint8_t* more = nullptr,
               size_t more_bytes = 0) {
  Bytes plain = {static_cast<uint8_t>(type), 1, 0, 0, 0};
  plain.insert(plain.end(), body, body + bytes);
  plain.insert(plain.end(), more, more + more_bytes);
  const uint16_t crc = crc16(plain.data(), plain.size());
  plain.push_back(static_cast<uint8_t>(crc));
  plain.push_back(static_cast<uint8_t>(crc >> 8));
  out->push_back(0);
  size_t code = out->size();
  out->push_back(1);
  for (const uint8_t byte : plain) {
    if ((*out)[code] == 0xFF) {
      code = out->size();
      out->push_back(1);
    }
    if (byte == 0) {
      code = out->size();
      out->push_back(1);
    } else {
      out->push_back(byte);
      ++(*out)[code];
    }
  }
  out->push_back(0);
}

}  // namespace
}  // namespace edgeward
