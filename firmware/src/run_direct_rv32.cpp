// Runs rows through engine/direct, or those of a model of trees through engine/trees, on a bare RV32IMC machine (qemu, -M virt)
// and counts instructions.
//
// At 0x81000000: u32 .tflite bytes, u32 plan bytes, u32 rows, u32 0; the .tflite, the plan and the rows, each from a
// multiple of 16. Prints `load INSTRUCTIONS`, then `row INSTRUCTIONS OUTPUT` for each row, the output in hex, then `end`;
// or `error REASON`. Counted is what the call itself retires: load() with all its checks, and one invoke().
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "engine/engine.h"

namespace {

constexpr uint32_t kArenaBytes = 1024 * 1024;

alignas(16) uint8_t g_arena[kArenaBytes];

volatile uint8_t* const g_uart = reinterpret_cast<volatile uint8_t*>(0x10000000);
volatile uint32_t* const g_test_device = reinterpret_cast<volatile uint32_t*>(0x100000);

void print(const char* text) {
  for (; *text != 0; ++text) *g_uart = static_cast<uint8_t>(*text);
}

void print_hex(const int8_t* data, uint32_t bytes) {
  for (uint32_t i = 0; i < bytes; ++i) {
    const uint8_t byte = static_cast<uint8_t>(data[i]);
    *g_uart = static_cast<uint8_t>("0123456789abcdef"[byte >> 4]);
    *g_uart = static_cast<uint8_t>("0123456789abcdef"[byte & 15]);
  }
}

void print_number(uint64_t value) {
  char digits[21] = {};
  uint32_t first = sizeof digits - 1;
  do {
    digits[--first] = static_cast<char>('0' + value % 10);
    value /= 10;
  } while (value != 0);
  print(digits + first);
}

uint64_t instructions() {
  uint32_t high, low, again;
  do {
    asm volatile("csrr %0, minstreth" : "=r"(high));
    asm volatile("csrr %0, minstret" : "=r"(low));
    asm volatile("csrr %0, minstreth" : "=r"(again));
  } while (high != again);
  return uint64_t{high} << 32 | low;
}

[[noreturn]] void stop(const char* reason) {
  if (reason != nullptr) {
    print("error ");
    print(reason);
    print("\n");
  } else {
    print("end\n");
  }
  *g_test_device = reason == nullptr ? 0x5555 : 0x13333;
  for (;;) {
  }
}

constexpr uint32_t aligned(uint32_t bytes) { return (bytes + 15) & ~uint32_t{15}; }

}  // namespace

int main() {
  using namespace edgeward;
  const uint8_t* const image = reinterpret_cast<const uint8_t*>(0x81000000);
  uint32_t sizes[3];
  std::memcpy(sizes, image, sizeof sizes);
  const uint8_t* const tflite = image + 16;
  const uint8_t* const plan = tflite + aligned(sizes[0]);
  const uint8_t* row = plan + aligned(sizes[1]);
  uint64_t before = instructions();
  const Result loaded = engine().load(ModelView{tflite, sizes[0], sizes[1] > 0 ? plan : nullptr, sizes[1]}, g_arena, kArenaBytes);
  uint64_t after = instructions();
  if (!loaded) stop(loaded.reason);
  print("load ");
  print_number(after - before);
  print("\n");
  for (uint32_t i = 0; i < sizes[2]; ++i, row += engine().input().bytes) {
    std::memcpy(engine().input().data, row, engine().input().bytes);
    before = instructions();
    const Result ran = engine().invoke();
    after = instructions();
    if (!ran) stop(ran.reason);
    print("row ");
    print_number(after - before);
    print(" ");
    print_hex(engine().output().data, engine().output().bytes);
    print("\n");
  }
  stop(nullptr);
}
