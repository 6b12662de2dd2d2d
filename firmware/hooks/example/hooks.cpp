// An example: a sensor that is a triangle wave, and an action that changes its height. Copy the folder, and put yours in
// their place.
#include "hooks/hooks.h"

namespace edgeward::hooks {
namespace {

constexpr int32_t kHeight = 1000;
constexpr int32_t kStep = 50;

int32_t g_value = 0;
int32_t g_step = kStep;
int32_t g_height = kHeight;

}  // namespace

// Real ones set up a bus here, and say false where no chip answers.
bool user_sensor_open(uint32_t channels) {
  g_value = 0;
  g_step = kStep;
  g_height = kHeight;
  return channels == 1;
}

bool user_sensor_read(int16_t* values) {
  g_value += g_step;
  if (g_value >= g_height) g_step = -kStep;
  if (g_value <= -g_height) g_step = kStep;
  values[0] = static_cast<int16_t>(g_value);
  return true;
}

void user_sensor_close() {}

// With a rule such as `rule set 1 1 128 3 5000 hook`.
void user_action(uint32_t /*rule*/, uint32_t label, uint32_t confidence_of_256) {
  if (label == 1 && confidence_of_256 >= 128) g_height = kHeight / 2;
}

}  // namespace edgeward::hooks
