// The part of ESP-IDF that hal/esp32 uses for its network, its consoles and its waiting, for machines without ESP-IDF.
// Names, types and meanings are those of ESP-IDF 5.1 to 5.5; stand_in.cpp is what is behind them.
#pragma once

#include <cstdarg>
#include <cstddef>
#include <cstdint>

// esp_err.h, esp_check.h, esp_log.h
using esp_err_t = int;
constexpr esp_err_t ESP_OK = 0, ESP_FAIL = -1, ESP_ERR_NO_MEM = 0x101, ESP_ERR_INVALID_STATE = 0x103,
                    ESP_ERR_INVALID_SIZE = 0x104, ESP_ERR_NOT_FOUND = 0x105, ESP_ERR_TIMEOUT = 0x107,
                    ESP_ERR_NVS_NO_FREE_PAGES = 0x110D, ESP_ERR_NVS_NEW_VERSION_FOUND = 0x1110;
const char* esp_err_to_name(esp_err_t error);
#define ESP_ERROR_CHECK(call) ((void)(call))
[[gnu::format(printf, 2, 3)]] void log_line(const char* tag, const char* format, ...);
#define ESP_LOGE(tag, ...) log_line(tag, __VA_ARGS__)
#define ESP_LOGW(tag, ...) log_line(tag, __VA_ARGS__)
using vprintf_like_t = int (*)(const char*, va_list);
vprintf_like_t esp_log_set_vprintf(vprintf_like_t function);

// freertos
using TickType_t = uint32_t;
using BaseType_t = int;
using UBaseType_t = unsigned;
using StackType_t = uint8_t;
using TaskHandle_t = struct Task*;
using QueueHandle_t = struct Queue*;
#define CONFIG_FREERTOS_HZ 1000
#define CONFIG_IDF_TARGET "esp32c3"
constexpr TickType_t portMAX_DELAY = 0xFFFFFFFF;
constexpr BaseType_t pdTRUE = 1, pdFALSE = 0, pdPASS = 1;
#define pdMS_TO_TICKS(ms) (static_cast<TickType_t>(ms))
BaseType_t xTaskCreate(void (*run)(void*), const char* name, uint32_t stack, void* argument, UBaseType_t priority,
                       TaskHandle_t* out);
BaseType_t xTaskNotifyGive(TaskHandle_t task);
uint32_t ulTaskNotifyTake(BaseType_t clear, TickType_t ticks);
void vTaskDelay(TickType_t ticks);
UBaseType_t uxTaskGetStackHighWaterMark(TaskHandle_t task);
BaseType_t xQueueReset(QueueHandle_t queue);
BaseType_t xQueueSend(QueueHandle_t queue, const void* item, TickType_t ticks);
BaseType_t xQueueReceive(QueueHandle_t queue, void* item, TickType_t ticks);

// driver/uart.h, driver/usb_serial_jtag.h
enum uart_port_t { UART_NUM_0 };
enum uart_word_length_t { UART_DATA_8_BITS = 3 };
enum uart_parity_t { UART_PARITY_DISABLE };
enum uart_stop_bits_t { UART_STOP_BITS_1 = 1 };
enum uart_hw_flowcontrol_t { UART_HW_FLOWCTRL_DISABLE };
enum uart_sclk_t { UART_SCLK_DEFAULT };
constexpr int UART_PIN_NO_CHANGE = -1;
struct uart_event_t { int type; size_t size; bool timeout_flag; };
struct uart_config_t {
  int baud_rate;
  uart_word_length_t data_bits;
  uart_parity_t parity;
  uart_stop_bits_t stop_bits;
  uart_hw_flowcontrol_t flow_ctrl;
  uint8_t rx_flow_ctrl_thresh;
  uart_sclk_t source_clk;
};
esp_err_t uart_driver_install(uart_port_t port, int receive, int transmit, int events, QueueHandle_t* queue, int flags);
esp_err_t uart_param_config(uart_port_t port, const uart_config_t* config);
esp_err_t uart_set_pin(uart_port_t port, int tx, int rx, int rts, int cts);
esp_err_t uart_set_rx_full_threshold(uart_port_t port, int threshold);
esp_err_t uart_get_buffered_data_len(uart_port_t port, size_t* bytes);
esp_err_t uart_wait_tx_done(uart_port_t port, TickType_t ticks);
int uart_read_bytes(uart_port_t port, void* buffer, uint32_t bytes, TickType_t ticks);
int uart_write_bytes(uart_port_t port, const void* data, size_t bytes);
struct usb_serial_jtag_driver_config_t { uint32_t tx_buffer_size; uint32_t rx_buffer_size; };
esp_err_t usb_serial_jtag_driver_install(usb_serial_jtag_driver_config_t* config);
int usb_serial_jtag_read_bytes(void* buffer, uint32_t bytes, TickType_t ticks);
int usb_serial_jtag_write_bytes(const void* data, size_t bytes, TickType_t ticks);

