#include "core/firmware_updater.h"

#include <cstring>

#include "core/sha256.h"

namespace edgeward {
namespace {

constexpr uint32_t kSector = hal::kFlashSectorBytes;

Refusal flash_failed() { return Refusal{"flash_failed", "flash did not take what was written or erased"}; }

}  // namespace

Refusal FirmwareUpdater::begin(const uint8_t* header, uint32_t bytes, const Keys& keys, const char* chip) {
  arrival_.open = false;
  hal::Slot runs;
  if (!hal::firmware_place(&runs)) return Refusal{"no_second_place", "flash has no second place for a program: flash everything once"};
  if (hal::firmware_on_trial()) return kOnTrial;
  target_ = other_program(runs);
  const hal::SlotView area = program_area(target_);
  if (const Refusal refusal = read_firmware_header(header, bytes, area.bytes, &header_)) return refusal;
  if (std::strcmp(header_.chip, chip) != 0) return Refusal{"wrong_chip", "the program is for another chip"};
  if (const Refusal refusal = check_firmware_signature(keys, header)) return refusal;
  std::memcpy(header_bytes_, header, sizeof header_bytes_);
  if (!hal::slot_erase(target_, area.bytes, kSector)) return flash_failed();
  arrival_.begin(kFirmwareHeaderBytes, kFirmwareHeaderBytes + header_.image_bytes);
  return Refusal{};
}

Refusal FirmwareUpdater::chunk(uint32_t offset, const uint8_t* data, uint32_t bytes) {
  bool again;
  if (const Refusal refusal = arrival_.check(offset, bytes, &again)) return refusal;
  if (again) return Refusal{};
  const uint32_t place = offset - kFirmwareHeaderBytes;
  // A sector is erased when its first byte comes: all of them at once would take longer than an answer may.
  for (uint32_t sector = (place + kSector - 1) / kSector * kSector; sector < place + bytes; sector += kSector) {
    hal::idle(0);  // feeds the watchdog
    if (!hal::slot_erase(target_, sector, kSector)) return abandon(), flash_failed();
  }
  if (!write(place, data, bytes)) return abandon(), flash_failed();
  arrival_.next += bytes;
  return Refusal{};
}

Refusal FirmwareUpdater::finish(const uint8_t* model) {
  if (const Refusal refusal = arrival_.check_whole()) return refusal;
  abandon();
  const hal::SlotView area = program_area(target_);
  uint8_t digest[kSha256Bytes];
  sha256(area.data, header_.image_bytes, digest);
  if (std::memcmp(digest, header_.sha256, sizeof digest) != 0) {
    return Refusal{"bad_sha256", "what arrived is not what the header announced"};
  }
  if (model != nullptr && !write(area.bytes + kFirmwareHeaderBytes, model, kSha256Bytes)) return flash_failed();
  if (!write(area.bytes, header_bytes_, sizeof header_bytes_)) return flash_failed();
  if (!hal::firmware_try(target_)) return Refusal{"not_a_program", "the boot loader does not take it for a program, or flash failed"};
  return Refusal{};
}

bool FirmwareUpdater::write(uint32_t offset, const uint8_t* data, uint32_t bytes) const {
  if (!hal::slot_write(target_, offset, data, bytes)) return false;
  return std::memcmp(hal::slot_map(target_).data + offset, data, bytes) == 0;
}

}  // namespace edgeward
