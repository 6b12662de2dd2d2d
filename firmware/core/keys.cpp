#include "core/keys.h"

#include <cstddef>
#include <cstring>

#include "core/crc.h"
#include "core/sha256.h"
#include "hal/hal.h"

namespace edgeward {
namespace {

constexpr uint32_t kMagic = 0x594B5745;  // "EWKY"

enum class Action : uint32_t { add = 1, remove = 2, lock = 3, allow_recording = 4, forbid_recording = 5, open_rules = 6, program_key = 7 };

struct Entry {
  uint32_t magic;
  Action action;
  uint8_t key[kPublicKeyBytes];
  uint8_t reserved[20];
  uint32_t crc;  // CRC-32 of what is before it
};
static_assert(sizeof(Entry) == 64, "a whole number of entries fills a sector");
constexpr uint32_t kEntries = hal::kFlashSectorBytes / sizeof(Entry);

uint32_t crc_of(const Entry& entry) { return crc32(reinterpret_cast<const uint8_t*>(&entry), offsetof(Entry, crc)); }

bool is_program_key(const Keys& keys, const uint8_t* key) {
  return keys.has_program_key && std::memcmp(keys.program_key, key, kPublicKeyBytes) == 0;
}

// Position of `key`, or keys.count.
uint32_t find(const Keys& keys, const uint8_t* key) {
  uint32_t i = 0;
  while (i < keys.count && std::memcmp(keys.keys[i], key, kPublicKeyBytes) != 0) ++i;
  return i;
}

void apply(const Entry& entry, Keys* keys) {
  const uint32_t at = find(*keys, entry.key);
  switch (entry.action) {
    case Action::add:
      if (at == keys->count && at < kMaxKeys) std::memcpy(keys->keys[keys->count++], entry.key, kPublicKeyBytes);
      return;
    case Action::remove:
      if (is_program_key(*keys, entry.key)) keys->has_program_key = false;
      if (at < keys->count) std::memmove(keys->keys[at], keys->keys[--keys->count], kPublicKeyBytes);
      return;
    case Action::lock: keys->locked = true; return;
    case Action::allow_recording: keys->recording = true; return;
    case Action::forbid_recording: keys->recording = false; return;
    case Action::open_rules: keys->rules_open = true; return;
    case Action::program_key:
      keys->has_program_key = true;
      std::memcpy(keys->program_key, entry.key, kPublicKeyBytes);
      return;
  }
}

// The keys, and the first place in the log nothing was ever written to.
Keys read_log(uint32_t* free) {
  Keys keys;
  *free = 0;
  const hal::SlotView view = hal::slot_map(hal::Slot::keys);
  if (view.data == nullptr || view.bytes < hal::kFlashSectorBytes) return keys;
  const uint8_t* at = view.data;
  for (uint32_t i = 0; i < kEntries; ++i, at += sizeof(Entry)) {
    Entry entry;
    std::memcpy(&entry, at, sizeof entry);
    bool blank = true;
    for (uint32_t k = 0; k < sizeof entry; ++k) blank = blank && at[k] == 0xFF;
    if (blank) continue;
    *free = i + 1;
    if (entry.magic == kMagic && entry.crc == crc_of(entry)) {
      apply(entry, &keys);
    } else {
      keys.damaged = true;
    }
  }
  return keys;
}

Refusal append(Action action, const uint8_t* key) {
  const hal::SlotView view = hal::slot_map(hal::Slot::keys);
  if (view.data == nullptr) return Refusal{"no_key_store", "this board has no sector for keys: flash its partition table"};
  uint32_t free = 0;
  const bool locked = read_log(&free).locked;
  if (locked && action != Action::forbid_recording) return Refusal{"keys_locked", "the keys were locked: only flashing changes them"};
  if (free == kEntries) return Refusal{"key_log_full", "too many changes: flashing the keys makes room"};
  Entry entry;
  std::memset(&entry, 0xFF, sizeof entry);
  entry.magic = kMagic;
  entry.action = action;
  if (key != nullptr) std::memcpy(entry.key, key, kPublicKeyBytes);
  entry.crc = crc_of(entry);
  const uint32_t offset = free * static_cast<uint32_t>(sizeof entry);
  const auto* const bytes = reinterpret_cast<const uint8_t*>(&entry);
  if (!hal::slot_write(hal::Slot::keys, offset, bytes, sizeof entry) ||
      std::memcmp(view.data + offset, bytes, sizeof entry) != 0) {
    return Refusal{"flash_failed", "flash did not take what was written"};
  }
  return Refusal{};
}

}  // namespace

bool Keys::holds(const uint8_t key[kPublicKeyBytes]) const { return find(*this, key) < count; }

Keys read_keys() {
  uint32_t free = 0;
  return read_log(&free);
}

Refusal add_key(const uint8_t key[kPublicKeyBytes]) {
  if (!ed25519_key_ok(key)) return Refusal{"bad_key", "these bytes are no Ed25519 public key"};
  const Keys keys = read_keys();
  if (keys.holds(key)) return Refusal{};
  if (keys.count == kMaxKeys && !keys.locked) return Refusal{"too_many_keys", "remove one first"};
  return append(Action::add, key);
}

Refusal set_program_key(const uint8_t key[kPublicKeyBytes]) {
  if (!ed25519_key_ok(key)) return Refusal{"bad_key", "these bytes are no Ed25519 public key"};
  const Keys keys = read_keys();
  if (is_program_key(keys, key)) return Refusal{};
  return append(Action::program_key, key);
}

Refusal remove_key(const uint8_t key[kPublicKeyBytes]) {
  const Keys keys = read_keys();
  if (!keys.holds(key) && !is_program_key(keys, key)) return Refusal{"unknown_key", "this key is not among those of the board"};
  return append(Action::remove, key);
}

Refusal lock_keys() {
  const Keys keys = read_keys();
  if (keys.locked) return Refusal{};
  if (keys.count == 0) return Refusal{"no_key", "there is no key: locked, the board could never get one"};
  return append(Action::lock, nullptr);
}

Refusal forbid_recording() {
  if (!read_keys().may_record()) return Refusal{};
  return append(Action::forbid_recording, nullptr);
}

Refusal check_signature(const Keys& keys, const uint8_t* data, const ModelHeader& header) {
  if (keys.count == 0 && keys.damaged) return Refusal{"keys_damaged", "the keys of this board cannot be read: set one again"};
  if (keys.count == 0) return Refusal{};
  if (!is_signed(header)) return Refusal{"not_signed", "this board has keys, and the model no signature"};
  if (!is_gapless(header)) return Refusal{"bad_section", "the sections of a signed model leave no gap"};
  for (uint32_t i = 0; i < keys.count; ++i) {
    if (ed25519_verify(header.signature, keys.keys[i], data, kSignedBytes)) return Refusal{};
    hal::idle(0);  // feeds the watchdog: it takes a board a good part of a second
  }
  return Refusal{"bad_signature", "no key of this board made the signature of the model"};
}

void key_id(const uint8_t key[kPublicKeyBytes], char out[17]) {
  uint8_t digest[kSha256Bytes];
  sha256(key, kPublicKeyBytes, digest);
  for (int i = 0; i < 16; ++i) out[i] = "0123456789abcdef"[digest[i / 2] >> (i % 2 == 0 ? 4 : 0) & 15];
  out[16] = 0;
}

}  // namespace edgeward
