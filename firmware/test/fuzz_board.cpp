// Fuzzes the whole firmware from its serial port and its network: what it is fed is mutated, and kept when it reaches new code.
//
//   fuzz-board MODEL.bin CORPUS SECONDS SEED [KEEP]
//
// Built with sanitizers and -fsanitize-coverage=trace-pc. An input is a row of pieces, u8 kind, u16 length, bytes: odd
// kinds are wrapped into a frame with its right CRC, even ones go over the line as they are. Those from 0x80 on are for the network, by
// kind modulo 8: 0 a message as it is; 1 an order, u8 number and the command, of which all is right; 2 the network goes away or is
// back; 3 an order for an update that begins with this header, and the header; 4 an order for the board's own model, and its header; 5
// a part of it, u16 first word, u8 words; 6 its end; 7 an order for nobody. With one of them in the input the board has a place, a key
// that signs anything, and that model signed. Time passes at the end of the input, and the board starts once more where it restarted.
//
// After each, a stream is ended: then, and where the board restarts, no output of a rule is on.
//
// Inputs that reach new code are written to the folder KEEP, with 0 SECONDS those of CORPUS that add something to the smaller ones; the one that ends the program to `crash.bin` there. stdout: inputs run, and kept.
#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "core/board.h"
#include "core/crc.h"
#include "core/hmac.h"
#include "core/orders.h"
#include "core/pins.h"
#include "core/sha256.h"
#include "test/sent.h"

extern "C" void __sanitizer_set_death_callback(void (*callback)());

namespace {

using Bytes = std::vector<uint8_t>;

constexpr uint32_t kMapBytes = 1 << 16;
constexpr uint32_t kSlotBytes = 8 * edgeward::hal::kFlashSectorBytes;
constexpr uint32_t kArenaBytes = 16 * 1024;
constexpr size_t kLongestInput = 4000;

uint8_t g_hits[kMapBytes];
uint8_t g_known[kMapBytes];  // for every edge, the count classes seen
uintptr_t g_last = 0;

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

Bytes g_current;
std::string g_keep;

Bytes read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return Bytes(std::istreambuf_iterator<char>(file), {});
}

void write_file(const std::string& path, const Bytes& bytes) {
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
}

void keep_crash() {
  if (!g_keep.empty()) write_file(g_keep + "/crash.bin", g_current);
}

}  // namespace

extern "C" __attribute__((no_sanitize_coverage)) void __sanitizer_cov_trace_pc() {
  const auto here = reinterpret_cast<uintptr_t>(__builtin_return_address(0));
  const uintptr_t spread = here ^ (here >> 16);
  ++g_hits[(spread ^ (g_last << 1)) % kMapBytes];
  g_last = spread;
}

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

