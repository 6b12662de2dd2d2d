#include "core/settings.h"

#include <cstring>

#include "core/crc.h"
#include "core/little_endian.h"
#include "core/text.h"

namespace edgeward {
namespace {

constexpr uint32_t kMagic = 0x574E5745;  // "EWNW"
constexpr uint32_t kEntryHeadBytes = 3;
constexpr uint32_t kMostMetricsMs = 3600 * 1000;

enum class Tag : uint8_t {
  filling = 0,  // so that the entries are whole words
  ssid = 1, password = 2, host = 3, port = 4, federation = 5, name = 6, ca = 7, certificate = 8, key = 9, secret = 10, metrics_ms = 11,
};

const Refusal kBadSettings{"bad_settings", "the network settings are damaged or not complete"};

// A name as in topics: 1 to 64 of a-z, 0-9, '.', '_', '-'.
bool is_name(const char* text) {
  uint32_t count = 0;
  for (; text[count] != 0; ++count) {
    const char c = text[count];
    if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-')) return false;
  }
  return count >= 1 && count <= 64;
}

// As it can stand in a record.
bool is_printable(const char* text) {
  for (; *text != 0; ++text) {
    if (*text < 0x20 || *text > 0x7E || *text == '"' || *text == '\\') return false;
  }
  return true;
}

bool put(Settings* out, uint8_t tag, const uint8_t* value, uint32_t bytes) {
  if (static_cast<Tag>(tag) == Tag::filling) return true;
  if (static_cast<Tag>(tag) == Tag::secret) {
    out->secret = value;
    return bytes == kSecretBytes;
  }
  // A text with one zero, at its end.
  if (bytes == 0 || std::memchr(value, 0, bytes) != value + bytes - 1) return false;
  const char* const text = reinterpret_cast<const char*>(value);
  uint32_t number = 0;
  hal::NetworkSettings& network = out->network;
  switch (static_cast<Tag>(tag)) {
    case Tag::ssid: network.ssid = text; return bytes <= 33;
    case Tag::password: network.password = text; return bytes <= 65;
    case Tag::host: network.host = text; return bytes <= 254 && is_printable(text);
    case Tag::port:
      if (!parse_count(text, 65535, &number)) return false;
      network.port = static_cast<uint16_t>(number);
      return number > 0;
    case Tag::federation: network.federation = text; return is_name(text);
    case Tag::name: network.name = text; return is_name(text);
    case Tag::ca: network.ca = text; return true;
    case Tag::certificate: network.certificate = text; return true;
    case Tag::key: network.key = text; return true;
    case Tag::metrics_ms: return parse_count(text, kMostMetricsMs, &out->metrics_every_ms);
    case Tag::filling:
    case Tag::secret: break;
  }
  return false;
}

bool parse(const uint8_t* entries, uint32_t bytes, Settings* out) {
  *out = Settings{};
  uint32_t at = 0, seen = 0;
  while (at < bytes) {
    if (bytes - at < kEntryHeadBytes) return false;
    const uint32_t length = uint32_t{entries[at + 1]} | uint32_t{entries[at + 2]} << 8;
    if (length > bytes - at - kEntryHeadBytes) return false;
    const uint32_t bit = entries[at] < 32 ? 1u << entries[at] : 0;
    if ((seen & bit) != 0) return false;  // two answers to one question
    seen |= bit;
    if (!put(out, entries[at], entries + at + kEntryHeadBytes, length)) return false;
    at += kEntryHeadBytes + length;
  }
  const hal::NetworkSettings& network = out->network;
  const bool identified = *network.certificate != 0 && *network.key != 0 && *network.ca != 0;
  const bool anonymous = *network.certificate == 0 && *network.key == 0;
  return out->secret != nullptr && *network.host != 0 && network.port > 0 && *network.federation != 0 && *network.name != 0 &&
         (identified || anonymous);
}

}  // namespace

Refusal read_settings(Settings* out) {
  *out = Settings{};
  const hal::SlotView view = hal::slot_map(hal::Slot::network);
  if (view.data == nullptr || view.bytes < hal::kFlashSectorBytes || u32(view.data) == 0xFFFFFFFF) return Refusal{};
  const uint32_t bytes = u32(view.data + 4);
  const uint8_t* const entries = view.data + kSettingsHeadBytes;
  const bool whole = u32(view.data) == kMagic && bytes <= kSettingsBytes && crc32(entries, bytes) == u32(view.data + 8);
  if (whole && parse(entries, bytes, out)) return Refusal{};
  *out = Settings{};
  return kBadSettings;
}

Refusal write_settings(const uint8_t* entries, uint32_t bytes) {
  Settings settings;
  if (bytes > kSettingsBytes || bytes % 4 != 0 || !parse(entries, bytes, &settings)) return kBadSettings;
  if (const Refusal refusal = forget_settings()) return refusal;
  const uint32_t words[4] = {kMagic, bytes, crc32(entries, bytes), 0xFFFFFFFF};
  const hal::SlotView view = hal::slot_map(hal::Slot::network);
  if (!hal::slot_write(hal::Slot::network, kSettingsHeadBytes, entries, bytes) ||
      !hal::slot_write(hal::Slot::network, 0, reinterpret_cast<const uint8_t*>(words), sizeof words) ||
      std::memcmp(view.data, words, sizeof words) != 0 || std::memcmp(view.data + kSettingsHeadBytes, entries, bytes) != 0) {
    return Refusal{"flash_failed", "flash did not take what was written"};
  }
  return Refusal{};
}

Refusal forget_settings() {
  if (hal::slot_map(hal::Slot::network).data == nullptr) {
    return Refusal{"no_network_store", "this board has no sectors for a network: flash its partition table"};
  }
  if (hal::slot_erase(hal::Slot::network, 0, hal::kFlashSectorBytes)) return Refusal{};
  return Refusal{"flash_failed", "flash did not erase the settings"};
}

}  // namespace edgeward
