// Where a board without a cable belongs: the first sector of hal::Slot::network.
//
// u32 magic "EWNW", u32 bytes, u32 CRC-32 of these bytes, u32 0xFFFFFFFF, then entries: u8 tag, u16 bytes (little-endian), a text that
// ends with a zero. They are written before the head: a cut of power leaves the settings before, or none. No command reads
// them back. Who holds the flash chip can, and has the board's key then.
#pragma once

#include <cstdint>

#include "core/hmac.h"
#include "core/refusal.h"
#include "hal/hal.h"
#include "hal/network.h"

namespace edgeward {

constexpr uint32_t kSettingsHeadBytes = 16;
constexpr uint32_t kSettingsBytes = hal::kFlashSectorBytes - kSettingsHeadBytes;

struct Settings {
  hal::NetworkSettings network = {"", "", "", 0, "", "", "", "", ""};
  const uint8_t* secret = nullptr;  // kSecretBytes; null where the board belongs nowhere
  uint32_t metrics_every_ms = 0;    // 0: when asked
};

// What flash holds; refused where it is damaged, without a code and a secret where there is nothing.
Refusal read_settings(Settings* out);

// Checks `entries` and puts them in place of those before. What `read_settings` gave before is invalid afterwards.
Refusal write_settings(const uint8_t* entries, uint32_t bytes);

// Leaves the board without a place.
Refusal forget_settings();

}  // namespace edgeward
