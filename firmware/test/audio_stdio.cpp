// Makes features of samples as a board does: u32 bytes of the tables, the tables, then any number of pieces, each u32 how many
// samples and these, int16; 0xFFFFFFFF resets. Prints the features of each step that a piece completes, uint16. Tables that are
// refused: code and reason on stderr, exit code 1. With `root` as its argument: u64 values until the end, of each the root.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "audio/filter_bank.h"
#include "audio/front_end.h"

namespace {

constexpr uint32_t kReset = 0xFFFFFFFF;
edgeward::AudioFrontEnd g_front_end;

bool take(void* out, size_t bytes) { return std::fread(out, 1, bytes, stdin) == bytes; }

int roots() {
  for (uint64_t value; take(&value, sizeof value);) {
    const uint32_t root = edgeward::nearest_root(value);
    std::fwrite(&root, sizeof root, 1, stdout);
  }
  return 0;
}

}  // namespace

int main(int argument_count, char** arguments) {
  if (argument_count == 2 && std::strcmp(arguments[1], "root") == 0) return roots();
  uint32_t bytes = 0;
  if (!take(&bytes, sizeof bytes)) return 2;
  std::vector<uint32_t> words(bytes / 4);  // exactly as many: a sanitizer sees the first byte too far
  if (bytes % 4 != 0 || !take(words.data(), bytes)) return 2;
  const uint8_t* const section = reinterpret_cast<const uint8_t*>(words.data());
  if (const edgeward::Refusal refusal = g_front_end.start(section, bytes)) {
    std::fprintf(stderr, "%s: %s\n", refusal.code, refusal.reason);
    return 1;
  }
  for (uint32_t count; take(&count, sizeof count);) {
    if (count == kReset) {
      g_front_end.reset();
      continue;
    }
    std::vector<int16_t> samples(count);
    if (!take(samples.data(), count * sizeof(int16_t))) return 2;
    for (uint32_t at = 0; at < count;) {
      at += g_front_end.feed(samples.data() + at, count - at);
      if (g_front_end.complete()) std::fwrite(g_front_end.features(), sizeof(uint16_t), g_front_end.tables().channels, stdout);
    }
  }
  return 0;
}
