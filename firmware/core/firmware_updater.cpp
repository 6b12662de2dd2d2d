#include "core/firmware_updater.h"

#include <cstring>

#include "core/sha256.h"

namespace edgeward {
namespace {

constexpr uint32_t kSector = hal::kFlashSectorBytes;

Refusal flash_failed() { return Refusal{"flash_failed", "flash did not take what was written or erased"}; }

}  // namespace

Refusal FirmwareUpdater::begin(const uint8_t* header, uint32_t bytes, const Keys& keys, const char* chip) {
  abandon();
  hal::Slot runs;
  if (!hal::firmware_place(&runs)) return Refusal{"no_second_place", "flash has no second place for a program: flash everything once"};
  if (hal::firmware_on_trial()) return kOnTrial;
  target_ = other_program(runs);
  const uint32_t capacity = program_capacity(target_);
  if (const Refusal refusal = read_firmware_header(header, bytes, capacity, &header_)) return refusal;
  if (std::strcmp(header_.chip, chip) != 0) return Refusal{"wrong_chip", "the program is for another chip"};
  if (const Refusal refusal = check_firmware_signature(keys, header)) return refusal;
  std::memcpy(header_bytes_, header, sizeof header_bytes_);
  if (!hal::slot_erase(target_, capacity, kSector)) return flash_failed();
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

Refusal FirmwareUpdater::finish(const Before& before) {
  if (const Refusal refusal = arrival_.check_whole()) return refusal;
  arrival_.open = false;
  const Refusal refusal = complete(before);
  abandon();  // the boot loader's check maps it for itself
  if (refusal) return refusal;
  if (!hal::firmware_try(target_)) return Refusal{"not_a_program", "the boot loader does not take it for a program, or flash failed"};
  return Refusal{};
}

void FirmwareUpdater::abandon() {
  arrival_.open = false;
  hal::slot_unmap(target_);
}

Refusal FirmwareUpdater::complete(const Before& before) const {
  const hal::SlotView view = hal::slot_map(target_);
  if (view.data == nullptr) return Refusal{"not_mapped", "the chip has no address space left to read the program"};
  uint8_t digest[kSha256Bytes];
  sha256(view.data, header_.image_bytes, digest);
  if (std::memcmp(digest, header_.sha256, sizeof digest) != 0) {
    return Refusal{"bad_sha256", "what arrived is not what the header announced"};
  }
  const uint32_t last = program_capacity(target_);
  uint8_t known[kBeforeBytes];
  pack_before(before, known);
  if (!write(last + kFirmwareHeaderBytes, known, sizeof known)) return flash_failed();
  return write(last, header_bytes_, sizeof header_bytes_) ? Refusal{} : flash_failed();
}

bool FirmwareUpdater::write(uint32_t offset, const uint8_t* data, uint32_t bytes) const {
  const hal::SlotView view = hal::slot_map(target_);
  return view.data != nullptr && hal::slot_write(target_, offset, data, bytes) &&
         std::memcmp(hal::slot_map(target_).data + offset, data, bytes) == 0;
}

}  // namespace edgeward
