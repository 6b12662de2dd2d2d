// Time, identity and restarting of a process that plays a board.
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <ctime>

#include "hal/host/host.h"

namespace edgeward::hal {
namespace {

constexpr char kRetainedVariable[] = "EDGEWARD_BOARD_RETAINED";

char** g_arguments = nullptr;
ResetReason g_reason = ResetReason::power_on;
uint32_t g_boot_id = 0;
uint64_t g_start_us = 0;
uint32_t* g_retained = nullptr;
void (*g_drain)() = nullptr;

uint64_t monotonic_us() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1000000 + static_cast<uint64_t>(now.tv_nsec) / 1000;
}

// Memory that outlives an exec: a file without a name, its descriptor handed on in the environment.
uint32_t* map_retained() {
  const char* const inherited = std::getenv(kRetainedVariable);
  const int file = inherited ? std::atoi(inherited) : memfd_create("retained", 0);
  if (file < 0 || (!inherited && ftruncate(file, sizeof(uint32_t) * kRetainedWords) != 0)) return nullptr;
  void* const mapped = mmap(nullptr, sizeof(uint32_t) * kRetainedWords, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (mapped == MAP_FAILED) return nullptr;
  char text[16];
  std::snprintf(text, sizeof text, "%d", file);
  setenv(kRetainedVariable, text, 1);
  return static_cast<uint32_t*>(mapped);
}

}  // namespace

void set_boot(ResetReason reason, char** arguments) {
  g_reason = reason;
  g_arguments = arguments;
  g_start_us = monotonic_us();
  g_retained = map_retained();
  while (g_boot_id == 0) {
    if (getrandom(&g_boot_id, sizeof g_boot_id, 0) != sizeof g_boot_id) g_boot_id = static_cast<uint32_t>(g_start_us);
  }
}

uint64_t clock_us() { return monotonic_us() - g_start_us; }

SystemInfo system_info() {
  SystemInfo info{};
  info.chip = "host";
  info.simulated = true;
  info.reset_reason = g_reason;
  info.boot_id = g_boot_id;
  info.retained = g_retained;
  return info;
}

void before_restart(void (*drain)()) { g_drain = drain; }

void restart() {
  if (g_drain != nullptr) g_drain();
  setenv("EDGEWARD_BOARD_RESET", "restart", 1);
  execv(loader_path(), g_arguments);
  std::perror("edgeward-board: cannot restart");
  std::_Exit(1);
}

}  // namespace edgeward::hal
