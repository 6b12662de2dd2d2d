// Replaces every word of a plan's header and records, and the first of its tables, by values that break careless checks, one at a time, and runs what
// check_plan() lets through. Built with sanitizers: any byte out of bounds ends it.
//
// stdin as for src/run_direct.cpp, rows ignored. stdout: how many damaged plans were refused and how many ran.
#include <cstdio>
#include <cstring>
#include <initializer_list>
#include <memory>

#include "engine/direct/plan.h"
#include "engine/engine.h"

namespace {

constexpr uint32_t kValues[] = {0,    1,     2,       3,          7,          100,        127,        128,       255,
                                4096, 65535, 1 << 20, 1u << 23, (1u << 31) - 1, 1u << 31, 0xFFFFFF00, 0xFFFFFFFF};

constexpr uint32_t kTableWords = 128;

bool read_all(void* to, size_t bytes) { return std::fread(to, 1, bytes, stdin) == bytes; }

}  // namespace

int main() {
  using namespace edgeward;
  uint32_t sizes[3];
  if (!read_all(sizes, sizeof sizes)) return 2;
  const auto tflite = std::make_unique<uint8_t[]>(sizes[0]);
  const auto original = std::make_unique<uint8_t[]>(sizes[1]);
  if (!read_all(tflite.get(), sizes[0]) || !read_all(original.get(), sizes[1])) return 2;
  direct::PlanHeader header;
  std::memcpy(&header, original.get(), sizeof header);
  const uint32_t records = (sizeof header + header.op_count * sizeof(direct::Record)) / 4;
  const uint32_t words = records + kTableWords < sizes[1] / 4 ? records + kTableWords : sizes[1] / 4;
  const auto plan = std::make_unique<uint8_t[]>(sizes[1]);
  const auto arena = std::make_unique<uint8_t[]>(header.arena_bytes);
  const ModelView model{tflite.get(), sizes[0], plan.get(), sizes[1]};
  uint32_t refused = 0;
  uint32_t ran = 0;
  const auto attempt = [&](uint32_t word, uint32_t value) {
    std::memcpy(plan.get(), original.get(), sizes[1]);
    std::memcpy(plan.get() + 4 * word, &value, sizeof value);
    if (!engine().load(model, arena.get(), header.arena_bytes)) {
      ++refused;
      return;
    }
    std::memset(engine().input().data, 0x55, engine().input().bytes);
    if (engine().invoke()) ++ran;
  };
  for (uint32_t word = 0; word < words; ++word) {
    uint32_t right;
    std::memcpy(&right, original.get() + 4 * word, sizeof right);
    for (const uint32_t value : kValues) attempt(word, value);
    for (const uint32_t step : {1u, 16u}) {
      attempt(word, right + step);
      attempt(word, right - step);
    }
    attempt(word, header.arena_bytes - 1);
    attempt(word, sizes[0] - 1);
    attempt(word, (sizes[1] - 4) & ~3u);
  }
  std::printf("%u %u\n", static_cast<unsigned>(refused), static_cast<unsigned>(ran));
  return 0;
}