// esp_attr.h, esp_heap_caps.h, esp_mac.h, esp_random.h, esp_system.h, esp_task_wdt.h
#define RTC_NOINIT_ATTR
#define IRAM_ATTR
constexpr uint32_t MALLOC_CAP_8BIT = 4;
enum esp_reset_reason_t {
  ESP_RST_UNKNOWN, ESP_RST_POWERON, ESP_RST_EXT, ESP_RST_SW, ESP_RST_PANIC, ESP_RST_INT_WDT, ESP_RST_TASK_WDT, ESP_RST_WDT,
  ESP_RST_DEEPSLEEP, ESP_RST_BROWNOUT,
};
size_t heap_caps_get_free_size(uint32_t caps);
size_t heap_caps_get_minimum_free_size(uint32_t caps);
esp_err_t esp_efuse_mac_get_default(uint8_t* mac);
uint32_t esp_random();
esp_reset_reason_t esp_reset_reason();
[[noreturn]] void esp_restart();
esp_err_t esp_task_wdt_reset();

// esp_timer.h
using esp_timer_handle_t = struct Timer*;
struct esp_timer_create_args_t {
  void (*callback)(void*);
  void* arg;
  int dispatch_method;
  const char* name;
  bool skip_unhandled_events;
};
esp_err_t esp_timer_create(const esp_timer_create_args_t* arguments, esp_timer_handle_t* out);
esp_err_t esp_timer_start_once(esp_timer_handle_t timer, uint64_t us);
esp_err_t esp_timer_start_periodic(esp_timer_handle_t timer, uint64_t us);
esp_err_t esp_timer_stop(esp_timer_handle_t timer);
esp_err_t esp_timer_delete(esp_timer_handle_t timer);
int64_t esp_timer_get_time();

// esp_event.h, esp_netif.h, nvs_flash.h
using esp_event_base_t = const char*;
using esp_event_handler_t = void (*)(void*, esp_event_base_t, int32_t, void*);
constexpr int32_t ESP_EVENT_ANY_ID = -1;
extern const esp_event_base_t WIFI_EVENT, IP_EVENT;
enum { WIFI_EVENT_STA_START = 2, WIFI_EVENT_STA_DISCONNECTED = 5, IP_EVENT_STA_GOT_IP = 0 };
esp_err_t esp_event_loop_create_default();
esp_err_t esp_event_handler_register(esp_event_base_t base, int32_t id, esp_event_handler_t handler, void* argument);
esp_err_t esp_event_post(esp_event_base_t base, int32_t id, const void* data, size_t bytes, TickType_t ticks);
struct esp_netif_t;
esp_err_t esp_netif_init();
esp_netif_t* esp_netif_create_default_wifi_sta();
esp_err_t nvs_flash_init();
esp_err_t nvs_flash_erase();

// esp_wifi.h
enum wifi_auth_mode_t { WIFI_AUTH_OPEN, WIFI_AUTH_WEP, WIFI_AUTH_WPA_PSK, WIFI_AUTH_WPA2_PSK };
enum wifi_scan_method_t { WIFI_FAST_SCAN, WIFI_ALL_CHANNEL_SCAN };
enum wifi_sort_method_t { WIFI_CONNECT_AP_BY_SIGNAL, WIFI_CONNECT_AP_BY_SECURITY };
enum wifi_sae_pwe_method_t {
  WPA3_SAE_PWE_UNSPECIFIED, WPA3_SAE_PWE_HUNT_AND_PECK, WPA3_SAE_PWE_HASH_TO_ELEMENT, WPA3_SAE_PWE_BOTH,
};
enum wifi_storage_t { WIFI_STORAGE_FLASH, WIFI_STORAGE_RAM };
enum wifi_mode_t { WIFI_MODE_NULL, WIFI_MODE_STA };
enum wifi_interface_t { WIFI_IF_STA };
struct wifi_sta_config_t {
  uint8_t ssid[32];
  uint8_t password[64];
  wifi_scan_method_t scan_method;
  wifi_sort_method_t sort_method;
  struct { int8_t rssi; wifi_auth_mode_t authmode; } threshold;
  struct { bool capable; bool required; } pmf_cfg;
  wifi_sae_pwe_method_t sae_pwe_h2e;
};
union wifi_config_t { wifi_sta_config_t sta; };
struct wifi_init_config_t { int nvs_enable; };
#define WIFI_INIT_CONFIG_DEFAULT() {1}
struct wifi_event_sta_disconnected_t { uint8_t ssid[32]; uint8_t ssid_len; uint8_t bssid[6]; uint8_t reason; int8_t rssi; };
esp_err_t esp_wifi_init(const wifi_init_config_t* config);
esp_err_t esp_wifi_set_storage(wifi_storage_t storage);
esp_err_t esp_wifi_set_mode(wifi_mode_t mode);
esp_err_t esp_wifi_set_config(wifi_interface_t interface, wifi_config_t* config);
esp_err_t esp_wifi_start();
esp_err_t esp_wifi_connect();

