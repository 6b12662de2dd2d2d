// The boot loader of a virtual board, and its programs: what a place in flash holds is an executable of this machine.
#include <elf.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "hal/host/boot_choice.h"
#include "hal/host/host.h"

namespace edgeward::hal {
namespace {

constexpr char kPlaceVariable[] = "EDGEWARD_BOARD_PROGRAM";  // of the program in flash that runs; not set for a boot loader
constexpr char kLoaderVariable[] = "EDGEWARD_BOARD_LOADER";  // the file of the boot loader, which is also the first program

bool is_executable(const SlotView& place) { return std::memcmp(place.data, ELFMAG, SELFMAG) == 0; }

// Runs what lies there. Returns when that is impossible.
void run_place(Slot slot, char** arguments) {
  const SlotView place = slot_map(slot);
  const int file = memfd_create("program", MFD_CLOEXEC);
  if (file < 0 || write(file, place.data, place.bytes) != static_cast<ssize_t>(place.bytes)) return;
  char loader[PATH_MAX] = {};
  if (readlink("/proc/self/exe", loader, sizeof loader - 1) < 0) return;
  setenv(kLoaderVariable, loader, 1);
  setenv(kPlaceVariable, slot == Slot::app_a ? "a" : "b", 1);
  fexecve(file, arguments, environ);
  std::perror("edgeward-board: the program in flash does not start");
  unsetenv(kPlaceVariable);
}

}  // namespace

void start_program(char** arguments) {
  if (const char* const place = std::getenv(kPlaceVariable)) return set_program(*place == 'a' ? Slot::app_a : Slot::app_b);
  const Slot chosen = choose_program();
  const Slot order[] = {chosen, chosen == Slot::app_a ? Slot::app_b : Slot::app_a};
  for (const Slot slot : order) {
    if (is_executable(slot_map(slot))) run_place(slot, arguments);
    if (slot == Slot::app_a) return;  // nothing came there yet: the program is this one
  }
}

const char* loader_path() {
  unsetenv(kPlaceVariable);
  const char* const loader = std::getenv(kLoaderVariable);
  return loader != nullptr ? loader : "/proc/self/exe";
}

}  // namespace edgeward::hal
