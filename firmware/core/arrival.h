// A file that comes in chunks, one behind the other.
#pragma once

#include <cstdint>

#include "core/refusal.h"

namespace edgeward {

// What a chunk or a commit is answered when no update was begun where it came from.
constexpr Refusal kNoUpdate{"no_update", "no update was begun, or the board restarted since"};

struct Arrival {
  bool open = false;
  uint32_t first = 0;  // offset of the first chunk
  uint32_t next = 0;
  uint32_t total = 0;

  void begin(uint32_t first_offset, uint32_t total_bytes) { *this = Arrival{true, first_offset, first_offset, total_bytes}; }

  // Whether a chunk can be taken. `again`: it was before, and its answer was lost.
  Refusal check(uint32_t offset, uint32_t bytes, bool* again) const {
    *again = false;
    if (!open) return kNoUpdate;
    if (bytes == 0 || bytes % 4 != 0) return Refusal{"bad_chunk", "the length of a chunk is a multiple of 4"};
    if (offset < first || uint64_t{offset} + bytes > total) return Refusal{"bad_chunk", "a chunk reaches outside what was announced"};
    *again = uint64_t{offset} + bytes <= next;
    if (!*again && offset != next) return Refusal{"out_of_order", "a chunk before this one is missing"};
    return Refusal{};
  }

  Refusal check_whole() const {
    if (!open) return kNoUpdate;
    return next == total ? Refusal{} : Refusal{"incomplete", "not all chunks have arrived"};
  }
};

}  // namespace edgeward
