// What the stand-in of ESP-IDF was asked for, and how its next answers turn out.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "stand_in.h"

struct Published {
  std::string topic, message;
  int qos, retain;
};

struct World {
  // Answers.
  std::map<std::string, esp_err_t> errors;  // function -> what it returns, once
  bool no_client = false;
  int outbox_bytes = 0;
  int publish_returns = 1;
  int subscribe_returns = 1;
  std::function<void()> while_waiting;  // once, in the first wait there is

  // What was asked for.
  std::vector<std::string> calls;  // of Wi-Fi, NVS and esp-mqtt, in their order
  std::string log;
  wifi_config_t wifi = {};
  esp_mqtt_client_config_t mqtt = {};
  std::string host, client_id, will_topic, will;  // which esp-mqtt copies
  std::string subscribed;
  int subscribed_qos = -1;
  std::vector<Published> published;
  int64_t pause_us = 0;  // of the armed timer; 0 when none is
  uint32_t waited = 0;   // ticks
  int watchdog_fed = 0;
  bool restarted = false;

  int count(const std::string& call) const;
};

extern World world;

// What a function returns that the world has an error for, once.
inline esp_err_t answer(const char* call) {
  world.calls.push_back(call);
  const auto found = world.errors.find(call);
  if (found == world.errors.end()) return ESP_OK;
  const esp_err_t error = found->second;
  world.errors.erase(found);
  return error;
}

// Lets the tasks that were made run until all of them wait.
void run_tasks();
// Calls `body`, up to a restart.
void until_restart(void (*body)());
// The pause is over, in the task of the timers; then what that posted, in the one of events.
void end_pause();
void run_events();
void wifi_event(esp_event_base_t base, int32_t id, void* data = nullptr);
void mqtt_event(esp_mqtt_event_id_t id, esp_mqtt_error_type_t error = MQTT_ERROR_TYPE_NONE);
// A piece of a message, as esp-mqtt hands it over: its memory is gone afterwards.
void mqtt_piece(const std::string& piece, int offset, int total, bool retained = false);
