#include "core/logarithm.h"

#include <cstdint>
#include <cstring>

namespace edgeward {
namespace {

constexpr int kUnits = 56;
constexpr int64_t kOne = int64_t{1} << kUnits;
constexpr int64_t kLn2 = 49946518145322874;

// -ln(1 - 2^-k), k from 2 to 29
constexpr int64_t kLogs[] = {
    20729677988720202, 9621950881057016, 4650490555939335, 2287734814384674, 1134788713174546,
    565160497454030, 282026168387763, 140875106528325, 70403126302050, 35192964820651,
    17594333877653, 8796629936815, 4398180734294, 2199056810667, 1099520016469,
    549757911051, 274878431233, 137439084544, 68719509504, 34359746560,
    17179871232, 8589935104, 4294967424, 2147483680, 1073741832,
    536870914, 268435457, 134217728,
};

// value / 2^56, halves to even. In whole numbers: how a compiler's library rounds 64 bits to a float is its own affair.
float rounded(int64_t value) {
  if (value == 0) return 0.0f;
  uint64_t size = value < 0 ? uint64_t{0} - static_cast<uint64_t>(value) : static_cast<uint64_t>(value);
  int exponent = -kUnits;
  int dropped = 0;
  while (size >> dropped >= uint64_t{1} << 24) ++dropped;
  if (dropped > 0) {
    const uint64_t half = uint64_t{1} << (dropped - 1);
    const uint64_t rest = size & (2 * half - 1);
    size >>= dropped;
    if (rest > half || (rest == half && (size & 1) != 0)) ++size;
    exponent += dropped;
  }
  while (size < uint64_t{1} << 23) {
    size <<= 1;
    --exponent;
  }
  if (size == uint64_t{1} << 24) {
    size >>= 1;
    ++exponent;
  }
  const uint32_t sign = value < 0 ? uint32_t{1} << 31 : 0;
  const uint32_t bits = sign | static_cast<uint32_t>(exponent + 23 + 127) << 23 | (static_cast<uint32_t>(size) & 0x7FFFFF);
  float result;
  std::memcpy(&result, &bits, sizeof result);
  return result;
}

}  // namespace

float logarithm(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  int64_t total = (static_cast<int64_t>(bits >> 23) - 127) * kLn2;
  int64_t mantissa = static_cast<int64_t>((bits & 0x7FFFFF) | 0x800000) << (kUnits - 23);
  int k = 2;
  for (const int64_t log : kLogs) {
    for (int twice = 0; twice < 2; ++twice) {
      const int64_t smaller = mantissa - (mantissa >> k);
      if (smaller < kOne) break;
      mantissa = smaller;
      total += log;
    }
    ++k;
  }
  return rounded(total + (mantissa - kOne));
}

}  // namespace edgeward
