// What main() sets up before the firmware runs on the host. The functions of hal/hal.h need all of it.
#pragma once

#include <cstdint>

#include "hal/hal.h"

namespace edgeward::hal {

// A flash image of 4 MB as on a board, mapped from a file; created erased if there is none. Null, or what went wrong.
const char* open_flash(const char* path);
const char* flash_path();

// A pseudo-terminal, or the one a restarted process was handed. Null, or what went wrong.
const char* open_pty();
const char* pty_path();

// Ends a wait in idle(), from any thread: something came that is not on the serial port.
void wake();

// Ends the process when standard input does: so that a board does not outlive the process that started it.
void watch_stdin();

// A virtual board's boot loader: where a program came over the air to the place that is to start, that runs instead of this one, and
// this does not return; when it restarts, this file runs again. To be called once the flash is open.
void start_program(char** arguments);

// The file restart() runs.
const char* loader_path();

// Called by restart(), before the process begins again: whatever leaves it by another thread.
void before_restart(void (*drain)());

// The boot this process is: why it started, and the command line restart() runs again.
void set_boot(ResetReason reason, char** argv);

}  // namespace edgeward::hal
