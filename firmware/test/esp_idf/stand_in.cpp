#include <algorithm>
#include <csetjmp>
#include <cstdio>
#include <cstring>
#include <utility>

#include "world.h"

struct Task { void (*run)(void*); void* argument; uint32_t notified; };
struct Queue { uint32_t events; };
struct Timer { void (*callback)(void*); };
struct Client {};
struct esp_netif_t {};

World world;
const esp_event_base_t WIFI_EVENT = "WIFI_EVENT", IP_EVENT = "IP_EVENT";

namespace {

struct Handler { esp_event_base_t base; int32_t id; esp_event_handler_t function; void* argument; };

std::vector<Handler> g_handlers;
std::vector<std::pair<esp_event_base_t, int32_t>> g_posted;
esp_event_handler_t g_mqtt = nullptr;
Task g_task = {};
Queue g_queue = {};
Timer g_timer = {};
Client g_client;
esp_netif_t g_station;
std::jmp_buf g_out, g_restart;

// Waits until `over` says so, or all of `ticks`.
template <typename Over>
void wait(TickType_t ticks, Over over) {
  if (over() || ticks == 0) return;
  if (world.while_waiting) std::exchange(world.while_waiting, nullptr)();
  if (!over()) world.waited += ticks;
}

}  // namespace

int World::count(const std::string& call) const { return static_cast<int>(std::count(calls.begin(), calls.end(), call)); }

void run_tasks() {
  if (g_task.run != nullptr && setjmp(g_out) == 0) g_task.run(g_task.argument);
}

void until_restart(void (*body)()) {
  if (setjmp(g_restart) == 0) body();
}

void end_pause() {
  world.pause_us = 0;
  g_timer.callback(nullptr);
  run_events();
}

void run_events() {
  for (const auto& event : std::exchange(g_posted, {})) wifi_event(event.first, event.second);
}

void wifi_event(esp_event_base_t base, int32_t id, void* data) {
  for (const Handler& handler : g_handlers) {
    const bool meant = handler.base == base && (handler.id == ESP_EVENT_ANY_ID || handler.id == id);
    if (meant) handler.function(handler.argument, base, id, data);
  }
}

void mqtt_event(esp_mqtt_event_id_t id, esp_mqtt_error_type_t error) {
  esp_mqtt_error_codes_t codes = {error, MQTT_CONNECTION_REFUSE_NOT_AUTHORIZED};
  esp_mqtt_event_t event = {};
  event.error_handle = &codes;
  g_mqtt(nullptr, "MQTT_EVENTS", id, &event);
}

void mqtt_piece(const std::string& piece, int offset, int total, bool retained) {
  const std::vector<char> copy(piece.begin(), piece.end());
  esp_mqtt_error_codes_t codes = {};
  esp_mqtt_event_t event = {};
  event.error_handle = &codes;
  event.data = piece.empty() ? nullptr : const_cast<char*>(copy.data());
  event.data_len = static_cast<int>(piece.size());
  event.current_data_offset = offset;
  event.total_data_len = total;
  event.retain = retained;
  event.qos = 1;
  g_mqtt(nullptr, "MQTT_EVENTS", MQTT_EVENT_DATA, &event);
}

const char* esp_err_to_name(esp_err_t) { return "ESP_ERR_SOMETHING"; }
void log_line(const char* tag, const char* format, ...) {
  char line[256];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(line, sizeof line, format, arguments);
  va_end(arguments);
  world.log += std::string(tag) + ": " + line + "\n";
}
vprintf_like_t esp_log_set_vprintf(vprintf_like_t) { return nullptr; }

BaseType_t xTaskCreate(void (*run)(void*), const char*, uint32_t, void* argument, UBaseType_t, TaskHandle_t* out) {
  if (answer("xTaskCreate") != ESP_OK) return pdFALSE;
  g_task = {run, argument, 0};
  *out = &g_task;
  return pdPASS;
}
BaseType_t xTaskNotifyGive(TaskHandle_t task) { ++task->notified; return pdTRUE; }
uint32_t ulTaskNotifyTake(BaseType_t, TickType_t) {
  if (g_task.notified == 0) std::longjmp(g_out, 1);
  return std::exchange(g_task.notified, 0u);
}
void vTaskDelay(TickType_t ticks) {
  wait(ticks, [] { return false; });
}
UBaseType_t uxTaskGetStackHighWaterMark(TaskHandle_t) { return 1000; }
BaseType_t xQueueReset(QueueHandle_t queue) { queue->events = 0; return pdTRUE; }
BaseType_t xQueueSend(QueueHandle_t queue, const void*, TickType_t) { ++queue->events; return pdTRUE; }
BaseType_t xQueueReceive(QueueHandle_t queue, void*, TickType_t ticks) {
  wait(ticks, [queue] { return queue->events > 0; });
  if (queue->events == 0) return pdFALSE;
  --queue->events;
  return pdTRUE;
}

esp_err_t uart_driver_install(uart_port_t, int, int, int, QueueHandle_t* queue, int) { *queue = &g_queue; return ESP_OK; }
esp_err_t uart_param_config(uart_port_t, const uart_config_t*) { return ESP_OK; }
esp_err_t uart_set_pin(uart_port_t, int, int, int, int) { return ESP_OK; }
esp_err_t uart_set_rx_full_threshold(uart_port_t, int) { return ESP_OK; }
esp_err_t uart_get_buffered_data_len(uart_port_t, size_t* bytes) { *bytes = 0; return ESP_OK; }
esp_err_t uart_wait_tx_done(uart_port_t, TickType_t) { return answer("drain serial"); }
int uart_read_bytes(uart_port_t, void*, uint32_t, TickType_t) { return 0; }
int uart_write_bytes(uart_port_t, const void*, size_t bytes) { return static_cast<int>(bytes); }
esp_err_t usb_serial_jtag_driver_install(usb_serial_jtag_driver_config_t*) { return ESP_OK; }
int usb_serial_jtag_read_bytes(void*, uint32_t, TickType_t ticks) {
  wait(ticks, [] { return false; });
  return 0;
}
int usb_serial_jtag_write_bytes(const void*, size_t bytes, TickType_t) { return static_cast<int>(bytes); }

