// Makes features of samples on a bare RV32IMC machine (qemu, -M virt), and counts instructions.
//
// At 0x81000000: u32 bytes of the tables, u32 samples, u32 samples in a piece, u32 0; the tables and the samples (int16), each
// from a multiple of 16. Prints `start INSTRUCTIONS`, then `step INSTRUCTIONS FEATURES` for each step, the features in hex
// (counted is what the feed() that completes it retires), then `end`; or `error REASON`.
#include <cstdint>
#include <cstring>

#include "audio/front_end.h"

namespace {

volatile uint8_t* const g_uart = reinterpret_cast<volatile uint8_t*>(0x10000000);
volatile uint32_t* const g_test_device = reinterpret_cast<volatile uint32_t*>(0x100000);
edgeward::AudioFrontEnd g_front_end;

void print(const char* text) {
  for (; *text != 0; ++text) *g_uart = static_cast<uint8_t>(*text);
}

void print_hex(uint32_t value) {
  for (int shift = 12; shift >= 0; shift -= 4) *g_uart = static_cast<uint8_t>("0123456789abcdef"[value >> shift & 15]);
}

void print_number(uint32_t value) {
  char digits[12] = {};
  uint32_t first = sizeof digits - 1;
  do {
    digits[--first] = static_cast<char>('0' + value % 10);
    value /= 10;
  } while (value != 0);
  print(digits + first);
}

uint32_t instructions() {
  uint32_t count;
  asm volatile("csrr %0, minstret" : "=r"(count));
  return count;
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

}  // namespace

int main() {
  const uint8_t* const image = reinterpret_cast<const uint8_t*>(0x81000000);
  uint32_t sizes[3];
  std::memcpy(sizes, image, sizeof sizes);
  const uint8_t* const section = image + 16;
  const int16_t* const samples = reinterpret_cast<const int16_t*>(section + ((sizes[0] + 15) & ~uint32_t{15}));
  uint32_t before = instructions();
  const edgeward::Refusal refusal = g_front_end.start(section, sizes[0]);
  uint32_t after = instructions();
  if (refusal) stop(refusal.reason);
  print("start ");
  print_number(after - before);
  print("\n");
  for (uint32_t at = 0; at < sizes[1];) {
    const uint32_t left = sizes[1] - at;
    before = instructions();
    at += g_front_end.feed(samples + at, left < sizes[2] ? left : sizes[2]);
    after = instructions();
    if (!g_front_end.complete()) continue;
    print("step ");
    print_number(after - before);
    print(" ");
    for (uint32_t i = 0; i < g_front_end.tables().channels; ++i) print_hex(g_front_end.features()[i]);
    print("\n");
  }
  stop(nullptr);
}
