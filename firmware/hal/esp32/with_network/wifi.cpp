#include "hal/esp32/with_network/wifi.h"

#include <cstdint>
#include <cstring>

#include "esp_event.h"
#include "esp_log.h"
#include "esp_netif.h"
#include "esp_random.h"
#include "esp_timer.h"
#include "esp_wifi.h"
#include "nvs_flash.h"

namespace edgeward::hal {
namespace {

constexpr char kTag[] = "wifi_join";
constexpr uint32_t kFirstPauseMs = 1000;
constexpr uint32_t kLongestPauseMs = 60000;

// Our own event: a pause is over. So all calls to Wi-Fi are made in one task, the one of events, and none in that of the timers,
// which also takes samples.
constexpr esp_event_base_t kJoinEvents = "EDGEWARD_JOIN";
constexpr int32_t kPauseOver = 0;

esp_timer_handle_t g_pause = nullptr;
uint32_t g_pause_ms = kFirstPauseMs;
void (*g_joined)() = nullptr;

bool succeeded(esp_err_t error, const char* what) {
  if (error == ESP_OK) return true;
  ESP_LOGE(kTag, "%s: %s", what, esp_err_to_name(error));
  return false;
}

void begin_pause(uint32_t ms) {
  const esp_err_t error = esp_timer_start_once(g_pause, uint64_t{ms} * 1000);
  if (error != ESP_ERR_INVALID_STATE) (void)succeeded(error, "timer of a pause");  // in that state it runs already
}

// Twice as long each time, and up to a quarter longer by chance: boards that lost one network do not all come back at once.
void join_later() {
  begin_pause(g_pause_ms + esp_random() % (g_pause_ms / 4));
  g_pause_ms = g_pause_ms < kLongestPauseMs / 2 ? 2 * g_pause_ms : kLongestPauseMs;
}

// In the task of the timers.
void pause_over(void*) {
  if (esp_event_post(kJoinEvents, kPauseOver, nullptr, 0, 0) != ESP_OK) begin_pause(kFirstPauseMs);
}

void join() {
  if (!succeeded(esp_wifi_connect(), "joining")) join_later();
}

void on_wifi(void*, esp_event_base_t, int32_t id, void* data) {
  if (id == WIFI_EVENT_STA_START) join();
  if (id != WIFI_EVENT_STA_DISCONNECTED) return;
  const auto* const lost = static_cast<const wifi_event_sta_disconnected_t*>(data);
  ESP_LOGW(kTag, "not joined, reason %u of wifi_err_reason_t; again in %u s", static_cast<unsigned>(lost->reason),
           static_cast<unsigned>(g_pause_ms / 1000));
  join_later();
}

void on_address(void*, esp_event_base_t, int32_t, void*) {
  g_pause_ms = kFirstPauseMs;
  g_joined();
}

void on_pause_over(void*, esp_event_base_t, int32_t, void*) { join(); }

// Only how the radio was calibrated is kept there.
bool open_nvs() {
  esp_err_t error = nvs_flash_init();
  if (error == ESP_ERR_NVS_NO_FREE_PAGES || error == ESP_ERR_NVS_NEW_VERSION_FOUND) {
    if (!succeeded(nvs_flash_erase(), "erasing nvs")) return false;
    error = nvs_flash_init();
  }
  return succeeded(error, "nvs");
}

bool listen() {
  esp_timer_create_args_t arguments = {};
  arguments.callback = pause_over;
  arguments.name = "wifi_join";
  return succeeded(esp_timer_create(&arguments, &g_pause), "timer") &&
         succeeded(esp_event_handler_register(WIFI_EVENT, ESP_EVENT_ANY_ID, on_wifi, nullptr), "events of Wi-Fi") &&
         succeeded(esp_event_handler_register(IP_EVENT, IP_EVENT_STA_GOT_IP, on_address, nullptr), "events of IP") &&
         succeeded(esp_event_handler_register(kJoinEvents, kPauseOver, on_pause_over, nullptr), "own events");
}

bool open_station() {
  if (!succeeded(esp_netif_init(), "esp_netif") || !succeeded(esp_event_loop_create_default(), "event loop")) return false;
  if (esp_netif_create_default_wifi_sta() == nullptr) return succeeded(ESP_ERR_NO_MEM, "station");
  wifi_init_config_t init = WIFI_INIT_CONFIG_DEFAULT();
  init.nvs_enable = 0;
  return succeeded(esp_wifi_init(&init), "Wi-Fi") && succeeded(esp_wifi_set_storage(WIFI_STORAGE_RAM), "storage") &&
         succeeded(esp_wifi_set_mode(WIFI_MODE_STA), "station mode");
}

}  // namespace

bool start_wifi(const char* ssid, const char* password, void (*joined)()) {
  wifi_config_t config = {};
  const size_t ssid_bytes = std::strlen(ssid);
  const size_t password_bytes = std::strlen(password);
  if (ssid_bytes > sizeof config.sta.ssid || password_bytes > sizeof config.sta.password) {
    return succeeded(ESP_ERR_INVALID_SIZE, "name or password");
  }
  // Full, they have no zero at their end.
  std::memcpy(config.sta.ssid, ssid, ssid_bytes);
  std::memcpy(config.sta.password, password, password_bytes);
  // With a password, an open network of that name, or one of WEP or WPA, is another network.
  config.sta.threshold.authmode = password_bytes > 0 ? WIFI_AUTH_WPA2_PSK : WIFI_AUTH_OPEN;
  config.sta.scan_method = WIFI_ALL_CHANNEL_SCAN;
  config.sta.sort_method = WIFI_CONNECT_AP_BY_SIGNAL;
  config.sta.pmf_cfg.capable = true;
  config.sta.sae_pwe_h2e = WPA3_SAE_PWE_BOTH;
  g_joined = joined;
  return open_nvs() && open_station() && listen() && succeeded(esp_wifi_set_config(WIFI_IF_STA, &config), "settings") &&
         succeeded(esp_wifi_start(), "start");
}

}  // namespace edgeward::hal
