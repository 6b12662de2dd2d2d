#include "core/updater.h"

#include <cstring>

#include "core/sha256.h"
#include "core/slots.h"

namespace edgeward {
namespace {

constexpr uint32_t kSector = hal::kFlashSectorBytes;

Refusal flash_failed() { return Refusal{"flash_failed", "flash did not take what was written or erased"}; }

bool erase_sector(hal::Slot slot, uint32_t offset) {
  hal::idle(0);  // feeds the watchdog
  return hal::slot_erase(slot, offset, kSector);
}

}  // namespace

Refusal Updater::check(hal::Slot target, const uint8_t* header, uint32_t bytes) {
  abandon();
  const hal::SlotView area = model_area(target);
  if (area.data == nullptr) return Refusal{"no_slot", "this board has no second model slot"};
  if (bytes != kModelHeaderBytes) return Refusal{"bad_header_bytes", "an update begins with the header of model.bin"};
  std::memcpy(header_bytes_, header, bytes);
  const HeaderStatus status = parse_model_header(header_bytes_, area.bytes, &header_);
  if (status != HeaderStatus::ok) return Refusal{to_string(status), "the header of the new model"};
  if (header_.total_bytes % 4 != 0) return Refusal{"bad_total_bytes", "the length is no multiple of 4"};
  if (header_.known_answers.bytes == 0) return Refusal{"no_known_answers", "the board could not test the model"};
  target_ = target;
  return Refusal{};
}

Refusal Updater::begin() {
  if (!erase_sector(target_, 0)) return flash_failed();
  if (!erase_sector(target_, hal::slot_map(target_).bytes - kSlotLogBytes)) return flash_failed();
  for (uint32_t offset = kSector; offset < header_.total_bytes; offset += kSector) {
    if (!erase_sector(target_, offset)) return flash_failed();
  }
  arrival_.begin(kModelHeaderBytes, header_.total_bytes);
  return Refusal{};
}

Refusal Updater::chunk(uint32_t offset, const uint8_t* data, uint32_t bytes) {
  bool again;
  if (const Refusal refusal = arrival_.check(offset, bytes, &again)) return refusal;
  if (again) return Refusal{};
  if (!write(offset, data, bytes)) return abandon(), flash_failed();
  arrival_.next += bytes;
  return Refusal{};
}

Refusal Updater::check_body() const {
  if (const Refusal refusal = arrival_.check_whole()) return refusal;
  uint8_t digest[kSha256Bytes];
  sha256(model_area(target_).data + kModelHeaderBytes, header_.total_bytes - kModelHeaderBytes, digest);
  if (std::memcmp(digest, header_.sha256, sizeof digest) != 0) {
    return Refusal{"bad_sha256", "what arrived is not what the header announced"};
  }
  return Refusal{};
}

Refusal Updater::write_header() {
  if (!open()) return kNoUpdate;
  abandon();
  return write(0, header_bytes_, kModelHeaderBytes) ? Refusal{} : flash_failed();
}

bool Updater::write(uint32_t offset, const uint8_t* data, uint32_t bytes) const {
  if (!hal::slot_write(target_, offset, data, bytes)) return false;
  return std::memcmp(model_area(target_).data + offset, data, bytes) == 0;
}

}  // namespace edgeward
