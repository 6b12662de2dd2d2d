// The network of a virtual board: libmosquitto, which keeps the connection in a thread of its own.
#include <fcntl.h>
#include <mosquitto.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <deque>
#include <mutex>
#include <string>

#include "hal/hal.h"
#include "hal/host/host.h"
#include "hal/network.h"

namespace edgeward::hal {
namespace {

constexpr size_t kMostWaiting = 4;
constexpr int kMostUnderWay = 64;
constexpr int kKeepaliveS = 30;
constexpr int kQos = 1;
constexpr int kDrainMs = 1000;
constexpr char kGone[] = "{\"kind\":\"gone\"}";

mosquitto* g_client = nullptr;
std::atomic<bool> g_connected{false};
std::atomic<int> g_under_way{0};
std::mutex g_lock;
std::deque<std::string> g_waiting;  // messages that nobody has read
std::string g_down, g_record, g_presence;

void connected(mosquitto* client, void*, int code) {
  fcntl(mosquitto_socket(client), F_SETFD, FD_CLOEXEC);  // restart() leaves no connection behind
  if (code != 0) {
    std::fprintf(stderr, "edgeward-board: the broker declined: %s\n", mosquitto_connack_string(code));
    return;
  }
  g_under_way = 0;
  mosquitto_subscribe(client, nullptr, g_down.c_str(), kQos);
}

// Orders may come from here on: only now is the board there for who looks.
void subscribed(mosquitto*, void*, int, int, const int*) { g_connected = true; wake(); }

void disconnected(mosquitto*, void*, int) { g_connected = false; }

void published(mosquitto*, void*, int) { --g_under_way; }

void arrived(mosquitto*, void*, const mosquitto_message* message) {
  const std::lock_guard<std::mutex> guard(g_lock);
  if (message->payloadlen <= 0 || message->retain || g_waiting.size() >= kMostWaiting) return;
  g_waiting.emplace_back(static_cast<const char*>(message->payload), static_cast<size_t>(message->payloadlen));
  wake();
}

// libmosquitto takes certificates as files: one without a name that stays open.
std::string as_file(const char* text) {
  const int file = memfd_create("pem", 0);
  const size_t bytes = std::strlen(text);
  if (file < 0 || write(file, text, bytes) != static_cast<ssize_t>(bytes)) return "";
  fcntl(file, F_SETFD, FD_CLOEXEC);
  return "/proc/self/fd/" + std::to_string(file);
}

// As a board's MAC address: the same after a restart, another one for each flash. The broker then ends the connection before at
// once, so that its last will does not come later and take the place of the new presence.
uint64_t chip_number() {
  char host[64] = {};
  (void)gethostname(host, sizeof host - 1);
  uint64_t number = 0xCBF29CE484222325u;  // FNV-1a
  for (const char letter : std::string(host) + '/' + flash_path()) {
    number = (number ^ static_cast<uint8_t>(letter)) * 0x100000001B3u;
  }
  return number;
}

bool set_tls(const NetworkSettings& settings) {
  const std::string ca = as_file(settings.ca), certificate = as_file(settings.certificate), key = as_file(settings.key);
  const bool named = *settings.certificate != 0;
  return mosquitto_tls_set(g_client, ca.c_str(), nullptr, named ? certificate.c_str() : nullptr, named ? key.c_str() : nullptr,
                           nullptr) == MOSQ_ERR_SUCCESS &&
         mosquitto_tls_opts_set(g_client, 1, "tlsv1.2", nullptr) == MOSQ_ERR_SUCCESS;
}

// Returns when the broker has what was handed over, at the latest after a second.
void drain() {
  for (int waited = 0; waited < kDrainMs && g_connected && g_under_way > 0; ++waited) usleep(1000);
}

}  // namespace

bool network_start(const NetworkSettings& settings) {
  if (g_client != nullptr) return true;
  const std::string root = std::string("edgeward/1/") + settings.federation + "/board/" + settings.name;
  g_down = root + "/down";
  g_record = root + "/record";
  g_presence = root + "/presence";
  char id[112];
  std::snprintf(id, sizeof id, "edgeward-board-%s-%016" PRIx64, settings.name, chip_number());
  mosquitto_lib_init();
  g_client = mosquitto_new(id, true, nullptr);
  if (g_client == nullptr) return false;
  before_restart(drain);
  mosquitto_int_option(g_client, MOSQ_OPT_PROTOCOL_VERSION, MQTT_PROTOCOL_V311);
  mosquitto_connect_callback_set(g_client, connected);
  mosquitto_subscribe_callback_set(g_client, subscribed);
  mosquitto_disconnect_callback_set(g_client, disconnected);
  mosquitto_publish_callback_set(g_client, published);
  mosquitto_message_callback_set(g_client, arrived);
  mosquitto_will_set(g_client, g_presence.c_str(), sizeof kGone - 1, kGone, kQos, true);
  mosquitto_reconnect_delay_set(g_client, 1, 30, true);
  if (*settings.ca != 0 && !set_tls(settings)) {
    std::fprintf(stderr, "edgeward-board: its certificates cannot be used\n");
    return false;
  }
  mosquitto_connect_async(g_client, settings.host, settings.port, kKeepaliveS);
  return mosquitto_loop_start(g_client) == MOSQ_ERR_SUCCESS;
}

NetworkState network_state() {
  if (g_client == nullptr) return NetworkState::off;
  return g_connected ? NetworkState::connected : NetworkState::joining;
}

size_t network_read(uint8_t* buffer, size_t capacity) {
  const std::lock_guard<std::mutex> guard(g_lock);
  if (g_waiting.empty()) return 0;
  const std::string message = g_waiting.front();
  g_waiting.pop_front();
  if (message.size() > capacity) return 0;
  std::memcpy(buffer, message.data(), message.size());
  return message.size();
}

bool network_send(Topic topic, const uint8_t* data, size_t bytes) {
  if (!g_connected || g_under_way >= kMostUnderWay) return false;
  const bool kept = topic == Topic::presence;
  ++g_under_way;
  const char* const name = kept ? g_presence.c_str() : g_record.c_str();
  if (mosquitto_publish(g_client, nullptr, name, static_cast<int>(bytes), data, kQos, kept) == MOSQ_ERR_SUCCESS) return true;
  --g_under_way;
  return false;
}

}  // namespace edgeward::hal
