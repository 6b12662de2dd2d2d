// Entry on ESP-IDF: opens the port, puts the task under the watchdog, gives the board its arena and its loop.
#include "core/board.h"
#include "engine/engine.h"
#include "esp_err.h"
#include "esp_heap_caps.h"
#include "esp_log.h"
#include "esp_task_wdt.h"
#include "hal/esp32/radio.h"
#include "hal/esp32/serial.h"
#include "hal/esp32/source.h"

namespace {

constexpr uint32_t kArenaCapabilities = MALLOC_CAP_INTERNAL | MALLOC_CAP_8BIT;
constexpr size_t kArenaAlignment = 16;
// Left for the drivers, which allocate little once they are installed. A network and a microphone have their own shares.
constexpr size_t kHeapReserveBytes = 24 * 1024;

// The largest piece of internal memory there is, less the reserve: the header of a model says whether that is enough.
// The only allocation, made once and never given back.
uint8_t* take_arena(uint32_t* bytes) {
  const size_t largest = heap_caps_get_largest_free_block(kArenaCapabilities);
  const size_t total = heap_caps_get_free_size(kArenaCapabilities);
  const size_t reserve = kHeapReserveBytes + edgeward::hal::kNetworkHeapBytes + edgeward::hal::kMicHeapBytes;
  const size_t spare = total > reserve ? total - reserve : 0;
  // The allocator keeps some bytes of a block for itself.
  const size_t usable = largest > 2 * kArenaAlignment ? largest - 2 * kArenaAlignment : 0;
  *bytes = static_cast<uint32_t>((usable < spare ? usable : spare) / kArenaAlignment * kArenaAlignment);
  return static_cast<uint8_t*>(heap_caps_aligned_alloc(kArenaAlignment, *bytes, kArenaCapabilities));
}

}  // namespace

extern "C" void app_main() {
  edgeward::hal::open_serial();
  ESP_ERROR_CHECK(esp_task_wdt_add(nullptr));
  uint32_t arena_bytes = 0;
  uint8_t* arena = take_arena(&arena_bytes);
  if (arena == nullptr) {
    ESP_LOGE("main", "no memory for an arena of %u bytes", static_cast<unsigned>(arena_bytes));
    arena_bytes = 0;
  }
  static edgeward::Board board(edgeward::engine(), arena, arena_bytes);
  edgeward::run_board(board);
}
