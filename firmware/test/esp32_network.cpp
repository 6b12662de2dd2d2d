// The network of an ESP32 (hal/esp32/with_network) against a stand-in of ESP-IDF: one case a process, named by the argument.
// Prints what failed; exit code 0 when nothing did.
#include <cstdio>
#include <cstring>

#include "core/budget.h"
#include "esp_idf/world.h"
#include "hal/esp32/radio.h"
#include "hal/esp32/serial.h"
#include "hal/hal.h"
#include "hal/network.h"

using namespace edgeward;

namespace {

int g_failures = 0;

void check(bool holds, const char* what) {
  if (holds) return;
  std::printf("%s\n", what);
  ++g_failures;
}

// Settings as flash has them: texts that are gone once they are erased.
struct Flash {
  char ssid[33] = {}, password[65] = {}, host[32] = "broker.example", federation[8] = "demo", name[8] = "ward-7";
  char ca[24] = "PEM of the CA", certificate[24] = "PEM of the board", key[24] = "PEM of the key";

  Flash() {
    std::memset(ssid, 's', 32);
    std::memset(password, 'f', 64);
  }
  hal::NetworkSettings settings() const { return {ssid, password, host, 8883, federation, name, ca, certificate, key}; }
  void erase() {
    for (char* text : {ssid, password, host, federation, name, ca, certificate, key}) std::memset(text, 0xFF, 8);
  }
};

Flash g_flash;

bool start() { return hal::network_start(g_flash.settings()); }

void join() {
  wifi_event(WIFI_EVENT, WIFI_EVENT_STA_START);
  wifi_event(IP_EVENT, IP_EVENT_STA_GOT_IP);
}

void connect() {
  mqtt_event(MQTT_EVENT_CONNECTED);
  mqtt_event(MQTT_EVENT_SUBSCRIBED);
}

void start_and_connect() {
  check(start(), "it starts");
  join();
  connect();
  check(hal::network_state() == hal::NetworkState::connected, "it is connected");
}

bool send(const std::string& message, hal::Topic topic = hal::Topic::record) {
  return hal::network_send(topic, reinterpret_cast<const uint8_t*>(message.data()), message.size());
}

std::string read(size_t capacity = kMessageBytes) {
  uint8_t buffer[kMessageBytes];
  const size_t bytes = hal::network_read(buffer, capacity);
  return std::string(reinterpret_cast<const char*>(buffer), bytes);
}

std::string text_of(size_t bytes, char first) {
  std::string text;
  for (size_t i = 0; i < bytes; ++i) text += static_cast<char>(first + i % 23);
  return text;
}

void deliver(const std::string& message, bool retained = false, size_t piece_bytes = 900) {
  for (size_t at = 0; at < message.size(); at += piece_bytes) {
    mqtt_piece(message.substr(at, piece_bytes), static_cast<int>(at), static_cast<int>(message.size()), retained);
  }
}

bool logged(const char* words) { return world.log.find(words) != std::string::npos; }

void settings() {
  check(hal::network_state() == hal::NetworkState::off, "before, it is off");
  check(start() && hal::network_state() == hal::NetworkState::joining, "it joins");
  check(start() && world.count("esp_mqtt_client_init") == 1 && world.count("esp_wifi_start") == 1, "a second call does nothing");
  g_flash.erase();

  const wifi_sta_config_t& wifi = world.wifi.sta;
  check(std::string(reinterpret_cast<const char*>(wifi.ssid), 32) == std::string(32, 's'), "a name of 32 bytes is whole");
  check(std::string(reinterpret_cast<const char*>(wifi.password), 64) == std::string(64, 'f'), "and a password of 64");
  check(wifi.threshold.authmode == WIFI_AUTH_WPA2_PSK, "with a password, WPA2 is the least");
  check(wifi.scan_method == WIFI_ALL_CHANNEL_SCAN && wifi.sort_method == WIFI_CONNECT_AP_BY_SIGNAL, "the best signal of all");
  check(wifi.pmf_cfg.capable && !wifi.pmf_cfg.required, "with protected frames where they are to be had");
  check(world.count("esp_wifi_init") == 1 && world.count("storage RAM") == 1, "NVS gets nothing of it");

  const esp_mqtt_client_config_t& mqtt = world.mqtt;
  check(world.host == "broker.example" && mqtt.broker.address.port == 8883 && mqtt.broker.address.uri == nullptr, "the broker");
  check(mqtt.broker.address.transport == MQTT_TRANSPORT_OVER_SSL, "over TLS");
  check(!mqtt.broker.verification.skip_cert_common_name_check, "its name is checked");
  check(std::strcmp(mqtt.broker.verification.certificate, "PEM of the CA") == 0, "the authority outlives the flash");
  check(std::strcmp(mqtt.credentials.authentication.certificate, "PEM of the board") == 0, "the certificate too");
  check(std::strcmp(mqtt.credentials.authentication.key, "PEM of the key") == 0, "and the key");
  check(mqtt.broker.verification.certificate_len == 0 && mqtt.credentials.authentication.certificate_len == 0 &&
            mqtt.credentials.authentication.key_len == 0, "lengths of 0 say that they are PEM");
  check(world.client_id == "edgeward-board-ward-7-240ac4000110", "one client a chip and name, at every start");
  check(world.will_topic == "edgeward/1/demo/board/ward-7/presence", "the will has the topic of the presence");
  check(world.will == "{\"kind\":\"gone\"}" && mqtt.session.last_will.msg_len == 0, "says gone");
  check(mqtt.session.last_will.qos == 1 && mqtt.session.last_will.retain == 1, "is kept by the broker");
  check(!mqtt.session.disable_clean_session, "a clean session");
  check(mqtt.session.protocol_ver == MQTT_PROTOCOL_V_3_1_1, "of MQTT 3.1.1");
  const int pause_ms = mqtt.network.reconnect_timeout_ms;
  check(!mqtt.network.disable_auto_reconnect && pause_ms >= 5000 && pause_ms < 10000, "esp-mqtt connects again");
  check(mqtt.buffer.out_size >= static_cast<int>(kUplinkBytes) + 160, "a record leaves in one piece");

  check(world.count("esp_wifi_connect") == 0, "joining waits for the radio");
  wifi_event(WIFI_EVENT, WIFI_EVENT_STA_START);
  check(world.count("esp_wifi_connect") == 1 && world.count("esp_mqtt_client_start") == 0, "and MQTT for an address");
  wifi_event(IP_EVENT, IP_EVENT_STA_GOT_IP);
  wifi_event(IP_EVENT, IP_EVENT_STA_GOT_IP);
  check(world.count("esp_mqtt_client_start") == 1, "it is started once");
  mqtt_event(MQTT_EVENT_CONNECTED);
  check(world.subscribed == "edgeward/1/demo/board/ward-7/down" && world.subscribed_qos == 1, "it subscribes");
  check(hal::network_state() == hal::NetworkState::joining, "before the broker has confirmed that, it is not there");
  mqtt_event(MQTT_EVENT_SUBSCRIBED);
  check(hal::network_state() == hal::NetworkState::connected, "then it is");
  check(world.waited == 0, "nothing has waited");
}

void open_network() {
  std::memset(g_flash.password, 0, sizeof g_flash.password);
  for (char* text : {g_flash.ca, g_flash.certificate, g_flash.key}) text[0] = 0;
  check(start(), "it starts");
  check(world.wifi.sta.threshold.authmode == WIFI_AUTH_OPEN, "without a password an open network will do");
  check(world.mqtt.broker.address.transport == MQTT_TRANSPORT_OVER_TCP, "without an authority there is no TLS");
  check(world.mqtt.broker.verification.certificate == nullptr && world.mqtt.credentials.authentication.certificate == nullptr &&
            world.mqtt.credentials.authentication.key == nullptr, "and no certificate");
}

void no_ssid() {
  g_flash.ssid[0] = 0;
  check(!start() && hal::network_state() == hal::NetworkState::off, "without a network it does not start");
  check(world.calls.empty() && logged("no name of a Wi-Fi"), "touches no radio, and says why");
  check(!send("x") && read().empty() && !hal::message_waits(), "what is called nevertheless does nothing");
}

void no_radio() {
  world.errors["esp_wifi_init"] = ESP_ERR_NO_MEM;
  check(!start() && hal::network_state() == hal::NetworkState::off, "without memory there is no radio");
  check(logged("Wi-Fi: ESP_ERR") && world.count("esp_wifi_start") == 0, "which is said");
  check(!start() && world.count("esp_wifi_init") == 1, "and not tried a second time");
}

void no_client() {
  world.no_client = true;
  check(!start() && hal::network_state() == hal::NetworkState::off, "without MQTT it does not start");
  check(world.count("esp_wifi_init") == 0 && logged("no memory"), "touches no radio, and says why");
}

void no_task() {
  world.errors["xTaskCreate"] = ESP_FAIL;
  check(!start() && hal::network_state() == hal::NetworkState::off, "without its task it does not start");
  check(world.count("esp_wifi_init") == 0 && logged("no memory"), "touches no radio, and says why");
}

void old_nvs() {
  world.errors["nvs_flash_init"] = ESP_ERR_NVS_NEW_VERSION_FOUND;
  check(start() && world.count("nvs_flash_erase") == 1 && world.count("nvs_flash_init") == 2, "an NVS of another version is erased");
}

void declined() {
  check(start(), "it starts");
  join();
  mqtt_event(MQTT_EVENT_ERROR, MQTT_ERROR_TYPE_CONNECTION_REFUSED);
  check(logged("declined: code 5"), "a broker that declines is said");
  mqtt_event(MQTT_EVENT_CONNECTED);
  mqtt_event(MQTT_EVENT_SUBSCRIBED, MQTT_ERROR_TYPE_SUBSCRIBE_FAILED);
  check(hal::network_state() == hal::NetworkState::joining, "without its topic it is not there");
  check(logged("does not let this board read edgeward/1/demo/board/ward-7/down"), "and says so");
  check(!send("x"), "and sends nothing");
  world.subscribe_returns = -1;
  mqtt_event(MQTT_EVENT_CONNECTED);
  check(world.count("esp_mqtt_client_disconnect") == 1, "what could not subscribe connects again");
}

void messages() {
  start_and_connect();
  const std::string longest = text_of(kMessageBytes, '0');
  deliver("short");
  check(hal::message_waits() && read() == "short" && read().empty() && !hal::message_waits(), "a message comes once");
  deliver(longest);
  check(read() == longest, "the longest comes whole from its pieces");
  deliver(text_of(kMessageBytes + 1, '0'));
  check(!hal::message_waits(), "one byte more comes not at all");
  deliver(text_of(60000, '0'));
  check(!hal::message_waits(), "nor does one much longer");
  mqtt_piece("", 0, 0);
  check(!hal::message_waits(), "an empty one is dropped");
  deliver("kept", true);
  deliver(longest, true);
  check(!hal::message_waits(), "what the broker had kept is no order");
  mqtt_piece("", 0, 6);
  mqtt_piece("abc", 0, 6);
  mqtt_piece("def", 3, 6);
  check(read() == "abcdef", "the first piece may hold the topic alone");
  deliver(text_of(100, 'a'));
  check(read(99).empty() && read(100).empty(), "what does not fit is dropped");

  mqtt_piece("abc", 0, 9);
  mqtt_piece("ghi", 6, 9);
  check(read().empty(), "without its middle a message is dropped");
  mqtt_piece("jkl", 3, 9);
  mqtt_piece("mno", 6, 9);
  check(read().empty(), "nor does it go on afterwards");
  mqtt_piece("abc", 0, 9);
  mqtt_piece("def", 3, 6);
  mqtt_piece("ghi", 6, 9);
  check(read().empty(), "a piece of another length is of another message");
  mqtt_piece("abc", 0, 4);
  mqtt_piece("def", 3, 4);
  check(read().empty(), "more than was said comes not at all");
  mqtt_piece("abc", 0, 9);
  mqtt_event(MQTT_EVENT_DISCONNECTED);
  connect();
  check(read().empty(), "half a message is lost with the connection");
  deliver("whole");
  check(read() == "whole" && read().empty(), "and the next one is whole");
}

void five_waiting() {
  start_and_connect();
  for (int round = 0; round < 3; ++round) {
    for (const char* message : {"one", "two", "three", "four", "five"}) deliver(message);
    check(read() == "one", "the first of five");
    mqtt_piece("si", 0, 3);
    check(read() == "two", "and the second");
    mqtt_piece("x", 2, 3);
    check(read() == "three" && read() == "four", "four wait, in their order");
    check(read() == "six", "and what came when there was room");
    check(read().empty(), "the fifth was dropped");
  }
}

void sends() {
  check(!send("early") && !hal::message_waits(), "nothing leaves before there is a network");
  start_and_connect();
  check(send("a record") && send("who I am", hal::Topic::presence), "messages are accepted");
  check(world.published.empty() && world.count("esp_mqtt_client_get_outbox_size") == 0, "this task does not call esp-mqtt");
  run_tasks();
  check(world.published.size() == 2, "the other task sends them");
  if (world.published.size() < 2) return;
  const Published &record = world.published[0], &presence = world.published[1];
  check(record.topic == "edgeward/1/demo/board/ward-7/record" && record.message == "a record", "a record");
  check(record.qos == 1 && record.retain == 0, "once");
  check(presence.topic == "edgeward/1/demo/board/ward-7/presence" && presence.message == "who I am", "a presence");
  check(presence.qos == 1 && presence.retain == 1, "which the broker keeps");
  check(!send(""), "an empty message is refused: esp-mqtt would measure it as a text");
  check(!send(std::string(kUplinkBytes + 1, 'x')), "one that is too long does not leave");
  check(send(std::string(kUplinkBytes, 'y')), "the longest does");
  run_tasks();
  check(world.published.size() == 3 && world.published[2].message == std::string(kUplinkBytes, 'y'), "whole");
}

void full_outbox() {
  start_and_connect();
  world.outbox_bytes = 12 * 1024;
  for (const char* message : {"1", "2", "3", "4"}) check(send(message), "four wait");
  run_tasks();
  check(world.published.empty(), "while the broker confirms nothing, no more is handed to esp-mqtt");
  check(!send("5"), "and a fifth is lost, which is said");
  run_tasks();
  world.outbox_bytes = 12 * 1024 - 1;
  mqtt_event(MQTT_EVENT_PUBLISHED);
  run_tasks();
  std::string order;
  for (const Published& message : world.published) order += message.message;
  check(order == "1234", "what waits leaves in its order once there is room");
  check(send("6"), "and there is room behind it");
}

void lost_connection() {
  start_and_connect();
  check(send("before"), "a record");
  mqtt_event(MQTT_EVENT_DISCONNECTED);
  check(hal::network_state() == hal::NetworkState::joining && !send("during"), "without a connection nothing is accepted");
  run_tasks();
  check(world.published.empty(), "and nothing is sent");
  connect();
  check(hal::network_state() == hal::NetworkState::connected, "it is back");
  run_tasks();
  check(world.published.size() == 1 && world.published[0].message == "before", "and what waited leaves");
}

void lose_wifi() {
  wifi_event_sta_disconnected_t lost = {};
  lost.reason = 201;
  wifi_event(WIFI_EVENT, WIFI_EVENT_STA_DISCONNECTED, &lost);
}

bool pauses(int64_t seconds) {
  return world.pause_us >= seconds * 1000000 && world.pause_us < seconds * 1250000;
}

void lost_wifi() {
  check(start(), "it starts");
  wifi_event(WIFI_EVENT, WIFI_EVENT_STA_START);
  int connects = 1;
  for (const int64_t seconds : {1, 2, 4, 8, 16, 32, 60, 60}) {
    lose_wifi();
    check(pauses(seconds) && world.count("esp_wifi_connect") == connects, "a pause, longer each time up to a minute");
    end_pause();
    check(world.count("esp_wifi_connect") == ++connects, "then it joins again");
  }
  check(logged("reason 201"), "the reason is in the log");
  wifi_event(IP_EVENT, IP_EVENT_STA_GOT_IP);
  lose_wifi();
  check(pauses(1), "where it had joined, pauses are short again");
  world.errors["esp_event_post"] = ESP_FAIL;
  end_pause();
  check(world.count("esp_wifi_connect") == connects && pauses(1), "with no room for the event it comes later");
  world.errors["esp_wifi_connect"] = ESP_FAIL;
  end_pause();
  check(world.count("esp_wifi_connect") == ++connects && pauses(2), "and so it does when joining fails at once");
  end_pause();
  check(world.count("esp_wifi_connect") == ++connects && world.waited == 0, "nobody has waited");
}

void wakes() {
  hal::idle(100000);
  check(world.waited == 100 && world.watchdog_fed == 1, "without input, idle() takes its time and feeds the watchdog");
  start_and_connect();
  world.waited = 0;
  world.while_waiting = [] { deliver("an order"); };
  hal::idle(100000);
  check(world.waited <= 10 && read() == "an order", "a message ends it");
  world.waited = 0;
  deliver("another");
  hal::idle(100000);
  check(world.waited == 0 && read() == "another", "one that waits leaves no time for it");
}

void restarts() {
  start_and_connect();
  hal::drain_network();
  check(world.waited == 0, "without anything under way nothing waits");
  check(send("reboot"), "the last record");
  run_tasks();
  world.while_waiting = [] { mqtt_event(MQTT_EVENT_PUBLISHED); };
  hal::drain_network();
  check(world.waited == 10, "it waits until the broker has it");
  world.waited = 0;
  check(send("reboot"), "one more");
  until_restart(hal::restart);
  check(world.restarted && world.waited >= 1000 && world.waited < 1100, "a restart waits for it, and no longer than a second");
  mqtt_event(MQTT_EVENT_DISCONNECTED);
  world.waited = 0;
  hal::drain_network();
  check(world.waited == 0, "without a broker not at all");
  connect();
  mqtt_event(MQTT_EVENT_PUBLISHED);
  run_tasks();
  check(world.published.size() == 2, "what waited leaves");
  hal::drain_network();
  check(world.waited == 1000, "what was confirmed of the connection before is not counted for this one");
  world.waited = 0;
  mqtt_event(MQTT_EVENT_DISCONNECTED);
  connect();
  hal::drain_network();
  check(world.waited == 0, "nor is what was sent over it");
}

struct Case { const char* name; void (*run)(); };
constexpr Case kCases[] = {
    {"settings", settings},   {"open_network", open_network}, {"no_ssid", no_ssid},         {"no_radio", no_radio},
    {"no_client", no_client}, {"no_task", no_task},           {"old_nvs", old_nvs},         {"declined", declined},
    {"messages", messages},   {"five_waiting", five_waiting}, {"sends", sends},             {"full_outbox", full_outbox},
    {"lost_wifi", lost_wifi}, {"wakes", wakes},               {"restarts", restarts},       {"lost_connection", lost_connection},
};

}  // namespace

// Without an argument: the names of the cases.
int main(int count, char** arguments) {
  for (const Case& each : kCases) {
    if (count < 2) std::printf("%s\n", each.name);
    if (count >= 2 && std::strcmp(arguments[1], each.name) == 0) {
      hal::open_serial();
      each.run();
      return g_failures == 0 ? 0 : 1;
    }
  }
  return count < 2 ? 0 : 2;
}
