// Replaces words of a model of trees, one at a time, and runs what check() lets through. Built with sanitizers: any byte out of
// bounds ends it.
//
// stdin: u32 bytes of the model, u32 attempts, the model, {u32 offset, u32 value}[attempts]. stdout: 1 for each that ran, else 0.
#include <cstdio>
#include <cstring>
#include <initializer_list>
#include <memory>

#include "engine/engine.h"

namespace {

bool read_all(void* to, size_t bytes) { return std::fread(to, 1, bytes, stdin) == bytes; }

}  // namespace

int main() {
  using namespace edgeward;
  constexpr uint32_t kArenaBytes = 16 * 1024;
  uint32_t sizes[2];
  if (!read_all(sizes, sizeof sizes)) return 2;
  const auto original = std::make_unique<uint8_t[]>(sizes[0]);
  const auto damaged = std::make_unique<uint8_t[]>(sizes[0]);
  const auto arena = std::make_unique<uint8_t[]>(kArenaBytes);
  if (!read_all(original.get(), sizes[0])) return 2;
  for (uint32_t i = 0; i < sizes[1]; ++i) {
    uint32_t attempt[2];
    if (!read_all(attempt, sizeof attempt) || attempt[0] > sizes[0] - 4) return 2;
    std::memcpy(damaged.get(), original.get(), sizes[0]);
    std::memcpy(damaged.get() + attempt[0], &attempt[1], 4);
    bool ran = static_cast<bool>(engine().load(ModelView{damaged.get(), sizes[0], nullptr, 0}, arena.get(), kArenaBytes));
    for (const int fill : {0x80, 0x81, 0x00, 0x55, 0x7F}) {
      if (!ran) break;
      std::memset(engine().input().data, fill, engine().input().bytes);
      ran = static_cast<bool>(engine().invoke());
    }
    std::putchar(ran ? '1' : '0');
  }
  return 0;
}
