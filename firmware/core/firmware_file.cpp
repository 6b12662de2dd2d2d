#include "core/firmware_file.h"

#include <cstring>

#include "core/little_endian.h"
#include "core/sha256.h"

namespace edgeward {
namespace {

constexpr char kMagic[] = "EWFW";
constexpr uint32_t kVersion = 1;
constexpr uint32_t kSignatureAt = 192;
constexpr char kContext[] = "edgeward firmware 1\n";
constexpr uint32_t kContextBytes = sizeof kContext - 1;
constexpr uint32_t kZerosAt = 96;
constexpr char kByCable[] = "EWBC";
constexpr uint32_t kChipBytes = 16, kVersionBytes = 32;

bool all_zero(const uint8_t* data, uint32_t bytes) {
  uint8_t any = 0;
  for (uint32_t i = 0; i < bytes; ++i) any |= data[i];
  return any == 0;
}

// Letters that need no escape in a record, then zeros.
bool read_text(const uint8_t* data, uint32_t bytes, char* out) {
  uint32_t used = 0;
  while (used < bytes && data[used] != 0) ++used;
  if (used == 0 || !all_zero(data + used, bytes - used)) return false;
  for (uint32_t i = 0; i < used; ++i) {
    if (data[i] <= ' ' || data[i] > '~' || data[i] == '"' || data[i] == '\\') return false;
    out[i] = static_cast<char>(data[i]);
  }
  out[used] = 0;
  return true;
}

}  // namespace

bool is_firmware(const uint8_t* data, uint32_t bytes) { return bytes >= 4 && std::memcmp(data, kMagic, 4) == 0; }

Refusal read_firmware_header(const uint8_t* data, uint32_t bytes, uint32_t capacity, FirmwareHeader* out) {
  const Refusal damaged{"bad_header", "the header of the new program is damaged"};
  if (bytes != kFirmwareHeaderBytes || !is_firmware(data, bytes)) return damaged;
  if (u32(data + 4) != (kVersion | kFirmwareHeaderBytes << 16)) return Refusal{"bad_version", "a header this board does not know"};
  out->image_bytes = u32(data + 8);
  out->trial_s = u32(data + 12);
  std::memcpy(out->sha256, data + 16, sizeof out->sha256);
  if (!read_text(data + 48, kChipBytes, out->chip) || !read_text(data + 64, kVersionBytes, out->version)) return damaged;
  if (!all_zero(data + kZerosAt, kSignatureAt - kZerosAt)) return damaged;
  if (out->trial_s < kLeastTrialS || out->trial_s > kMostTrialS) return Refusal{"bad_trial", "a trial takes 10 to 3600 seconds"};
  if (out->image_bytes == 0 || out->image_bytes % 4 != 0) return damaged;
  if (out->image_bytes > capacity) return Refusal{"too_large", "the program does not fit its place in flash"};
  for (int i = 0; i < 16; ++i) out->digest[i] = "0123456789abcdef"[out->sha256[i / 2] >> (i % 2 == 0 ? 4 : 0) & 15];
  out->digest[16] = 0;
  return Refusal{};
}

Refusal check_firmware_signature(const Keys& keys, const uint8_t* header) {
  if (!keys.has_program_key || keys.damaged) return Refusal{"no_program_key", "this board has no key that may sign its program"};
  uint8_t message[kContextBytes + kSignatureAt];
  std::memcpy(message, kContext, kContextBytes);
  std::memcpy(message + kContextBytes, header, kSignatureAt);
  if (ed25519_verify(header + kSignatureAt, keys.program_key, message, sizeof message)) return Refusal{};
  return Refusal{"bad_signature", "the key this board has for programs did not make the signature"};
}

uint32_t program_capacity(hal::Slot slot) {
  const uint32_t bytes = hal::slot_bytes(slot);
  return bytes > hal::kFlashSectorBytes ? bytes - hal::kFlashSectorBytes : 0;
}

void pack_before(const Before& before, uint8_t out[kBeforeBytes]) {
  std::memset(out, 0xFF, kBeforeBytes);
  if (before.had_model) std::memcpy(out, before.model, kSha256Bytes);
  if (before.by_cable) std::memcpy(out + kSha256Bytes, kByCable, 4);
}

bool read_program(hal::Slot slot, FirmwareHeader* out, Before* before) {
  const hal::SlotView view = hal::slot_map(slot);
  if (view.data == nullptr) return false;
  const uint32_t capacity = program_capacity(slot);
  const uint8_t* const last = view.data + capacity;
  bool whole = !read_firmware_header(last, kFirmwareHeaderBytes, capacity, out);
  if (whole) {
    uint8_t digest[kSha256Bytes];
    sha256(view.data, out->image_bytes, digest);
    whole = std::memcmp(digest, out->sha256, sizeof digest) == 0;
    const uint8_t* const known = last + kFirmwareHeaderBytes;
    for (uint32_t i = 0; i < kSha256Bytes; ++i) before->had_model = before->had_model || known[i] != 0xFF;
    std::memcpy(before->model, known, kSha256Bytes);
    before->by_cable = std::memcmp(known + kSha256Bytes, kByCable, 4) == 0;
  }
  hal::slot_unmap(slot);
  return whole;
}

}  // namespace edgeward
