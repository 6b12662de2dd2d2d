#include "core/pins.h"

#include <cstring>

namespace edgeward {
namespace {

struct Why {
  uint8_t first;  // pins first to last
  uint8_t last;
  const char* reason;
};

constexpr char kNoPin[] = "this chip has no such pin";
constexpr char kStrapping[] = "a strapping pin: it decides how the chip starts";
constexpr char kFlash[] = "flash or PSRAM is behind this pin";
constexpr char kConsole[] = "UART0, which this very port may be";
constexpr char kUsb[] = "the chip's own USB, which this very port may be";
constexpr char kInputOnly[] = "this pin is an input only";
constexpr char kImu[] = "the imu is at this pin";
constexpr char kAdc[] = "the adc is at this pin";
constexpr char kJtag[] = "a pin of JTAG, pulled up or driven while the chip starts";
constexpr char kGlitch[] = "this pin is high for a moment when power comes";

// Of several reasons for a pin the first counts; a pin in no line is free.
constexpr Why kEsp32[] = {
    {0, 0, kStrapping}, {2, 2, kStrapping},   {1, 1, kConsole},    {3, 3, kConsole},  {4, 5, kImu},      {6, 11, kFlash},
    {12, 12, kStrapping}, {13, 14, kJtag},    {15, 15, kStrapping}, {16, 17, kFlash}, {20, 20, kNoPin}, {24, 24, kNoPin},
    {28, 31, kNoPin},   {34, 39, kInputOnly}, {40, 255, kNoPin},
};

constexpr Why kEsp32S3[] = {
    {0, 0, kStrapping}, {1, 1, kAdc},     {3, 3, kStrapping}, {4, 5, kImu},       {18, 18, kGlitch},    {19, 20, kUsb},
    {22, 25, kNoPin},   {26, 37, kFlash}, {39, 42, kJtag},    {43, 44, kConsole}, {45, 46, kStrapping}, {49, 255, kNoPin},
};

constexpr Why kEsp32C3[] = {
    {0, 0, kAdc},   {2, 2, kStrapping}, {4, 5, kImu},       {6, 6, kJtag},     {8, 9, kStrapping},
    {11, 17, kFlash}, {18, 19, kUsb},   {20, 21, kConsole}, {22, 255, kNoPin},
};

// A virtual board: eight pins are free, and of every kind that is refused there is one.
constexpr Why kHost[] = {
    {8, 8, kStrapping}, {9, 9, kFlash}, {10, 10, kConsole}, {11, 11, kImu}, {12, 12, kInputOnly}, {13, 255, kNoPin},
};

template <uint32_t kLines>
const char* find(const Why (&table)[kLines], uint32_t pin) {
  for (const Why& why : table) {
    if (why.first <= pin && pin <= why.last) return why.reason;
  }
  return nullptr;
}

}  // namespace

const char* pin_refusal(const char* chip, uint32_t pin) {
  if (pin >= kMostPins) return kNoPin;
  if (std::strcmp(chip, "esp32") == 0) return find(kEsp32, pin);
  if (std::strcmp(chip, "esp32s3") == 0) return find(kEsp32S3, pin);
  if (std::strcmp(chip, "esp32c3") == 0) return find(kEsp32C3, pin);
  if (std::strcmp(chip, "host") == 0) return find(kHost, pin);
  return "nobody has listed the free pins of this chip";
}

}  // namespace edgeward
