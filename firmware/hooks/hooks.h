// A sensor and an action of one's own: four functions in a file beside the firmware (docs/hooks.md). hooks/none is linked
// unless the build names another folder; hooks/example has one of each.
#pragma once

#include <cstdint>

namespace edgeward::hooks {

// The source "user" of streams and recordings. open: whether it can give so many channels. read: one sample, a value each
// channel, called at the rate of the stream, on an ESP32 in the task of its timer, so it returns within a sample's time; false
// where it has no sample. close: once after each open that said true.
bool user_sensor_open(uint32_t channels);
bool user_sensor_read(int16_t* values);
void user_sensor_close();

// A rule with the action `hook` acts: its number, the class, and its probability in 1/256 (256 of a model with a threshold).
// Called between two windows, in the task that runs the firmware: while it lasts, nothing else goes on, and after 20 s the
// watchdog restarts the board.
void user_action(uint32_t rule, uint32_t label, uint32_t confidence_of_256);

}  // namespace edgeward::hooks
