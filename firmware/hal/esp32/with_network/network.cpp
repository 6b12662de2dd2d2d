// The network of a build with EDGEWARD_NETWORK=1: Wi-Fi, and esp-mqtt, which keeps the connection in a task of its own and may
// wait there for seconds with its lock held. So the firmware's task never calls it: a second task of ours hands messages over.
#include "hal/network.h"

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "core/budget.h"
#include "esp_log.h"
#include "esp_mac.h"
#include "esp_random.h"
#include "freertos/FreeRTOS.h"
#include "freertos/task.h"
#include "hal/esp32/radio.h"
#include "hal/esp32/serial.h"
#include "hal/esp32/with_network/inbox.h"
#include "hal/esp32/with_network/message_queue.h"
#include "hal/esp32/with_network/wifi.h"
#include "mqtt_client.h"

namespace edgeward::hal {
namespace {

constexpr char kTag[] = "network";
constexpr int kQos = 1;
constexpr int kKeepaliveS = 30;
constexpr int kPauseMs = 5000;  // before the broker is tried again, and up to as much by chance
constexpr int kClientStackBytes = 8192;  // TLS, with a certificate of its own
constexpr int kInputBytes = 1024;  // of a message at a time
constexpr int kOutputBytes = 2048;  // a record and its topic in one piece
constexpr int kOutboxBytes = 12 * 1024;  // of what the broker has not confirmed
constexpr uint32_t kSenderStackBytes = 4096;
constexpr UBaseType_t kSenderPriority = 5;  // as esp-mqtt's own
constexpr uint32_t kTopicBytes = 11 + 64 + 7 + 64 + 9 + 1;  // edgeward/1/FEDERATION/board/NAME/presence
constexpr uint32_t kDrainMs = 1000;
constexpr uint32_t kDrainStepMs = 10;
constexpr char kGone[] = "{\"kind\":\"gone\"}";

esp_mqtt_client_handle_t g_client = nullptr;
TaskHandle_t g_sender = nullptr;
bool g_called = false;
bool g_started = false;  // both are the firmware's task's
std::atomic<bool> g_connected{false};
std::atomic<int> g_under_way{0};
Inbox g_inbox;
MessageQueue<4, 1 + kUplinkBytes> g_outbox;  // a Topic, then the message
char g_down[kTopicBytes], g_record[kTopicBytes], g_presence[kTopicBytes];

void subscribe() {
  if (esp_mqtt_client_subscribe_single(g_client, g_down, kQos) >= 0) return;
  ESP_LOGE(kTag, "no room to subscribe; connecting again");
  (void)esp_mqtt_client_disconnect(g_client);
}

// Orders may come from here on: only now is the board there for who looks.
void subscribed(const esp_mqtt_event_t& event) {
  if (event.error_handle->error_type == MQTT_ERROR_TYPE_SUBSCRIBE_FAILED) {
    ESP_LOGE(kTag, "the broker does not let this board read %s", g_down);
    return;
  }
  g_connected = true;
  xTaskNotifyGive(g_sender);
  wake_serial();
}

// In esp-mqtt's task, or in the sender's when that sees the connection end; never in both at once.
void on_mqtt(void*, esp_event_base_t, int32_t id, void* data) {
  const auto& event = *static_cast<const esp_mqtt_event_t*>(data);
  switch (static_cast<esp_mqtt_event_id_t>(id)) {
    case MQTT_EVENT_CONNECTED:
      g_under_way = 0;
      return subscribe();
    case MQTT_EVENT_SUBSCRIBED:
      return subscribed(event);
    case MQTT_EVENT_DISCONNECTED:
      g_connected = false;
      return;
    case MQTT_EVENT_PUBLISHED:
      if (g_under_way > 0) --g_under_way;  // what was sent again after a loss is not counted
      xTaskNotifyGive(g_sender);
      return;
    case MQTT_EVENT_DATA:
      if (g_inbox.take(event.data, event.data_len, event.current_data_offset, event.total_data_len, event.retain)) wake_serial();
      return;
    case MQTT_EVENT_ERROR:
      if (event.error_handle->error_type == MQTT_ERROR_TYPE_CONNECTION_REFUSED) {
        ESP_LOGE(kTag, "the broker declined: code %d of MQTT", static_cast<int>(event.error_handle->connect_return_code));
      }
      return;
    default:
      return;
  }
}

// While too much is not confirmed, messages wait here; when no place is left, network_send() says so.
void send_waiting() {
  uint32_t bytes = 0;
  while (g_connected && esp_mqtt_client_get_outbox_size(g_client) < kOutboxBytes) {
    const uint8_t* const message = g_outbox.front(&bytes);
    if (message == nullptr) return;
    const bool kept = message[0] == static_cast<uint8_t>(Topic::presence);
    ++g_under_way;
    // Sends at once, where esp_mqtt_client_enqueue() would leave it for up to a second, and again until it is confirmed.
    const int id = esp_mqtt_client_publish(g_client, kept ? g_presence : g_record, reinterpret_cast<const char*>(message + 1),
                                           static_cast<int>(bytes - 1), kQos, kept);
    if (id < 0) --g_under_way;
    g_outbox.pop();
  }
}

void run_sender(void*) {
  for (;;) {
    ulTaskNotifyTake(pdTRUE, portMAX_DELAY);
    send_waiting();
  }
}

// esp-mqtt keeps the addresses of certificates, and the flash of the settings may be erased before the board restarts.
bool copy_text(const char* text, const char** out) {
  if (*text == 0) return true;
  const size_t bytes = std::strlen(text) + 1;
  char* const copy = static_cast<char*>(std::malloc(bytes));
  if (copy == nullptr) return false;
  *out = static_cast<const char*>(std::memcpy(copy, text, bytes));
  return true;
}

void name_topics(const NetworkSettings& settings) {
  char root[kTopicBytes];
  std::snprintf(root, sizeof root, "edgeward/1/%.64s/board/%.64s", settings.federation, settings.name);
  std::snprintf(g_down, sizeof g_down, "%.146s/down", root);
  std::snprintf(g_record, sizeof g_record, "%.146s/record", root);
  std::snprintf(g_presence, sizeof g_presence, "%.146s/presence", root);
}

bool make_client(const NetworkSettings& settings) {
  // The same after a restart: the broker then ends the connection before at once, so that its last will does not come later and
  // take the place of the new presence. Another chip with this name is another client.
  char id[96];
  uint8_t mac[6] = {};
  (void)esp_efuse_mac_get_default(mac);  // zeros do too
  std::snprintf(id, sizeof id, "edgeward-board-%.64s-%02x%02x%02x%02x%02x%02x", settings.name, mac[0], mac[1], mac[2], mac[3],
                mac[4], mac[5]);
  esp_mqtt_client_config_t config = {};
  config.broker.address.hostname = settings.host;
  config.broker.address.port = settings.port;
  config.broker.address.transport = *settings.ca != 0 ? MQTT_TRANSPORT_OVER_SSL : MQTT_TRANSPORT_OVER_TCP;
  config.credentials.client_id = id;
  config.session.protocol_ver = MQTT_PROTOCOL_V_3_1_1;
  config.session.keepalive = kKeepaliveS;
  config.session.last_will.topic = g_presence;
  config.session.last_will.msg = kGone;
  config.session.last_will.qos = kQos;
  config.session.last_will.retain = 1;
  config.network.reconnect_timeout_ms = kPauseMs + static_cast<int>(esp_random() % kPauseMs);
  config.task.stack_size = kClientStackBytes;
  config.buffer.size = kInputBytes;
  config.buffer.out_size = kOutputBytes;
  if (!copy_text(settings.ca, &config.broker.verification.certificate) ||
      !copy_text(settings.certificate, &config.credentials.authentication.certificate) ||
      !copy_text(settings.key, &config.credentials.authentication.key)) {
    return false;
  }
  g_client = esp_mqtt_client_init(&config);
  return g_client != nullptr && esp_mqtt_client_register_event(g_client, MQTT_EVENT_ANY, on_mqtt, nullptr) == ESP_OK;
}

// At every address there is; esp-mqtt is started with the first, and sees by itself when the network is back.
void joined() {
  static bool started = false;
  if (started) return;
  started = esp_mqtt_client_start(g_client) == ESP_OK;
  if (!started) ESP_LOGE(kTag, "no memory for MQTT");
}

}  // namespace

// Measured nowhere yet. Wi-Fi about 40 KB, lwIP and the tasks 22, a TLS handshake about 24, MQTT with what is not confirmed 17.
const size_t kNetworkHeapBytes = 104 * 1024;

bool network_start(const NetworkSettings& settings) {
  if (g_called) return g_started;
  g_called = true;
  if (*settings.ssid == 0) {
    ESP_LOGE(kTag, "the settings have no name of a Wi-Fi");
    return false;
  }
  name_topics(settings);
  if (!make_client(settings) ||
      xTaskCreate(run_sender, "sender", kSenderStackBytes, nullptr, kSenderPriority, &g_sender) != pdPASS) {
    ESP_LOGE(kTag, "no memory for MQTT");
    return false;
  }
  g_started = start_wifi(settings.ssid, settings.password, joined);
  return g_started;
}

NetworkState network_state() {
  if (!g_started) return NetworkState::off;
  return g_connected ? NetworkState::connected : NetworkState::joining;
}

size_t network_read(uint8_t* buffer, size_t capacity) { return g_inbox.read(buffer, capacity); }

bool network_send(Topic topic, const uint8_t* data, size_t bytes) {
  if (!g_connected || bytes == 0 || bytes > kUplinkBytes) return false;
  uint8_t* const place = g_outbox.back();
  if (place != nullptr) {
    place[0] = static_cast<uint8_t>(topic);
    std::memcpy(place + 1, data, bytes);
    g_outbox.push(static_cast<uint32_t>(1 + bytes));
  }
  xTaskNotifyGive(g_sender);
  return place != nullptr;
}

bool message_waits() { return !g_inbox.empty(); }

void drain_network() {
  for (uint32_t waited = 0; waited < kDrainMs && g_connected && (!g_outbox.empty() || g_under_way > 0); waited += kDrainStepMs) {
    vTaskDelay(pdMS_TO_TICKS(kDrainStepMs));
  }
}

}  // namespace edgeward::hal
