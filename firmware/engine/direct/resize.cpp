// An image in another size: every pixel lies between two rows and two columns of the input, in 1024ths of the way. The
// nearest neighbour is a row and a column with no way to go.
#include <cstring>

#include "engine/direct/check.h"
#include "engine/direct/kernels.h"

namespace edgeward::direct {
namespace {

constexpr int32_t kWhole = 1024;

// Where an output row or column lies.
struct Between {
  int32_t low, high, part;
};
static_assert(sizeof(Between) == 12, "three words of the table");

const Between* rows_of(const int32_t* table) { return reinterpret_cast<const Between*>(table); }

bool between_ok(const Between* places, uint32_t count, uint32_t size) {
  const auto inside = [size](int32_t at) { return at >= 0 && static_cast<uint32_t>(at) < size; };
  for (uint32_t i = 0; i < count; ++i) {
    const Between& place = places[i];
    if (!inside(place.low) || !inside(place.high) || place.part < 0 || place.part >= kWhole) return false;
  }
  return true;
}

}  // namespace

void resize(const Program& program, const Record& op) {
  const Between* const rows = rows_of(words(program, op));
  const Between* const columns = rows + op.out.height;
  const int8_t* const input = at(program, op.input);
  int8_t* out = at(program, op.output);
  const uint32_t channels = op.out.channels, in_row = op.in.width * channels;
  for (uint32_t y = 0; y < op.out.height; ++y) {
    const int8_t* const upper = input + static_cast<uint32_t>(rows[y].low) * in_row;
    const int8_t* const lower = input + static_cast<uint32_t>(rows[y].high) * in_row;
    const int32_t down = rows[y].part;
    for (uint32_t x = 0; x < op.out.width; ++x, out += channels) {
      const uint32_t left = static_cast<uint32_t>(columns[x].low) * channels;
      const uint32_t right = static_cast<uint32_t>(columns[x].high) * channels;
      const int32_t across = columns[x].part;
      if (down == 0 && across == 0) {
        std::memcpy(out, upper + left, channels);
        continue;
      }
      for (uint32_t c = 0; c < channels; ++c) {
        const int32_t above = upper[left + c] * (kWhole - across) + upper[right + c] * across;
        const int32_t below = lower[left + c] * (kWhole - across) + lower[right + c] * across;
        const int32_t sum = above * (kWhole - down) + below * down;  // at most 128 * 2^20
        constexpr int32_t kUnit = kWhole * kWhole;
        out[c] = static_cast<int8_t>((sum + (sum > 0 ? kUnit / 2 : -kUnit / 2)) / kUnit);
      }
    }
  }
}

const char* check_resize(const Checker& plan, const Record& op) {
  if (op.in.channels != op.out.channels) return "channels do not fit";
  if (!apart(op.input, op.in.bytes(), op.output, op.out.bytes())) return "input and output overlap";
  if (!plan.table_ok(op, sizeof(Between) * (uint64_t{op.out.height} + op.out.width))) return "table outside the plan";
  const Between* const rows = rows_of(plan.table(op));
  const bool inside = between_ok(rows, op.out.height, op.in.height) &&
                      between_ok(rows + op.out.height, op.out.width, op.in.width);
  return inside ? nullptr : "bad place";
}

}  // namespace edgeward::direct
