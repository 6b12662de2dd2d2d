// Model slots in RAM with the manners of flash: this HAL is for simulators, which have no flash chip to write to.
#include <cstring>

#include "hal/c3_bare/kept.h"
#include "hal/memory_flash.h"

extern "C" const uint8_t slot_a_image[edgeward::hal::kSlotBytes];

namespace edgeward::hal {
namespace {

constexpr uint32_t kPowered = 0x45574b50;

uint32_t size_of(Slot slot) {
  if (slot >= Slot::network) return 0;  // no radio, and one program, so no place for more
  return slot == Slot::keys ? kFlashSectorBytes : kSlotBytes;
}

uint8_t* memory_of(Slot slot) {
  if (slot >= Slot::network) return nullptr;
  return slot == Slot::keys ? g_kept.keys : g_kept.slots[static_cast<uint8_t>(slot)];
}

}  // namespace

__attribute__((section(".kept"))) Kept g_kept;

void power_on() {
  if (g_kept.powered == kPowered) return;
  std::memset(&g_kept, 0, offsetof(Kept, slots));
  std::memcpy(memory_of(Slot::a), slot_a_image, kSlotBytes);
  std::memset(memory_of(Slot::b), 0xFF, kSlotBytes);
  std::memset(memory_of(Slot::keys), 0xFF, kFlashSectorBytes);
  g_kept.powered = kPowered;
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
