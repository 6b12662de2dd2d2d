// Faults of a machine for one process and its children, by LD_PRELOAD: writes and syncs below a folder that fail, and a clock
// that is wrong. What is on is read from a file that the test writes while the process runs (control.py), at every call.

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

namespace {

struct Control {
  volatile int32_t error;    // errno of writes and syncs; 0 for none
  int32_t reserved;
  volatile int64_t clock_s;  // added to the time of day
  char folder[1024];
};

const Control *control() {
  static const Control *found = [] {
    const char *path = getenv("EDGEWARD_FAULTS_CONTROL");
    int fd = path == nullptr ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return static_cast<const Control *>(nullptr);
    void *at = mmap(nullptr, sizeof(Control), PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    return at == MAP_FAILED ? nullptr : static_cast<const Control *>(at);
  }();
  return found;
}

bool fails(int fd) {
  const Control *c = control();
  if (c == nullptr || c->error == 0) return false;
  char link[64], path[1100];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  const ssize_t length = readlink(link, path, sizeof path - 1);
  const size_t folder = strlen(c->folder);
  if (length <= 0 || static_cast<size_t>(length) < folder || strncmp(path, c->folder, folder) != 0) return false;
  errno = c->error;
  return true;
}

template <typename F>
F real(const char *name) {
  return reinterpret_cast<F>(dlsym(RTLD_NEXT, name));
}

}  // namespace

#define REAL(type, name) static const auto next = real<type>(name)

extern "C" {

ssize_t write(int fd, const void *data, size_t n) {
  REAL(ssize_t(*)(int, const void *, size_t), "write");
  return fails(fd) ? -1 : next(fd, data, n);
}
ssize_t writev(int fd, const iovec *v, int n) {
  REAL(ssize_t(*)(int, const iovec *, int), "writev");
  return fails(fd) ? -1 : next(fd, v, n);
}
ssize_t pwrite(int fd, const void *data, size_t n, off_t at) {
  REAL(ssize_t(*)(int, const void *, size_t, off_t), "pwrite");
  return fails(fd) ? -1 : next(fd, data, n, at);
}
ssize_t pwrite64(int fd, const void *data, size_t n, off64_t at) {
  REAL(ssize_t(*)(int, const void *, size_t, off64_t), "pwrite64");
  return fails(fd) ? -1 : next(fd, data, n, at);
}
int fsync(int fd) {
  REAL(int (*)(int), "fsync");
  return fails(fd) ? -1 : next(fd);
}
int fdatasync(int fd) {
  REAL(int (*)(int), "fdatasync");
  return fails(fd) ? -1 : next(fd);
}
int ftruncate(int fd, off_t n) {
  REAL(int (*)(int, off_t), "ftruncate");
  return fails(fd) ? -1 : next(fd, n);
}
int ftruncate64(int fd, off64_t n) {
  REAL(int (*)(int, off64_t), "ftruncate64");
  return fails(fd) ? -1 : next(fd, n);
}
int clock_gettime(clockid_t id, timespec *t) {
  REAL(int (*)(clockid_t, timespec *), "clock_gettime");
  const int result = next(id, t);
  const Control *c = control();
  if (result == 0 && c != nullptr && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) t->tv_sec += c->clock_s;
  return result;
}
int gettimeofday(timeval *t, void *zone) {
  REAL(int (*)(timeval *, void *), "gettimeofday");
  const int result = next(t, zone);
  const Control *c = control();
  if (result == 0 && c != nullptr && t != nullptr) t->tv_sec += c->clock_s;
  return result;
}
time_t time(time_t *out) {
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (out != nullptr) *out = now.tv_sec;
  return now.tv_sec;
}

}  // extern "C"
