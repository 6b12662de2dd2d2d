// Takes logarithms, and makes inputs of them, on a bare RV32IMC machine without a floating-point unit (qemu, -M virt). Prints
// `log CRC inputs CRC instructions N`: the CRC-32 of the floats, of the int8 inputs, and instructions for one logarithm; then `end`.
#include <cstdint>
#include <cstring>

#include "core/crc.h"
#include "core/logarithm.h"
#include "core/stream.h"

namespace {

volatile uint8_t* const g_uart = reinterpret_cast<volatile uint8_t*>(0x10000000);
volatile uint32_t* const g_test_device = reinterpret_cast<volatile uint32_t*>(0x100000);
constexpr uint32_t kValues = 4000;
constexpr uint32_t kBits = 0x0D000000, kStep = 0x1BCD1;  // 4e-31, and the next float's bits that much further
float g_floats[kValues];
int8_t g_inputs[kValues];

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

void put(uint8_t* at, float value) { std::memcpy(at, &value, sizeof value); }

}  // namespace

int main() {
  const uint32_t before = instructions();
  for (uint32_t i = 0; i < kValues; ++i) {
    const uint32_t bits = kBits + i * kStep;
    float x;
    std::memcpy(&x, &bits, sizeof x);
    g_floats[i] = edgeward::logarithm(x);
  }
  const uint32_t each = (instructions() - before) / kValues;

  static uint8_t scales[8], ranges[8];
  put(scales, 4.25f);
  put(scales + 4, 2.75f);
  put(ranges, 0.1f);
  put(ranges + 4, 1e6f);
  edgeward::InputProfile profile;
  profile.channels = 1;
  profile.scales = scales;
  profile.ranges = ranges;
  const edgeward::TensorView input{nullptr, 1, 0.021f, -3};
  edgeward::StreamSettings settings;
  settings.counts_per_unit = 10;
  static edgeward::Stream stream;
  stream.start(profile, input, settings, 0);
  for (uint32_t i = 0; i < kValues; ++i) {
    stream.push(static_cast<int16_t>(8 * i - 100), profile);
    stream.copy_window(g_inputs + i);
  }
  print("log ");
  print_number(edgeward::crc32(reinterpret_cast<const uint8_t*>(g_floats), sizeof g_floats));
  print(" inputs ");
  print_number(edgeward::crc32(reinterpret_cast<const uint8_t*>(g_inputs), sizeof g_inputs));
  print(" instructions ");
  print_number(each);
  print("\nend\n");
  *g_test_device = 0x5555;
  for (;;) {
  }
}
