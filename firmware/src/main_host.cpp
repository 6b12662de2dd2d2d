// A virtual board: the firmware as a process behind a pseudo-terminal, with a file for flash.
//
//   edgeward-board --flash FILE [--arena BYTES] [--until-stdin-closes]
//
// Prints `port PATH` on standard output, then serves until it is killed.
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "core/board.h"
#include "hal/host/host.h"

namespace {

constexpr uint32_t kArenaBytes = 1024 * 1024;

alignas(16) uint8_t g_arena[kArenaBytes];

int usage(const char* problem) {
  std::fprintf(stderr, "edgeward-board: %s\n", problem);
  std::fprintf(stderr, "usage: edgeward-board --flash FILE [--arena BYTES] [--until-stdin-closes]\n");
  return 2;
}

int fail(const char* problem, const char* what) {
  std::fprintf(stderr, "edgeward-board: %s: ", problem);
  std::perror(what);
  return 1;
}

// Why this process runs, as the process that started it says in the environment.
edgeward::hal::ResetReason reset_reason() {
  using edgeward::hal::ResetReason;
  const char* const told = std::getenv("EDGEWARD_BOARD_RESET");
  if (told != nullptr && std::strcmp(told, "restart") == 0) return ResetReason::restart;
  if (told != nullptr && std::strcmp(told, "crash") == 0) return ResetReason::crash;
  return ResetReason::power_on;
}

}  // namespace

int main(int count, char** arguments) {
  using namespace edgeward;
  const char* flash = nullptr;
  uint32_t arena_bytes = kArenaBytes;
  for (int i = 1; i < count; ++i) {
    const bool has_value = i + 1 < count;
    if (std::strcmp(arguments[i], "--flash") == 0 && has_value) {
      flash = arguments[++i];
    } else if (std::strcmp(arguments[i], "--arena") == 0 && has_value) {
      char* end = nullptr;
      const unsigned long bytes = std::strtoul(arguments[++i], &end, 10);
      if (*end != 0 || bytes > kArenaBytes) return usage("--arena takes a number of bytes up to 1048576");
      arena_bytes = static_cast<uint32_t>(bytes);
    } else if (std::strcmp(arguments[i], "--until-stdin-closes") == 0) {
      hal::watch_stdin();
    } else {
      return usage("unknown option");
    }
  }
  if (flash == nullptr) return usage("--flash is missing");
  if (const char* const problem = hal::open_flash(flash)) return fail(problem, flash);
  hal::start_program(arguments);
  if (const char* const problem = hal::open_pty()) return fail(problem, "pty");
  hal::set_boot(reset_reason(), arguments);
  std::printf("port %s\n", hal::pty_path());
  std::fflush(stdout);
  static Board board(engine(), g_arena, arena_bytes);
  run_board(board);
}
