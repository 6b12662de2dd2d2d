// Fuzzes the whole firmware from its serial port and its network: what it is fed is mutated, and kept when it reaches new code.
//
//   fuzz-board MODEL.bin CORPUS SECONDS SEED [KEEP]
//
// Built with sanitizers and -fsanitize-coverage=trace-pc. An input is a row of pieces, u8 kind, u16 length, bytes: odd
// kinds are wrapped into a frame with its right CRC, even ones go over the line as they are. Those from 0x80 on are for the network, by
// kind modulo 8: 0 a message as it is; 1 an order, u8 number and the command, of which all is right; 2 the network goes away or is
// back; 3 an order for an update that begins with this header, and the header; where it begins with P a program of the rest, whole; 4 an order for the board's own model, and its header; 5
// a part of it, u16 first word, u8 words; 6 its end; 7 an order for nobody. With one of them in the input the board has a place, a key
// that signs anything, as programs', and that model signed. Time passes at the end of the input, and the board starts once more where it restarted.
//
// After each, a stream is ended: then, and where the board restarts, no output of a rule is on. test/fuzzer.h says what becomes of
// the inputs.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "core/board.h"
#include "core/crc.h"
#include "core/hmac.h"
#include "core/orders.h"
#include "core/pins.h"
#include "core/sha256.h"
#include "hal/host/boot_choice.h"
#include "test/fuzzer.h"
#include "test/sent.h"

namespace {

constexpr uint32_t kSlotBytes = 8 * edgeward::hal::kFlashSectorBytes;
constexpr uint32_t kProgramBytes = 3 * edgeward::hal::kFlashSectorBytes;
constexpr uint32_t kArenaBytes = 16 * 1024;

Bytes g_erased_flash[2];
Bytes g_flash[edgeward::hal::kSlotCount];
Bytes& flash_of(edgeward::hal::Slot slot) { return g_flash[static_cast<uint8_t>(slot)]; }
Bytes g_serial;
size_t g_serial_at = 0;
struct Message {
  size_t after;  // so many bytes of the serial port
  bool turns;    // the network goes away, or is back
  Bytes bytes;
};
std::vector<Message> g_messages;
size_t g_messages_at = 0;
Bytes g_signed_model;
bool g_started = false;
bool g_connected = true;
uint64_t g_unasked_us = 0;  // when the board last answered what nobody ordered
bool g_unasked = false;
uint64_t g_now_us = 0;
uint32_t g_idles = 0;
uint32_t g_source_calls = 0;
bool g_claimed[edgeward::kMostPins];
bool g_on[edgeward::kMostPins];
uint64_t g_pin_ends_us[edgeward::kMostPins];
bool g_restarted = false;
uint32_t g_retained[edgeward::hal::kRetainedWords];

}  // namespace