// mqtt_client.h
using esp_mqtt_client_handle_t = struct Client*;
enum esp_mqtt_event_id_t {
  MQTT_EVENT_ANY = -1, MQTT_EVENT_ERROR, MQTT_EVENT_CONNECTED, MQTT_EVENT_DISCONNECTED, MQTT_EVENT_SUBSCRIBED,
  MQTT_EVENT_UNSUBSCRIBED, MQTT_EVENT_PUBLISHED, MQTT_EVENT_DATA, MQTT_EVENT_BEFORE_CONNECT,
};
enum esp_mqtt_error_type_t {
  MQTT_ERROR_TYPE_NONE, MQTT_ERROR_TYPE_TCP_TRANSPORT, MQTT_ERROR_TYPE_CONNECTION_REFUSED, MQTT_ERROR_TYPE_SUBSCRIBE_FAILED,
};
enum esp_mqtt_connect_return_code_t { MQTT_CONNECTION_ACCEPTED, MQTT_CONNECTION_REFUSE_NOT_AUTHORIZED = 5 };
enum esp_mqtt_transport_t { MQTT_TRANSPORT_UNKNOWN, MQTT_TRANSPORT_OVER_TCP, MQTT_TRANSPORT_OVER_SSL };
enum esp_mqtt_protocol_ver_t { MQTT_PROTOCOL_UNDEFINED, MQTT_PROTOCOL_V_3_1, MQTT_PROTOCOL_V_3_1_1, MQTT_PROTOCOL_V_5 };
struct esp_mqtt_error_codes_t { esp_mqtt_error_type_t error_type; esp_mqtt_connect_return_code_t connect_return_code; };
struct esp_mqtt_event_t {
  esp_mqtt_event_id_t event_id;
  esp_mqtt_client_handle_t client;
  char* data;
  int data_len, total_data_len, current_data_offset;
  char* topic;
  int topic_len, msg_id, session_present;
  esp_mqtt_error_codes_t* error_handle;
  bool retain;
  int qos;
  bool dup;
};
struct esp_mqtt_client_config_t {
  struct {
    struct { const char* uri; const char* hostname; esp_mqtt_transport_t transport; const char* path; uint32_t port; } address;
    struct { const char* certificate; size_t certificate_len; bool skip_cert_common_name_check; } verification;
  } broker;
  struct {
    const char* username;
    const char* client_id;
    struct { const char* certificate; size_t certificate_len; const char* key; size_t key_len; } authentication;
  } credentials;
  struct {
    struct { const char* topic; const char* msg; int msg_len; int qos; int retain; } last_will;
    bool disable_clean_session;
    int keepalive;
    esp_mqtt_protocol_ver_t protocol_ver;
  } session;
  struct { int reconnect_timeout_ms; int timeout_ms; bool disable_auto_reconnect; } network;
  struct { int priority; int stack_size; } task;
  struct { int size; int out_size; } buffer;
};
esp_mqtt_client_handle_t esp_mqtt_client_init(const esp_mqtt_client_config_t* config);
esp_err_t esp_mqtt_client_register_event(esp_mqtt_client_handle_t client, esp_mqtt_event_id_t id, esp_event_handler_t handler,
                                         void* argument);
esp_err_t esp_mqtt_client_start(esp_mqtt_client_handle_t client);
esp_err_t esp_mqtt_client_disconnect(esp_mqtt_client_handle_t client);
int esp_mqtt_client_subscribe_single(esp_mqtt_client_handle_t client, const char* topic, int qos);
int esp_mqtt_client_publish(esp_mqtt_client_handle_t client, const char* topic, const char* data, int bytes, int qos, int retain);
int esp_mqtt_client_get_outbox_size(esp_mqtt_client_handle_t client);
