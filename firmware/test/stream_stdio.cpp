// Makes inputs of samples as a board does: u32 bytes of an input profile, the profile, float32 scale, i32 zero point, u32
// counts per unit, u32 values, int16 values. Prints the int8 window as bytes, exit code 1 where the profile or stream is refused.
// With `log` as its argument: float32 values until the end, of each the logarithm.
#include <cstdio>
#include <cstring>
#include <vector>

#include "core/logarithm.h"
#include "core/stream.h"

namespace {

template <typename T>
bool take(T* out, size_t count = 1) {
  return std::fread(out, sizeof(T), count, stdin) == count;
}

int logarithms() {
  for (float value; take(&value);) {
    value = edgeward::logarithm(value);
    std::fwrite(&value, sizeof value, 1, stdout);
  }
  return 0;
}

int window() {
  uint32_t bytes = 0, counts_per_unit = 0, values = 0;
  int32_t zero_point = 0;
  float scale = 0;
  if (!take(&bytes)) return 2;
  std::vector<uint8_t> section(bytes);
  if (!take(section.data(), bytes) || !take(&scale) || !take(&zero_point) || !take(&counts_per_unit) || !take(&values)) return 2;
  std::vector<int16_t> counts(values);
  if (!take(counts.data(), values)) return 2;
  edgeward::InputProfile profile;
  if (!edgeward::read_input_profile(section.data(), edgeward::Section{0, bytes}, &profile)) return 1;
  const edgeward::TensorView input{nullptr, values, scale, zero_point};
  edgeward::StreamSettings settings;
  settings.counts_per_unit = counts_per_unit;
  static edgeward::Stream stream;
  if (stream.start(profile, input, settings, 0)) return 1;
  for (const int16_t value : counts) stream.push(value, profile);
  std::vector<int8_t> out(values);
  stream.copy_window(out.data());
  std::fwrite(out.data(), 1, out.size(), stdout);
  return 0;
}

}  // namespace

int main(int count, char** words) {
  return count == 2 && std::strcmp(words[1], "log") == 0 ? logarithms() : window();
}
