// The usual build has no microphone. Nothing of I2S is linked.
#include "hal/esp32/source.h"

namespace edgeward::hal {

const SelfClocked* const kMic = nullptr;
const uint64_t kMicPins = 0;
const size_t kMicHeapBytes = 0;

}  // namespace edgeward::hal
