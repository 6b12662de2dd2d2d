// Verifies one Ed25519 signature on a bare RV32IMC machine (qemu, -M virt): test 2 of RFC 8032, section 7.1. Prints
// `verify INSTRUCTIONS STACK_BYTES` and `end`, or nothing of the kind when the answer is wrong.
#include <cstdint>

#include "core/ed25519.h"

namespace {

volatile uint8_t* const g_uart = reinterpret_cast<volatile uint8_t*>(0x10000000);
volatile uint32_t* const g_test_device = reinterpret_cast<volatile uint32_t*>(0x100000);
constexpr uint32_t kStackBytes = 16384;

constexpr uint8_t kKey[] = {0x3d, 0x40, 0x17, 0xc3, 0xe8, 0x43, 0x89, 0x5a, 0x92, 0xb7, 0x0a, 0xa7, 0x4d, 0x1b, 0x7e, 0xbc, 0x9c, 0x98, 0x2c, 0xcf, 0x2e, 0xc4, 0x96, 0x8c, 0xc0, 0xcd, 0x55, 0xf1, 0x2a, 0xf4, 0x66, 0x0c};
constexpr uint8_t kSignature[] = {0x92, 0xa0, 0x09, 0xa9, 0xf0, 0xd4, 0xca, 0xb8, 0x72, 0x0e, 0x82, 0x0b, 0x5f, 0x64, 0x25, 0x40, 0xa2, 0xb2, 0x7b, 0x54, 0x16, 0x50, 0x3f, 0x8f, 0xb3, 0x76, 0x22, 0x23, 0xeb, 0xdb, 0x69, 0xda, 0x08, 0x5a, 0xc1, 0xe4, 0x3e, 0x15, 0x99, 0x6e, 0x45, 0x8f, 0x36, 0x13, 0xd0, 0xf1, 0x1d, 0x8c, 0x38, 0x7b, 0x2e, 0xae, 0xb4, 0x30, 0x2a, 0xee, 0xb0, 0x0d, 0x29, 0x16, 0x12, 0xbb, 0x0c, 0x00};

void print(const char* text) {
  for (; *text != 0; ++text) *g_uart = static_cast<uint8_t>(*text);
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

}  // namespace

int main() {
  uintptr_t here;
  asm volatile("mv %0, sp" : "=r"(here));
  auto* const bottom = reinterpret_cast<volatile uint8_t*>(here - kStackBytes);
  for (uint32_t i = 0; i < kStackBytes; ++i) bottom[i] = 0xA5;  // below the stack in use
  const uint8_t message = 0x72;
  const uint32_t before = instructions();
  const bool right = edgeward::ed25519_verify(kSignature, kKey, &message, 1);
  const uint32_t after = instructions();
  uint32_t untouched = 0;
  while (bottom[untouched] == 0xA5) ++untouched;
  if (right) {
    print("verify ");
    print_number(after - before);
    print(" ");
    print_number(kStackBytes - untouched);
    print("\nend\n");
  }
  *g_test_device = right ? 0x5555 : 0x13333;
  for (;;) {
  }
}
