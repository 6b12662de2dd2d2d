// Flash as a file.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <climits>
#include <cstdlib>
#include <cstring>

#include "hal/host/host.h"
#include "hal/memory_flash.h"

namespace edgeward::hal {
namespace {

constexpr uint32_t kFlashBytes = 4 * 1024 * 1024;
constexpr uint32_t kProgramBytes = 0x170000;
constexpr uint32_t kSlotOffset[kSlotCount] = {0x310000, 0x388000, 0x30F000, 0x30C000, 0x10000, 0x180000, 0x2F0000};
constexpr uint32_t kSlotBytes[kSlotCount] = {0x78000,       0x78000,       kFlashSectorBytes,    3 * kFlashSectorBytes,
                                             kProgramBytes, kProgramBytes, 2 * kFlashSectorBytes};

uint8_t* g_flash = nullptr;
char g_path[PATH_MAX] = {};  // absolute

uint8_t* memory_of(Slot slot) { return g_flash + kSlotOffset[static_cast<uint8_t>(slot)]; }

uint32_t size_of(Slot slot) { return kSlotBytes[static_cast<uint8_t>(slot)]; }

}  // namespace

const char* flash_path() { return g_path; }

const char* open_flash(const char* path) {
  const int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (file < 0) return "cannot open the flash image";
  struct stat status {};
  if (fstat(file, &status) != 0) return "cannot read the size of the flash image";
  const bool fresh = status.st_size == 0;
  if (!fresh && status.st_size != kFlashBytes) return "the flash image does not have 4 MB";
  if (fresh && ftruncate(file, kFlashBytes) != 0) return "cannot make the flash image 4 MB large";
  void* const mapped = mmap(nullptr, kFlashBytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  if (mapped == MAP_FAILED) return "cannot map the flash image";
  g_flash = static_cast<uint8_t*>(mapped);
  if (realpath(path, g_path) == nullptr) g_path[0] = 0;
  if (fresh) std::memset(g_flash, 0xFF, kFlashBytes);
  return nullptr;
}

uint32_t slot_bytes(Slot slot) { return size_of(slot); }

void slot_unmap(Slot) {}

SlotView slot_map(Slot slot) { return SlotView{memory_of(slot), size_of(slot)}; }

bool slot_erase(Slot slot, uint32_t offset, uint32_t bytes) {
  return erase_memory(memory_of(slot), size_of(slot), offset, bytes);
}

bool slot_write(Slot slot, uint32_t offset, const uint8_t* data, uint32_t bytes) {
  return write_memory(memory_of(slot), size_of(slot), offset, data, bytes);
}

}  // namespace edgeward::hal