namespace edgeward::hal {

uint64_t clock_us() { return g_now_us += 7; }

size_t serial_read(uint8_t* buffer, size_t capacity) {
  const size_t count = std::min(capacity, g_serial.size() - g_serial_at);
  if (count > 0) std::memcpy(buffer, g_serial.data() + g_serial_at, count);
  g_serial_at += count;
  return count;
}

void serial_write(const uint8_t*, size_t) {}

bool network_start(const NetworkSettings& settings) {
  check_place(settings);
  return g_started = true;
}

NetworkState network_state() {
  if (!g_started) return NetworkState::off;
  return g_connected ? NetworkState::connected : NetworkState::joining;
}

size_t network_read(uint8_t* buffer, size_t capacity) {
  if (!g_started) std::abort();
  while (g_messages_at < g_messages.size() && g_messages[g_messages_at].after <= g_serial_at) {
    const Message& message = g_messages[g_messages_at++];
    if (message.turns) g_connected = !g_connected;
    if (message.turns || !g_connected || message.bytes.empty() || message.bytes.size() > capacity) continue;
    std::memcpy(buffer, message.bytes.data(), message.bytes.size());
    return message.bytes.size();
  }
  return 0;
}

// Beside what may leave: what nobody ordered is answered once a second.
bool network_send(Topic, const uint8_t* data, size_t bytes) {
  check_sent(data, bytes);
  const std::string said(reinterpret_cast<const char*>(data), bytes);
  if (said.find("\"claimed\":") != std::string::npos) {
    if (g_unasked && g_now_us - g_unasked_us < 1000000) broken("a flood of answers", said);
    g_unasked = true;
    g_unasked_us = g_now_us;
  }
  return g_connected;
}

uint32_t slot_bytes(Slot slot) { return static_cast<uint32_t>(flash_of(slot).size()); }

void slot_unmap(Slot) {}

SlotView slot_map(Slot slot) { return SlotView{flash_of(slot).data(), static_cast<uint32_t>(flash_of(slot).size())}; }

bool slot_erase(Slot slot, uint32_t offset, uint32_t bytes) {
  if (uint64_t{offset} + bytes > flash_of(slot).size() || (offset | bytes) % kFlashSectorBytes != 0) std::abort();
  std::memset(flash_of(slot).data() + offset, 0xFF, bytes);
  return true;
}

// The firmware promises its HAL ranges inside the slot, in words: a broken promise ends the run.
bool slot_write(Slot slot, uint32_t offset, const uint8_t* data, uint32_t bytes) {
  if (uint64_t{offset} + bytes > flash_of(slot).size() || (offset | bytes) % 4 != 0) std::abort();
  uint8_t* const to = flash_of(slot).data() + offset;
  for (uint32_t i = 0; i < bytes; ++i) to[i] &= data[i];
  return true;
}

bool source_open(const char* name, uint32_t, uint32_t, Missed) { return std::strcmp(name, "file") == 0; }
void source_close() {}

// Nothing at every eighth call, and there a gap at every other one.
size_t source_read(int16_t* values, size_t capacity) {
  if (capacity == 0 || ++g_source_calls % 8 == 0) return 0;
  values[0] = 100;
  return 1;
}
uint32_t source_missed() { return g_source_calls / 8 % 2; }

// The firmware promises its HAL free pins only, claimed before they are on, and an end for each.
void pins_release() { std::memset(g_claimed, 0, sizeof g_claimed); }

bool pin_claim(const Pin& pin) {
  if (pin_refusal("host", pin.number) != nullptr || pin.hz > kMostPwmHz || (pin.hz > 0) != (pin.duty_percent > 0)) std::abort();
  g_claimed[pin.number] = true;
  g_on[pin.number] = false;
  return pin.number != 7;  // one that this board cannot make an output
}

void pin_on(const Pin& pin, uint64_t for_us) {
  if (!g_claimed[pin.number] || for_us == 0 || for_us > uint64_t{1000} * kMostHoldMs) std::abort();
  g_on[pin.number] = true;
  g_pin_ends_us[pin.number] = g_now_us + for_us;
}

void pin_off(const Pin& pin) {
  if (!g_claimed[pin.number]) std::abort();
  g_on[pin.number] = false;
}

SystemInfo system_info() {
  SystemInfo info{};
  info.chip = "host";
  info.simulated = true;
  info.reset_reason = ResetReason::crash;
  info.boot_id = 1;
  info.retained = g_retained;
  return info;
}

void idle(uint32_t max_wait_us) {
  g_now_us += max_wait_us;
  ++g_idles;
}

// restart() must not return; the run ends here.
void restart() {
  g_restarted = true;
  throw 0;
}

}  // namespace edgeward::hal

