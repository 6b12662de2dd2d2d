// Programs in the partitions app_a (ota_0) and app_b (ota_1), and ESP-IDF's OTA data about them. The boot loader goes back from a
// program that was not kept: CONFIG_BOOTLOADER_APP_ROLLBACK_ENABLE in sdkconfig.defaults.
#include "hal/firmware.h"

#include "esp_log.h"
#include "esp_ota_ops.h"
#include "esp_partition.h"

namespace edgeward::hal {
namespace {

constexpr char kTag[] = "firmware";

const esp_partition_t* partition_of(Slot slot) {
  const auto subtype = slot == Slot::app_a ? ESP_PARTITION_SUBTYPE_APP_OTA_0 : ESP_PARTITION_SUBTYPE_APP_OTA_1;
  return esp_partition_find_first(ESP_PARTITION_TYPE_APP, subtype, nullptr);
}

bool succeeded(esp_err_t error, const char* what) {
  if (error == ESP_OK) return true;
  ESP_LOGE(kTag, "%s: %s", what, esp_err_to_name(error));
  return false;
}

}  // namespace

bool firmware_place(Slot* runs) {
  const esp_partition_t* const a = partition_of(Slot::app_a);
  const esp_partition_t* const b = partition_of(Slot::app_b);
  const esp_partition_t* const running = esp_ota_get_running_partition();
  if (a == nullptr || b == nullptr || running == nullptr) return false;
  *runs = running->address == b->address ? Slot::app_b : Slot::app_a;
  return running->address == a->address || running->address == b->address;
}

// Reads the whole image: is it one of this chip, and whole?
bool firmware_try(Slot slot) {
  const esp_partition_t* const partition = partition_of(slot);
  return partition != nullptr && succeeded(esp_ota_set_boot_partition(partition), "choosing the new program");
}

bool firmware_on_trial() {
  esp_ota_img_states_t state;
  const esp_partition_t* const running = esp_ota_get_running_partition();
  return running != nullptr && esp_ota_get_state_partition(running, &state) == ESP_OK && state == ESP_OTA_IMG_PENDING_VERIFY;
}

bool firmware_keep() { return succeeded(esp_ota_mark_app_valid_cancel_rollback(), "keeping the new program"); }

}  // namespace edgeward::hal
