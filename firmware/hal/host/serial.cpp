// The serial port as a pseudo-terminal. Like a wire it does not wait for ever for someone who does not read.
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <termios.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>

#include "hal/host/host.h"

namespace edgeward::hal {
namespace {

constexpr char kPtyVariable[] = "EDGEWARD_BOARD_PTY";
constexpr int kPatienceMs = 2000;

int g_port = -1;
bool g_listener = true;  // false once a write waited in vain; true again as soon as one succeeds
bool g_watch_stdin = false;
const int g_wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);

// The far side in raw mode, and held open: otherwise the port hangs up whenever a client leaves.
const char* prepare_far_side() {
  const int far = open(ptsname(g_port), O_RDWR | O_NOCTTY);
  if (far < 0) return "cannot open the far side of the pseudo-terminal";
  termios settings{};
  if (tcgetattr(far, &settings) != 0) return "cannot read the settings of the pseudo-terminal";
  cfmakeraw(&settings);
  if (tcsetattr(far, TCSANOW, &settings) != 0) return "cannot set the pseudo-terminal to raw mode";
  return nullptr;
}

}  // namespace

const char* open_pty() {
  if (const char* const inherited = std::getenv(kPtyVariable)) {
    g_port = std::atoi(inherited);
    return ptsname(g_port) ? nullptr : "the inherited pseudo-terminal is gone";
  }
  g_port = posix_openpt(O_RDWR | O_NOCTTY);
  if (g_port < 0 || grantpt(g_port) != 0 || unlockpt(g_port) != 0) return "cannot open a pseudo-terminal";
  if (fcntl(g_port, F_SETFL, O_NONBLOCK) != 0) return "cannot make the pseudo-terminal non-blocking";
  char text[16];
  std::snprintf(text, sizeof text, "%d", g_port);
  setenv(kPtyVariable, text, 1);
  return prepare_far_side();
}

const char* pty_path() { return ptsname(g_port); }

void wake() {
  const uint64_t once = 1;
  if (write(g_wake, &once, sizeof once) < 0) return;  // it is full: the wait ends anyway
}

void watch_stdin() { g_watch_stdin = true; }

size_t serial_read(uint8_t* buffer, size_t capacity) {
  const ssize_t count = read(g_port, buffer, capacity);
  return count > 0 ? static_cast<size_t>(count) : 0;
}

void serial_write(const uint8_t* data, size_t bytes) {
  while (bytes > 0) {
    const ssize_t count = write(g_port, data, bytes);
    if (count > 0) {
      g_listener = true;
      data += count;
      bytes -= static_cast<size_t>(count);
      continue;
    }
    if (count < 0 && errno == EINTR) continue;
    pollfd room{g_port, POLLOUT, 0};
    if (!g_listener || poll(&room, 1, kPatienceMs) == 0) {
      g_listener = false;
      return;
    }
  }
}

void idle(uint32_t max_wait_us) {
  pollfd waiting[] = {{g_port, POLLIN, 0}, {g_wake, POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}};
  const int timeout_ms = static_cast<int>((max_wait_us + 999) / 1000);
  poll(waiting, g_watch_stdin ? 3 : 2, timeout_ms);
  uint64_t woken;
  if ((waiting[1].revents & POLLIN) != 0 && read(g_wake, &woken, sizeof woken) < 0) return;
  if (g_watch_stdin && (waiting[2].revents & (POLLIN | POLLHUP)) != 0) {
    char byte;
    if (read(STDIN_FILENO, &byte, 1) == 0) std::exit(0);
  }
}

}  // namespace edgeward::hal
