// Slots: the data partitions model_a, model_b, keys and network, and the programs' app_a and app_b, mapped for reading, erased and
// written in place. Which model is active is the core's business; which program is, that of ESP-IDF's OTA data (firmware.cpp).
#include <cstdlib>

#include "esp_log.h"
#include "esp_partition.h"
#include "hal/hal.h"

namespace edgeward::hal {
namespace {

struct SlotPartition {
  const char* label;
  esp_partition_type_t type;
  esp_partition_subtype_t subtype;
  const esp_partition_t* partition;  // null until found
  const void* mapped;                // null until mapped
  esp_partition_mmap_handle_t handle;
};

SlotPartition g_slots[] = {
    {"model_a", ESP_PARTITION_TYPE_DATA, static_cast<esp_partition_subtype_t>(0x40), nullptr, nullptr, 0},
    {"model_b", ESP_PARTITION_TYPE_DATA, static_cast<esp_partition_subtype_t>(0x41), nullptr, nullptr, 0},
    {"keys", ESP_PARTITION_TYPE_DATA, static_cast<esp_partition_subtype_t>(0x42), nullptr, nullptr, 0},
    {"network", ESP_PARTITION_TYPE_DATA, static_cast<esp_partition_subtype_t>(0x43), nullptr, nullptr, 0},
    {"app_a", ESP_PARTITION_TYPE_APP, ESP_PARTITION_SUBTYPE_APP_OTA_0, nullptr, nullptr, 0},
    {"app_b", ESP_PARTITION_TYPE_APP, ESP_PARTITION_SUBTYPE_APP_OTA_1, nullptr, nullptr, 0},
    {"otadata", ESP_PARTITION_TYPE_DATA, ESP_PARTITION_SUBTYPE_DATA_OTA, nullptr, nullptr, 0},
};

SlotPartition& find(Slot slot) {
  SlotPartition& entry = g_slots[static_cast<uint8_t>(slot)];
  if (entry.partition == nullptr) {
    entry.partition = esp_partition_find_first(entry.type, entry.subtype, entry.label);
  }
  return entry;
}

bool within(const esp_partition_t* partition, uint32_t offset, uint32_t bytes) {
  return partition != nullptr && offset <= partition->size && bytes <= partition->size - offset;
}

bool succeeded(esp_err_t error, const char* what, const char* label) {
  if (error == ESP_OK) return true;
  ESP_LOGE("slots", "%s of %s: %s", what, label, esp_err_to_name(error));
  return false;
}

bool map(SlotPartition* entry) {
  const esp_err_t error = esp_partition_mmap(entry->partition, 0, entry->partition->size, ESP_PARTITION_MMAP_DATA,
                                             &entry->mapped, &entry->handle);
  if (succeeded(error, "mapping", entry->label)) return true;
  entry->mapped = nullptr;
  return false;
}

// After an erase or a write, the mapping has to show it. The flash driver of ESP-IDF 5.1 drops cached lines only in the first
// page of a mapping, and emulators read a page once, when it is mapped: so it is mapped again, into the hole it has just left.
// Should that give another address, code that holds the old one must not go on: the board restarts.
bool refresh(SlotPartition* entry) {
  if (entry->mapped == nullptr) return true;
  const void* const before = entry->mapped;
  esp_partition_munmap(entry->handle);
  if (!map(entry)) return false;
  if (entry->mapped == before) return true;
  ESP_LOGE("slots", "mapping of %s moved from %p to %p", entry->label, before, entry->mapped);
  std::abort();
}

}  // namespace

SlotView slot_map(Slot slot) {
  SlotPartition& entry = find(slot);
  if (entry.partition == nullptr) return SlotView{nullptr, 0};
  if (entry.mapped == nullptr && !map(&entry)) return SlotView{nullptr, 0};
  return SlotView{static_cast<const uint8_t*>(entry.mapped), entry.partition->size};
}

uint32_t slot_bytes(Slot slot) {
  const esp_partition_t* const partition = find(slot).partition;
  return partition != nullptr ? partition->size : 0;
}

void slot_unmap(Slot slot) {
  SlotPartition& entry = find(slot);
  if (entry.mapped == nullptr) return;
  esp_partition_munmap(entry.handle);
  entry.mapped = nullptr;
}

bool slot_erase(Slot slot, uint32_t offset, uint32_t bytes) {
  SlotPartition& entry = find(slot);
  if (!within(entry.partition, offset, bytes) || (offset | bytes) % kFlashSectorBytes != 0) return false;
  const bool erased = succeeded(esp_partition_erase_range(entry.partition, offset, bytes), "erasing", entry.label);
  return refresh(&entry) && erased;
}

bool slot_write(Slot slot, uint32_t offset, const uint8_t* data, uint32_t bytes) {
  SlotPartition& entry = find(slot);
  if (!within(entry.partition, offset, bytes) || (offset | bytes) % 4 != 0) return false;
  const bool written = succeeded(esp_partition_write(entry.partition, offset, data, bytes), "writing", entry.label);
  return refresh(&entry) && written;
}

}  // namespace edgeward::hal
