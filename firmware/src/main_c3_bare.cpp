// The firmware on a bare ESP32-C3 in a simulator: same core and engine/direct, no ESP-IDF.
#include "core/board.h"
#include "hal/c3_bare/kept.h"

namespace {

constexpr uint32_t kArenaBytes = 48 * 1024;

alignas(16) uint8_t g_arena[kArenaBytes];

}  // namespace

int main() {
  using namespace edgeward;
  hal::power_on();
  static Board board(engine(), g_arena, kArenaBytes);
  run_board(board);
}
