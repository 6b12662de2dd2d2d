// Samples at a steady rate: a timer reads the sensor into a ring, the firmware takes them out when it has time. A microphone has
// both itself.
#include "hal/esp32/source.h"

#include <atomic>
#include <cstddef>
#include <cstring>

#include "esp_log.h"
#include "esp_timer.h"
#include "hal/hal.h"

namespace edgeward::hal {
namespace {

// 2 s of six channels at 125 Hz: longer than most inferences. Full, it drops the newest sample and says so when closed.
constexpr uint32_t kRingValues = 2048;
constexpr uint32_t kMostRateHz = 10000;  // that a timer's callback keeps up with

const SelfClocked* g_self_clocked = nullptr;
const Sensor* g_sensor = nullptr;
esp_timer_handle_t g_timer = nullptr;
uint32_t g_channels = 0;
int64_t g_due_us = 0;  // of the next sample
int64_t g_period_us = 0;
int16_t g_ring[kRingValues];
// Counted without end; one side writes each.
std::atomic<uint32_t> g_written{0};
std::atomic<uint32_t> g_taken{0};
std::atomic<uint32_t> g_dropped{0};
Missed g_missed_are = Missed::repeated;
// Samples missing behind the last one in the ring. While it is above 0 nothing is written, so that is where the gap stays.
std::atomic<uint32_t> g_missed{0};

// In the timer's task.
void take_sample(void*) {
  static int16_t values[kMostChannels] = {};
  // A timer that was held up fires once for every period it missed, at once: what is read then is not of its time.
  const bool late = esp_timer_get_time() - g_due_us >= g_period_us;
  g_due_us += g_period_us;
  const bool measured = !late && g_sensor->read(values);
  if (!measured) ++g_dropped;
  const uint32_t written = g_written.load(std::memory_order_relaxed);
  const bool room = written - g_taken.load(std::memory_order_acquire) + g_channels <= kRingValues;
  if (g_missed_are == Missed::counted && (!measured || !room || g_missed > 0)) {
    ++g_missed;
    return;
  }
  if (!room) {
    ++g_dropped;
    return;
  }
  for (uint32_t i = 0; i < g_channels; ++i) g_ring[(written + i) % kRingValues] = values[i];
  g_written.store(written + g_channels, std::memory_order_release);
}

bool start_timer(uint32_t rate_hz) {
  esp_timer_create_args_t arguments = {};
  arguments.callback = take_sample;
  arguments.name = "samples";
  if (esp_timer_create(&arguments, &g_timer) != ESP_OK) {
    g_timer = nullptr;
    return false;
  }
  g_period_us = 1000000 / rate_hz;
  g_due_us = esp_timer_get_time() + g_period_us;
  return esp_timer_start_periodic(g_timer, static_cast<uint64_t>(g_period_us)) == ESP_OK;
}

}  // namespace

bool source_open(const char* name, uint32_t rate_hz, uint32_t channels, Missed missed) {
  source_close();
  if (kMic != nullptr && std::strcmp(kMic->name, name) == 0) {
    if (kMic->open(rate_hz, channels, missed)) g_self_clocked = kMic;
    return g_self_clocked != nullptr;
  }
  if (rate_hz > kMostRateHz) return false;
  for (uint32_t i = 0; i < kSensorCount; ++i) {
    const Sensor* const sensor = kSensors[i];
    if (std::strcmp(sensor->name, name) == 0 && channels <= kMostChannels && sensor->open(channels)) g_sensor = sensor;
  }
  if (g_sensor == nullptr) return false;
  g_channels = channels;
  g_written = g_taken = g_dropped = g_missed = 0;
  g_missed_are = missed;
  if (start_timer(rate_hz)) return true;
  source_close();
  return false;
}

void source_close() {
  if (g_self_clocked != nullptr) g_self_clocked->close();
  g_self_clocked = nullptr;
  if (g_timer != nullptr) {
    (void)esp_timer_stop(g_timer);  // not running is as good
    (void)esp_timer_delete(g_timer);
    g_timer = nullptr;
  }
  if (g_sensor == nullptr) return;
  g_sensor->close();
  g_sensor = nullptr;
  if (g_dropped > 0) ESP_LOGW("source", "%u samples were lost or repeated", static_cast<unsigned>(g_dropped));
}

size_t source_read(int16_t* values, size_t capacity) {
  if (g_self_clocked != nullptr) return g_self_clocked->read(values, capacity);
  const uint32_t taken = g_taken.load(std::memory_order_relaxed);
  const uint32_t waiting = g_written.load(std::memory_order_acquire) - taken;
  const uint32_t count = waiting < capacity ? waiting : static_cast<uint32_t>(capacity);
  for (uint32_t i = 0; i < count; ++i) values[i] = g_ring[(taken + i) % kRingValues];
  g_taken.store(taken + count, std::memory_order_release);
  return count;
}

uint32_t source_missed() {
  if (g_self_clocked != nullptr) return g_self_clocked->missed();
  if (g_missed == 0 || g_written != g_taken) return 0;  // in this order: behind a gap nothing is written until it is counted
  return g_missed.exchange(0);
}

}  // namespace edgeward::hal
