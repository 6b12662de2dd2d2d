// The header of a signed program, 256 bytes (docs/design.md, section 9). On its way it stands before the image, in flash in the last
// sector of the program's place.
//
//   0 "EWFW"   4 u16 version 1   6 u16 256   8 u32 bytes of the image   12 u32 seconds of its trial   16 SHA-256 of the image
//   48 chip, 16 letters at most   64 version, 31 at most; both end with zeros   96 zeros   192 Ed25519 signature
//
// There follow what the program before knew, as its successor may be wrong about it: the SHA-256 of the model in use, or nothing, and
// "EWBC" where the board had no place in a network.
//
// Signed are "edgeward firmware 1\n" and the 192 bytes before the signature.
#pragma once

#include <cstdint>

#include "core/keys.h"
#include "core/refusal.h"
#include "hal/firmware.h"

namespace edgeward {

constexpr uint32_t kFirmwareHeaderBytes = 256;
constexpr uint32_t kLeastTrialS = 10;
constexpr uint32_t kMostTrialS = 3600;

struct FirmwareHeader {
  uint32_t image_bytes = 0;
  uint32_t trial_s = 0;
  uint8_t sha256[32] = {};
  char chip[17] = {};
  char version[33] = {};
  char digest[17] = {};  // first 8 bytes of the SHA-256 as hex: how a program is named
};

// Whether `data` claims to be such a header.
bool is_firmware(const uint8_t* data, uint32_t bytes);

// Reads and checks every field. `capacity` of the place for the image, in bytes. Says nothing about the signature.
Refusal read_firmware_header(const uint8_t* data, uint32_t bytes, uint32_t capacity, FirmwareHeader* out);

// By the key for programs: a key that may sign models is none.
Refusal check_firmware_signature(const Keys& keys, const uint8_t* header);

// Bytes a place has for an image, all but its last sector; 0 when the place does not exist.
uint32_t program_capacity(hal::Slot slot);

inline hal::Slot other_program(hal::Slot slot) { return slot == hal::Slot::app_a ? hal::Slot::app_b : hal::Slot::app_a; }
inline const char* program_name(hal::Slot slot) { return slot == hal::Slot::app_a ? "a" : "b"; }

struct Before {
  bool had_model = false;
  uint8_t model[32] = {};
  bool by_cable = false;  // no order can come: who is at the cable keeps the program
};
constexpr uint32_t kBeforeBytes = 36;
void pack_before(const Before& before, uint8_t out[kBeforeBytes]);

// Whether the place holds the image of the header in its last sector, which is what came over the air; a flasher leaves none.
bool read_program(hal::Slot slot, FirmwareHeader* out, Before* before);

}  // namespace edgeward
