#include "core/orders.h"

#include <cstring>

#include "core/crc.h"
#include "core/ed25519.h"
#include "core/sha256.h"
#include "hal/hal.h"

namespace edgeward {
namespace {

constexpr char kOrderMagic[] = "EWORDER1";
constexpr uint32_t kOrderMagicBytes = 8;
constexpr uint32_t kEntryMagic = 0x4E4F5745;  // "EWON"
constexpr uint64_t kMostNumber = INT64_MAX;
constexpr uint32_t kLogSectors = 2;
constexpr uint32_t kFirstLogSector = 1;

struct Entry {
  uint32_t magic;
  uint32_t low, high;  // of the number
  uint32_t crc;
};
static_assert(sizeof(Entry) == 16, "a whole number of entries fills a sector");
constexpr uint32_t kEntries = hal::kFlashSectorBytes / sizeof(Entry);

constexpr uint32_t kCopies = 2;

// An entry is bound to the settings by their digest.
uint32_t crc_of(const Entry& entry, const uint8_t digest[kSha256Bytes]) {
  uint8_t checked[sizeof entry - sizeof entry.crc + kSha256Bytes];
  std::memcpy(checked, &entry, sizeof entry - sizeof entry.crc);
  std::memcpy(checked + sizeof entry - sizeof entry.crc, digest, kSha256Bytes);
  return crc32(checked, sizeof checked);
}

struct Log {
  uint64_t last = 0;
  uint32_t sector = 0;           // of the log, where `last` is
  uint32_t free[kLogSectors] = {};  // the first place in each where nothing was ever written
};

uint32_t offset_of(uint32_t sector, uint32_t entry) {
  return (kFirstLogSector + sector) * hal::kFlashSectorBytes + entry * static_cast<uint32_t>(sizeof(Entry));
}

bool has_log(const hal::SlotView& view) { return view.data != nullptr && view.bytes >= offset_of(kLogSectors, 0); }

Log read_log(const hal::SlotView& view, const uint8_t digest[kSha256Bytes]) {
  Log log;
  for (uint32_t sector = 0; sector < kLogSectors; ++sector) {
    for (uint32_t i = 0; i < kEntries; ++i) {
      Entry entry;
      std::memcpy(&entry, view.data + offset_of(sector, i), sizeof entry);
      if ((entry.magic & entry.low & entry.high & entry.crc) == 0xFFFFFFFF) continue;
      log.free[sector] = i + 1;
      const uint64_t number = uint64_t{entry.high} << 32 | entry.low;
      if (entry.magic != kEntryMagic || number <= log.last || entry.crc != crc_of(entry, digest)) continue;
      log.last = number;
      log.sector = sector;
    }
  }
  return log;
}

// Cuts a text of up to `most` characters, its length before it, out of what is left of an order.
bool take_text(const uint8_t** at, const uint8_t* end, uint32_t most, char* out) {
  if (*at == end) return false;
  const uint32_t bytes = *(*at)++;
  if (bytes > most || bytes > static_cast<uint32_t>(end - *at)) return false;
  std::memcpy(out, *at, bytes);
  out[bytes] = 0;
  *at += bytes;
  return std::strlen(out) == bytes;
}

// Whether `text` is FEDERATION/NAME/ID of this board.
bool is_addressed(const char* text, const Settings& board) {
  const char* const parts[] = {board.network.federation, board.network.name};
  for (const char* const part : parts) {
    const size_t bytes = std::strlen(part);
    if (std::strncmp(text, part, bytes) != 0 || text[bytes] != '/') return false;
    text += bytes + 1;
  }
  uint8_t digest[kSha256Bytes];
  sha256(board.secret, kSecretBytes, digest);
  for (int i = 0; i < 16; ++i, ++text) {
    if (*text != "0123456789abcdef"[digest[i / 2] >> (i % 2 == 0 ? 4 : 0) & 15]) return false;
  }
  return *text == 0;
}

// In as much time for a wrong one as for the right one.
bool is_from_owner(const uint8_t* data, uint32_t bytes, const uint8_t* secret) {
  uint8_t room[kHmacBlockBytes + kMostOrderBytes];
  std::memcpy(room + kHmacBlockBytes, data, bytes);
  uint8_t mac[kSha256Bytes];
  hmac_sha256(secret, room, bytes, mac);
  uint8_t differs = 0;
  for (uint32_t i = 0; i < kOrderMacBytes; ++i) differs |= static_cast<uint8_t>(mac[i] ^ data[bytes + i]);
  return differs == 0;
}

}  // namespace

Refusal read_order(const uint8_t* data, uint32_t bytes, const Keys& keys, const Settings& board, Order* out) {
  const Refusal damaged{"bad_order", "the order is damaged"};
  constexpr uint32_t kLeast = kOrderMagicBytes + 8 + kSignatureBytes + kOrderMacBytes;
  if (bytes < kLeast || bytes > kMostOrderBytes || std::memcmp(data, kOrderMagic, kOrderMagicBytes) != 0) return damaged;
  const uint32_t signed_bytes = bytes - kSignatureBytes - kOrderMacBytes;
  const uint8_t* at = data + kOrderMagicBytes;
  const uint8_t* const end = data + signed_bytes;
  uint64_t number = 0;
  for (int i = 7; i >= 0; --i) number = number << 8 | at[i];
  at += 8;
  char addressee[kAddresseeBytes + 1];
  if (!take_text(&at, end, kAddresseeBytes, addressee) || !take_text(&at, end, kLineBytes, out->command) || at != end) return damaged;
  if (number > kMostNumber) return damaged;  // readers of records have signed numbers
  out->number = number;
  if (!is_addressed(addressee, board)) return Refusal{"not_addressed", "the order is for another board, or for settings before these"};
  if (number <= last_order(board)) return Refusal{"old_order", "this order was given before, or a later one was"};
  if (!is_from_owner(data, bytes - kOrderMacBytes, board.secret)) return Refusal{"bad_mac", "who made the order does not have the secret of this board"};
  for (uint32_t i = 0; i < keys.count; ++i) {
    if (ed25519_verify(data + signed_bytes, keys.keys[i], data, signed_bytes)) return Refusal{};
    hal::idle(0);  // feeds the watchdog
  }
  return Refusal{"bad_signature", "no key of this board made the signature of the order"};
}

uint64_t last_order(const Settings& board) {
  const hal::SlotView view = hal::slot_map(hal::Slot::network);
  if (!has_log(view)) return UINT64_MAX;
  uint8_t digest[kSha256Bytes];
  sha256(board.secret, kSecretBytes, digest);
  return read_log(view, digest).last;
}

Refusal note_order(const Settings& board, uint64_t number) {
  const hal::SlotView view = hal::slot_map(hal::Slot::network);
  const Refusal failed{"flash_failed", "flash did not take the number of the order, which is not obeyed"};
  if (!has_log(view)) return failed;
  uint8_t digest[kSha256Bytes];
  sha256(board.secret, kSecretBytes, digest);
  const Log log = read_log(view, digest);
  uint32_t sector = log.sector;
  uint32_t place = log.free[sector];
  if (place + kCopies > kEntries) {
    sector = (sector + 1) % kLogSectors;
    place = 0;
    if (!hal::slot_erase(hal::Slot::network, offset_of(sector, 0), hal::kFlashSectorBytes)) return failed;
  }
  Entry entry{kEntryMagic, static_cast<uint32_t>(number), static_cast<uint32_t>(number >> 32), 0};
  entry.crc = crc_of(entry, digest);
  const Entry copies[kCopies] = {entry, entry};
  const auto* const bytes = reinterpret_cast<const uint8_t*>(copies);
  const uint32_t offset = offset_of(sector, place);
  if (!hal::slot_write(hal::Slot::network, offset, bytes, sizeof copies) ||
      std::memcmp(view.data + offset, bytes, sizeof copies) != 0) {
    return failed;
  }
  return Refusal{};
}

}  // namespace edgeward
