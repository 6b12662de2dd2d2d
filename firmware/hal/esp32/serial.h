// What the other files of this HAL need of its serial port.
#pragma once

#include <cstdint>

namespace edgeward::hal {

// Once, before the first serial_read() or serial_write(). A failure is a fault of the build: it aborts.
void open_serial();

// Returns when input is there, the network has a message, or `ticks` of the scheduler have passed.
void wait_for_serial(uint32_t ticks);

// Ends that wait from another task, where the driver of the port has a way to. Otherwise it ends within 10 ms of a message.
void wake_serial();

// Returns when all that was written has left the chip, at the latest after a second.
void drain_serial();

}  // namespace edgeward::hal