size_t heap_caps_get_free_size(uint32_t) { return 100000; }
size_t heap_caps_get_minimum_free_size(uint32_t) { return 50000; }
esp_err_t esp_efuse_mac_get_default(uint8_t* mac) { std::memcpy(mac, "\x24\x0a\xc4\x00\x01\x10", 6); return ESP_OK; }
uint32_t esp_random() { static uint32_t value = 1; return value = value * 1664525 + 1013904223; }
esp_reset_reason_t esp_reset_reason() { return ESP_RST_POWERON; }
void esp_restart() { world.restarted = true; std::longjmp(g_restart, 1); }
esp_err_t esp_task_wdt_reset() { ++world.watchdog_fed; return ESP_OK; }

esp_err_t esp_timer_create(const esp_timer_create_args_t* arguments, esp_timer_handle_t* out) {
  g_timer = {arguments->callback};
  *out = &g_timer;
  return answer("esp_timer_create");
}
esp_err_t esp_timer_start_once(esp_timer_handle_t, uint64_t us) {
  if (world.pause_us > 0) return ESP_ERR_INVALID_STATE;
  world.pause_us = static_cast<int64_t>(us);
  return ESP_OK;
}
esp_err_t esp_timer_start_periodic(esp_timer_handle_t, uint64_t) { return answer("esp_timer_start_periodic"); }
esp_err_t esp_timer_stop(esp_timer_handle_t) { return answer("esp_timer_stop"); }
esp_err_t esp_timer_delete(esp_timer_handle_t) { return answer("esp_timer_delete"); }
int64_t esp_timer_get_time() { return int64_t{1000} * world.waited; }

esp_err_t esp_event_loop_create_default() { return answer("esp_event_loop_create_default"); }
esp_err_t esp_event_handler_register(esp_event_base_t base, int32_t id, esp_event_handler_t handler, void* argument) {
  g_handlers.push_back({base, id, handler, argument});
  return answer("esp_event_handler_register");
}
esp_err_t esp_event_post(esp_event_base_t base, int32_t id, const void*, size_t, TickType_t ticks) {
  if (ticks > 0) world.waited += ticks;
  const esp_err_t error = answer("esp_event_post");
  if (error == ESP_OK) g_posted.emplace_back(base, id);
  return error;
}
esp_err_t esp_netif_init() { return answer("esp_netif_init"); }
esp_netif_t* esp_netif_create_default_wifi_sta() { return answer("station") == ESP_OK ? &g_station : nullptr; }
esp_err_t nvs_flash_init() { return answer("nvs_flash_init"); }
esp_err_t nvs_flash_erase() { return answer("nvs_flash_erase"); }

esp_err_t esp_wifi_init(const wifi_init_config_t* config) {
  return answer(config->nvs_enable ? "esp_wifi_init with NVS" : "esp_wifi_init");
}
esp_err_t esp_wifi_set_storage(wifi_storage_t storage) {
  return answer(storage == WIFI_STORAGE_RAM ? "storage RAM" : "storage flash");
}
esp_err_t esp_wifi_set_mode(wifi_mode_t) { return answer("esp_wifi_set_mode"); }
esp_err_t esp_wifi_set_config(wifi_interface_t, wifi_config_t* config) {
  world.wifi = *config;
  return answer("esp_wifi_set_config");
}
esp_err_t esp_wifi_start() { return answer("esp_wifi_start"); }
esp_err_t esp_wifi_connect() { return answer("esp_wifi_connect"); }

esp_mqtt_client_handle_t esp_mqtt_client_init(const esp_mqtt_client_config_t* config) {
  (void)answer("esp_mqtt_client_init");
  world.mqtt = *config;
  world.host = config->broker.address.hostname;
  world.client_id = config->credentials.client_id;
  world.will_topic = config->session.last_will.topic;
  world.will = config->session.last_will.msg;
  return world.no_client ? nullptr : &g_client;
}
esp_err_t esp_mqtt_client_register_event(esp_mqtt_client_handle_t, esp_mqtt_event_id_t, esp_event_handler_t handler, void*) {
  g_mqtt = handler;
  return answer("esp_mqtt_client_register_event");
}
esp_err_t esp_mqtt_client_start(esp_mqtt_client_handle_t) { return answer("esp_mqtt_client_start"); }
esp_err_t esp_mqtt_client_disconnect(esp_mqtt_client_handle_t) { return answer("esp_mqtt_client_disconnect"); }
int esp_mqtt_client_subscribe_single(esp_mqtt_client_handle_t, const char* topic, int qos) {
  world.subscribed = topic;
  world.subscribed_qos = qos;
  return world.subscribe_returns;
}
int esp_mqtt_client_publish(esp_mqtt_client_handle_t, const char* topic, const char* data, int bytes, int qos, int retain) {
  world.calls.push_back("esp_mqtt_client_publish");
  world.published.push_back({topic, std::string(data, static_cast<size_t>(bytes)), qos, retain});
  return world.publish_returns;
}
int esp_mqtt_client_get_outbox_size(esp_mqtt_client_handle_t) {
  world.calls.push_back("esp_mqtt_client_get_outbox_size");
  return world.outbox_bytes;
}