namespace {

using namespace edgeward;

void add_frame(const uint8_t* body, size_t bytes) {
  Bytes plain(body, body + bytes);
  const uint16_t crc = crc16(plain.data(), plain.size());
  plain.push_back(static_cast<uint8_t>(crc));
  plain.push_back(static_cast<uint8_t>(crc >> 8));
  g_serial.push_back(0);
  size_t code = g_serial.size();
  g_serial.push_back(1);
  for (const uint8_t byte : plain) {
    if (g_serial[code] == 0xFF || byte == 0) {
      const bool full = g_serial[code] == 0xFF;
      code = g_serial.size();
      g_serial.push_back(1);
      if (!full || byte == 0) {
        if (full && byte == 0) {
          code = g_serial.size();
          g_serial.push_back(1);
        }
        continue;
      }
    }
    g_serial.push_back(byte);
    ++g_serial[code];
  }
  g_serial.push_back(0);
}

// The sector of keys as a flasher leaves it that allows recording: an entry of core/keys.cpp.
Bytes keys_that_allow_recording() {
  Bytes sector(hal::kFlashSectorBytes, 0xFF);
  constexpr uint8_t kAllowed[] = {'E', 'W', 'K', 'Y', 4, 0, 0, 0};
  std::memcpy(sector.data(), kAllowed, sizeof kAllowed);
  const uint32_t crc = crc32(sector.data(), 60);
  for (uint32_t i = 0; i < 4; ++i) sector[60 + i] = static_cast<uint8_t>(crc >> (8 * i));
  return sector;
}

constexpr uint8_t kSecret[kSecretBytes] = {7};
constexpr uint8_t kSignature = 0x5A;  // each byte of one that any key made

void add_u32(Bytes* out, uint32_t value) {
  for (int i = 0; i < 4; ++i) out->push_back(static_cast<uint8_t>(value >> (8 * i)));
}

void add_text(Bytes* out, const std::string& text) {
  out->push_back(static_cast<uint8_t>(text.size()));
  out->insert(out->end(), text.begin(), text.end());
}

void put_u32(uint8_t* to, uint32_t value) {
  for (int i = 0; i < 4; ++i) to[i] = static_cast<uint8_t>(value >> (8 * i));
}

std::string hex_of(const uint8_t* data, size_t bytes) {
  uint8_t digest[kSha256Bytes];
  sha256(data, static_cast<uint32_t>(bytes), digest);
  std::string out;
  for (const uint8_t byte : digest) out += {"0123456789abcdef"[byte >> 4], "0123456789abcdef"[byte & 15]};
  return out;
}

// A key for models and orders, and one for programs, besides what the sector says already.
void add_keys(Bytes* sector) {
  constexpr uint8_t kAdd[] = {'E', 'W', 'K', 'Y'};
  uint8_t* entry = sector->data() + 64;
  for (const uint32_t action : {1, 7}) {
    std::memcpy(entry, kAdd, sizeof kAdd);
    put_u32(entry + sizeof kAdd, action);
    std::memset(entry + 8, 9, 32);
    put_u32(entry + 60, crc32(entry, 60));
    entry += 64;
  }
}

// The sectors of a board that is in a network.
Bytes sectors_with_place() {
  Bytes entries;
  const auto add = [&](uint8_t tag, const char* value, size_t bytes) {
    entries.insert(entries.end(), {tag, static_cast<uint8_t>(bytes), 0});
    entries.insert(entries.end(), value, value + bytes);
  };
  add(3, "h", 2);
  add(4, "1883", 5);
  add(5, "f", 2);
  add(6, "b", 2);
  add(10, reinterpret_cast<const char*>(kSecret), sizeof kSecret);
  add(0, "\0\0\0", (0u - entries.size() - 3) % 4);
  Bytes head = {'E', 'W', 'N', 'W'};
  add_u32(&head, static_cast<uint32_t>(entries.size()));
  add_u32(&head, crc32(entries.data(), static_cast<uint32_t>(entries.size())));
  add_u32(&head, 0xFFFFFFFF);
  head.insert(head.end(), entries.begin(), entries.end());
  head.resize(3 * hal::kFlashSectorBytes, 0xFF);
  return head;
}

Bytes with_signature(Bytes model) {
  model[44] |= 1;
  std::memset(model.data() + 80, kSignature, kSignatureBytes);
  put_u32(model.data() + 252, crc32(model.data(), 252));
  return model;
}

Bytes order(uint32_t number, const std::string& command, const std::string& board = "b") {
  Bytes out = {'E', 'W', 'O', 'R', 'D', 'E', 'R', '1'};
  add_u32(&out, number);
  add_u32(&out, 0);
  add_text(&out, "f/" + board + "/" + hex_of(kSecret, sizeof kSecret).substr(0, 16));
  add_text(&out, command.substr(0, 255));
  out.insert(out.end(), kSignatureBytes, kSignature);
  Bytes room(kHmacBlockBytes);
  room.insert(room.end(), out.begin(), out.end());
  uint8_t mac[kSha256Bytes];
  hmac_sha256(kSecret, room.data(), static_cast<uint32_t>(out.size()), mac);
  out.insert(out.end(), mac, mac + kOrderMacBytes);
  return out;
}

// A signed program.
Bytes program_of(Bytes image) {
  image.resize(std::max<size_t>(4, (image.size() + 3) / 4 * 4));
  Bytes out(kFirmwareHeaderBytes);
  constexpr uint8_t kHead[] = {'E', 'W', 'F', 'W', 1, 0, 0, 1};
  std::memcpy(out.data(), kHead, sizeof kHead);
  put_u32(&out[8], static_cast<uint32_t>(image.size()));
  put_u32(&out[12], kLeastTrialS);
  sha256(image.data(), image.size(), &out[16]);
  std::memcpy(&out[48], "host", 4);
  out[64] = '2';
  std::memset(&out[kFirmwareHeaderBytes - kSignatureBytes], kSignature, kSignatureBytes);
  out.insert(out.end(), image.begin(), image.end());
  return out;
}

Bytes part(FrameType type, const Bytes& body) {
  Bytes out = {static_cast<uint8_t>(type), 1, 0, 0, 0};
  out.insert(out.end(), body.begin(), body.end());
  return out;
}

void add_messages(uint8_t kind, const uint8_t* piece, size_t bytes) {
  const auto add = [](Bytes message) { g_messages.push_back(Message{g_serial.size(), false, std::move(message)}); };
  const auto next = [] { return static_cast<uint32_t>(1000 + g_messages.size()); };
  const auto update = [&](const Bytes& header) {
    add(order(next(), "update " + hex_of(header.data(), header.size())));
    add(part(FrameType::update_begin, header));
  };
  const Bytes content(piece, piece + bytes);
  switch (kind % 8) {
    case 0: return add(content);
    case 1:
      if (bytes > 0) add(order(content[0], std::string(content.begin() + 1, content.end())));
      return;
    case 2: g_messages.push_back(Message{g_serial.size(), true, {}}); return;
    case 3: {
      if (bytes == 0 || content[0] != 'P') return update(content);
      const Bytes program = program_of(Bytes(content.begin() + 1, content.end()));
      update(Bytes(program.begin(), program.begin() + kFirmwareHeaderBytes));
      Bytes body;
      add_u32(&body, kFirmwareHeaderBytes);
      body.insert(body.end(), program.begin() + kFirmwareHeaderBytes, program.end());
      return add(part(FrameType::update_chunk, body));
    }
    case 4: return update(Bytes(g_signed_model.begin(), g_signed_model.begin() + kModelHeaderBytes));
    case 5: {
      if (bytes < 3) return;
      const size_t from = std::min<size_t>(4u * (content[0] | content[1] << 8), g_signed_model.size());
      const size_t to = std::min(from + 4u * content[2], g_signed_model.size());
      Bytes body;
      add_u32(&body, static_cast<uint32_t>(from));
      body.insert(body.end(), g_signed_model.data() + from, g_signed_model.data() + to);
      return add(part(FrameType::update_chunk, body));
    }
    case 6: return add(part(FrameType::update_commit, content));
    default: return add(order(next(), "info", "c"));
  }
}

// Nothing is on after its end, the time of one turn of the loop aside, and nothing at all once everything is over.
void check_pins(bool over) {
  constexpr uint64_t kTurnUs = 20000;
  for (uint32_t pin = 0; pin < kMostPins; ++pin) {
    if (g_on[pin] && (over || g_now_us > g_pin_ends_us[pin] + kTurnUs)) std::abort();
  }
}

void run_until_end(uint8_t* arena) {
  hal::set_program(hal::choose_program());
  const auto board = std::make_unique<Board>(engine(), arena, kArenaBytes);
  try {
    board->start();
    // On a chip the watchdog restarts a board that does not come back to idle().
    for (uint32_t idles = g_idles; board->step(1000); idles = g_idles) {
      if (g_idles == idles) std::abort();
      check_pins(false);
    }
    // A frame that never ended is given up; with a source that is open the board waits a moment at a time.
    const uint64_t until_us = g_now_us + 3 * uint64_t{kSilenceUs};
    for (int i = 0; i < 1000 && g_now_us < until_us; ++i) board->step(kSilenceUs);
    constexpr char kOff[] = "\nstream off\n";
    g_serial.insert(g_serial.end(), kOff, kOff + sizeof kOff - 1);
    board->step(1000);
  } catch (int) {
  }
}

void run(const Bytes& input) {
  g_serial.clear();
  g_messages.clear();
  for (size_t at = 0; at + 3 <= input.size();) {
    const size_t wanted = static_cast<size_t>(input[at + 1] | input[at + 2] << 8);
    const size_t bytes = std::min(wanted, input.size() - at - 3);
    const uint8_t* const piece = input.data() + at + 3;
    if (input[at] >= 0x80) {
      add_messages(input[at], piece, bytes);
    } else if (input[at] % 2 == 1) {
      add_frame(piece, bytes);
    } else {
      g_serial.insert(g_serial.end(), piece, piece + bytes);
    }
    at += 3 + bytes;
  }
  g_serial_at = 0;
  g_now_us = 0;
  g_source_calls = 0;
  g_flash[0] = g_erased_flash[0];
  g_flash[1] = g_erased_flash[1];
  g_flash[2] = keys_that_allow_recording();
  g_flash[3] = Bytes();
  g_flash[4] = g_flash[5] = Bytes(kProgramBytes, 0xFF);
  g_flash[6] = Bytes(2 * hal::kFlashSectorBytes, 0xFF);
  if (!g_messages.empty()) {
    std::copy(g_signed_model.begin(), g_signed_model.end(), g_flash[0].begin());
    add_keys(&g_flash[2]);
    g_flash[3] = sectors_with_place();
  }
  g_messages_at = 0;
  g_started = g_unasked = false;
  g_connected = true;
  g_restarted = false;
  std::memset(g_on, 0, sizeof g_on);
  static uint8_t* const arena = static_cast<uint8_t*>(std::aligned_alloc(16, kArenaBytes));
  run_until_end(arena);
  if (g_restarted) {
    check_pins(true);
    g_started = false;
    g_unasked = false;
    run_until_end(arena);
  }
  check_pins(true);
}

}  // namespace

