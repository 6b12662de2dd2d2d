// What keeps an inner loop's values in registers.
#pragma once

#include <cstdint>

#define EDGEWARD_INLINE __attribute__((always_inline))

namespace edgeward::direct {

// The sums are computed when control comes here, and what is loaded later is loaded later: a compiler that brings loads forward
// over several taps has more values at once than there are registers.
inline void computed(int32_t& a) { asm volatile("" : "+r"(a)); }
inline void computed(uint32_t& a, uint32_t& b, uint32_t& c) { asm volatile("" : "+r"(a), "+r"(b), "+r"(c)::"memory"); }
inline void computed(uint32_t& a, uint32_t& b, uint32_t& c, uint32_t& d) {
  asm volatile("" : "+r"(a), "+r"(b), "+r"(c), "+r"(d)::"memory");
}

}  // namespace edgeward::direct