// A key, besides what the sector says already.
void add_key(Bytes* sector) {
  uint8_t* const entry = sector->data() + 64;
  constexpr uint8_t kAdd[] = {'E', 'W', 'K', 'Y', 1, 0, 0, 0};
  std::memcpy(entry, kAdd, sizeof kAdd);
  std::memset(entry + sizeof kAdd, 9, 32);
  put_u32(entry + 60, crc32(entry, 60));
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
    case 3: return update(content);
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

bool run(const Bytes& input) {
  g_current = input;
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
  if (!g_messages.empty()) {
    std::copy(g_signed_model.begin(), g_signed_model.end(), g_flash[0].begin());
    add_key(&g_flash[2]);
    g_flash[3] = sectors_with_place();
  }
  g_messages_at = 0;
  g_started = g_unasked = false;
  g_connected = true;
  g_restarted = false;
  std::memset(g_on, 0, sizeof g_on);
  std::memset(g_hits, 0, sizeof g_hits);
  g_last = 0;
  static uint8_t* const arena = static_cast<uint8_t*>(std::aligned_alloc(16, kArenaBytes));
  run_until_end(arena);
  if (g_restarted) {
    check_pins(true);
    g_started = false;
    g_unasked = false;
    run_until_end(arena);
  }
  check_pins(true);
  bool news = false;
  for (uint32_t i = 0; i < kMapBytes; ++i) {
    if (g_hits[i] == 0) continue;
    const int hits = g_hits[i];
    const auto count_class = static_cast<uint8_t>(hits >= 128 ? 128 : hits >= 16 ? 16 : hits >= 4 ? 4 : 1);
    news |= (g_known[i] & count_class) == 0;
    g_known[i] |= count_class;
  }
  return news;
}

uint32_t g_random = 1;

uint32_t random_below(size_t n) {
  g_random ^= g_random << 13;
  g_random ^= g_random >> 17;
  g_random ^= g_random << 5;
  return n == 0 ? 0 : g_random % static_cast<uint32_t>(n);
}

Bytes::iterator place(Bytes* bytes, size_t at) { return bytes->begin() + static_cast<std::ptrdiff_t>(at); }

Bytes mutate(const std::vector<Bytes>& corpus) {
  Bytes out = corpus[random_below(corpus.size())];
  for (uint32_t rounds = 1 + random_below(6); rounds > 0; --rounds) {
    const size_t at = random_below(out.size() + 1);
    switch (random_below(7)) {
      case 0:
        if (at < out.size()) out[at] ^= static_cast<uint8_t>(1u << random_below(8));
        break;
      case 1: {
        constexpr uint8_t kEdges[] = {0, 1, 2, 4, 0x7F, 0x80, 0xFE, 0xFF, '0', '9', ' ', '%', '\n'};
        if (at < out.size()) out[at] = kEdges[random_below(sizeof kEdges)];
        break;
      }
      case 2:
        out.insert(place(&out, at), static_cast<uint8_t>(random_below(256)));
        break;
      case 3:
        out.erase(place(&out, at), place(&out, std::min(out.size(), at + 1 + random_below(16))));
        break;
      case 4: {  // a part of another input
        const Bytes& other = corpus[random_below(corpus.size())];
        const size_t from = random_below(other.size());
        const size_t to = std::min(other.size(), from + random_below(300));
        out.insert(place(&out, at), other.data() + from, other.data() + to);
        break;
      }
      case 5: {  // the whole of another input behind it
        const Bytes& other = corpus[random_below(corpus.size())];
        out.insert(out.end(), other.begin(), other.end());
        break;
      }
      default:
        for (size_t i = at; i < std::min(out.size(), at + 4); ++i) out[i] = static_cast<uint8_t>(random_below(256));
    }
  }
  if (out.size() > kLongestInput) out.resize(kLongestInput);
  return out;
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
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(std::atoi(arguments[3]));
  g_random = static_cast<uint32_t>(std::atoi(arguments[4])) | 1;
  if (count > 5) g_keep = arguments[5];
  __sanitizer_set_death_callback(keep_crash);
  std::signal(SIGABRT, [](int) { keep_crash(); });  // of a broken promise, which no sanitizer sees
  std::vector<Bytes> corpus = {Bytes{}};
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::directory_iterator(arguments[2])) paths.push_back(entry.path());
  const auto order = [](const auto& path) { return std::make_pair(std::filesystem::file_size(path), path); };
  std::sort(paths.begin(), paths.end(), [&](const auto& a, const auto& b) { return order(a) < order(b); });
  for (const auto& path : paths) corpus.push_back(read_file(path));
  unsigned long runs = 0;
  unsigned kept = 0;
  for (const Bytes& input : corpus) {
    const bool news = run(input);
    ++runs;
    if (!news || std::atoi(arguments[3]) > 0 || g_keep.empty()) continue;
    char name[32];
    std::snprintf(name, sizeof name, "/input-%04u", kept++);
    write_file(g_keep + name, input);
  }
  while (std::chrono::steady_clock::now() < end) {
    const Bytes input = mutate(corpus);
    ++runs;
    if (!run(input)) continue;
    corpus.push_back(input);
    char name[32];
    std::snprintf(name, sizeof name, "/kept-%05u", kept++);
    if (!g_keep.empty()) write_file(g_keep + name, input);
  }
  std::printf("%lu %u\n", runs, kept);
  return 0;
}