// The linker puts this in place of edgeward::ed25519_verify: a signature that no fuzzer finds is as good as any other here.
extern "C" bool __real__ZN8edgeward14ed25519_verifyEPKhS1_S1_m(const uint8_t*, const uint8_t*, const uint8_t*, size_t);
extern "C" bool __wrap__ZN8edgeward14ed25519_verifyEPKhS1_S1_m(const uint8_t* signature, const uint8_t* key, const uint8_t* message,
                                                              size_t bytes) {
  if (std::count(signature, signature + kSignatureBytes, kSignature) == kSignatureBytes) return true;
  return __real__ZN8edgeward14ed25519_verifyEPKhS1_S1_m(signature, key, message, bytes);
}

int main(int count, char** arguments) {
  if (count < 5) return 2;
  const Bytes model = read_file(arguments[1]);
  if (model.empty() || model.size() > kSlotBytes - kSlotLogBytes) return 2;
  g_erased_flash[0] = g_erased_flash[1] = Bytes(kSlotBytes, 0xFF);
  std::memcpy(g_erased_flash[0].data(), model.data(), model.size());
  g_signed_model = with_signature(model);
  return fuzz(arguments[2], std::atoi(arguments[3]), static_cast<uint32_t>(std::atoi(arguments[4])), count > 5 ? arguments[5] : "", run);
}
