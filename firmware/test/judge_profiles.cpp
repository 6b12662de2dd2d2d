// Judges sections of input profiles, and reads everything of those that pass. Each is on the heap in its own length, so that a
// sanitizer sees one byte too far.
//
// stdin: {u32 bytes, the section}. stdout: 1 for each that passes, else 0.
#include <cstdio>
#include <memory>

#include "core/input_profile.h"

namespace {

// A sum of all there is, so that nothing of it is left unread.
float read_whole(const edgeward::InputProfile& profile) {
  float sum = profile.threshold + static_cast<float>(profile.heads + profile.rows);
  for (uint32_t channel = 0; channel < profile.channels; ++channel) {
    sum += profile.transformed(channel, 2.0f) + profile.mean(channel) + profile.deviation(channel);
    if (profile.cut_counts != nullptr) sum += static_cast<float>(profile.counted(channel, 3e38f));
  }
  for (uint32_t group = 0; group < profile.groups; ++group) {
    for (uint32_t bin = 0; bin < profile.bins; ++bin) sum += static_cast<float>(profile.share(group, bin));
    for (uint32_t k = 0; k + 1 < profile.bins; ++k) sum += static_cast<float>(profile.edges[group * (profile.bins - 1) + k]);
  }
  return sum;
}

}  // namespace

int main() {
  using namespace edgeward;
  uint32_t bytes;
  while (std::fread(&bytes, 1, sizeof bytes, stdin) == sizeof bytes) {
    const auto section = std::make_unique<uint8_t[]>(bytes);
    if (std::fread(section.get(), 1, bytes, stdin) != bytes) return 2;
    Section whole{};
    whole.bytes = bytes;
    InputProfile profile;
    const bool passes = read_input_profile(section.get(), whole, &profile);
    volatile float sum = passes ? read_whole(profile) : 0.0f;
    static_cast<void>(sum);
    std::putchar(passes ? '1' : '0');
  }
  return 0;
}
