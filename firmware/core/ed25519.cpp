// Field elements are 8 words of 32 bits, little-endian, below 2^256 and not always below the prime: 2^256 = 38 there.
// Points are in extended coordinates, formulas from RFC 8032, section 5.1.4.
#include "core/ed25519.h"

#include <cstring>

#include "core/sha512.h"

namespace edgeward {
namespace {

struct Field {
  uint32_t w[8];
};

struct Point {
  Field x, y, z, t;
};

constexpr Field kD = {{0x135978a3, 0x75eb4dca, 0x4141d8ab, 0x00700a4d, 0x7779e898, 0x8cc74079, 0x2b6ffe73, 0x52036cee}};
constexpr Field kTwiceD = {{0x26b2f159, 0xebd69b94, 0x8283b156, 0x00e0149a, 0xeef3d130, 0x198e80f2, 0x56dffce7, 0x2406d9dc}};
constexpr Field kRootOfMinusOne = {{0x4a0ea0b0, 0xc4ee1b27, 0xad2fe478, 0x2f431806, 0x3dfbd7a7, 0x2b4d0099, 0x4fc1df0b, 0x2b832480}};
constexpr Field kBaseX = {{0x8f25d51a, 0xc9562d60, 0x9525a7b2, 0x692cc760, 0xfdd6dc5c, 0xc0a4e231, 0xcd6e53fe, 0x216936d3}};
constexpr Field kBaseY = {{0x66666658, 0x66666666, 0x66666666, 0x66666666, 0x66666666, 0x66666666, 0x66666666, 0x66666666}};
constexpr Field kBaseT = {{0xa5b7dda3, 0x6dde8ab3, 0x775152f5, 0x20f09f80, 0x64abe37d, 0x66ea4e8e, 0xd78b7665, 0x67875f0f}};
constexpr uint32_t kPrime[8] = {0xffffffed, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0x7fffffff};
constexpr uint32_t kOrder[8] = {0x5cf5d3ed, 0x5812631a, 0xa2f79cd6, 0x14def9de, 0x00000000, 0x00000000, 0x00000000, 0x10000000};
constexpr Field kOne = {{1, 0, 0, 0, 0, 0, 0, 0}};
constexpr Point kBase = {kBaseX, kBaseY, kOne, kBaseT};

// Adds `carry` times 2^256.
void fold(Field* a, uint32_t carry) {
  while (carry != 0) {
    uint64_t sum = uint64_t{carry} * 38;
    for (uint32_t& word : a->w) {
      sum += word;
      word = static_cast<uint32_t>(sum);
      sum >>= 32;
    }
    carry = static_cast<uint32_t>(sum);
  }
}

Field operator+(const Field& a, const Field& b) {
  Field out;
  uint64_t sum = 0;
  for (int i = 0; i < 8; ++i) {
    sum += uint64_t{a.w[i]} + b.w[i];
    out.w[i] = static_cast<uint32_t>(sum);
    sum >>= 32;
  }
  fold(&out, static_cast<uint32_t>(sum));
  return out;
}

Field operator-(const Field& a, const Field& b) {
  Field out;
  int64_t sum = 0;
  for (int i = 0; i < 8; ++i) {
    sum += int64_t{a.w[i]} - b.w[i];
    out.w[i] = static_cast<uint32_t>(sum);
    sum >>= 32;
  }
  while (sum != 0) {  // borrowed 2^256
    sum = -38;
    for (uint32_t& word : out.w) {
      sum += word;
      word = static_cast<uint32_t>(sum);
      sum >>= 32;
    }
  }
  return out;
}

Field operator*(const Field& a, const Field& b) {
  uint32_t wide[16] = {};
  for (int i = 0; i < 8; ++i) {
    uint64_t sum = 0;
    for (int k = 0; k < 8; ++k) {
      sum += uint64_t{a.w[i]} * b.w[k] + wide[i + k];
      wide[i + k] = static_cast<uint32_t>(sum);
      sum >>= 32;
    }
    wide[i + 8] = static_cast<uint32_t>(sum);
  }
  Field out;
  uint64_t sum = 0;
  for (int i = 0; i < 8; ++i) {
    sum += uint64_t{wide[i + 8]} * 38 + wide[i];
    out.w[i] = static_cast<uint32_t>(sum);
    sum >>= 32;
  }
  fold(&out, static_cast<uint32_t>(sum));
  return out;
}

bool less(const uint32_t a[8], const uint32_t b[8]) {
  for (int i = 7; i >= 0; --i) {
    if (a[i] != b[i]) return a[i] < b[i];
  }
  return false;
}

void subtract(uint32_t a[8], const uint32_t b[8]) {
  int64_t sum = 0;
  for (int i = 0; i < 8; ++i) {
    sum += int64_t{a[i]} - b[i];
    a[i] = static_cast<uint32_t>(sum);
    sum >>= 32;
  }
}

// The one representative below the prime.
Field reduced(Field a) {
  while (!less(a.w, kPrime)) subtract(a.w, kPrime);
  return a;
}

bool same(const Field& a, const Field& b) {
  const Field x = reduced(a), y = reduced(b);
  return std::memcmp(x.w, y.w, sizeof x.w) == 0;
}

// a to the power whose binary form is `ones` ones, then the 8 bits of `low`.
Field power(const Field& a, int ones, uint32_t low) {
  Field out = a;
  for (int i = 1; i < ones; ++i) out = out * out * a;
  for (int bit = 7; bit >= 0; --bit) {
    out = out * out;
    if (low >> bit & 1) out = out * a;
  }
  return out;
}

Point operator+(const Point& p, const Point& q) {
  const Field a = (p.y - p.x) * (q.y - q.x);
  const Field b = (p.y + p.x) * (q.y + q.x);
  const Field c = p.t * q.t * kTwiceD;
  const Field zz = p.z * q.z;
  const Field d = zz + zz;
  const Field e = b - a, f = d - c, g = d + c, h = b + a;
  return Point{e * f, g * h, f * g, e * h};
}

Point twice(const Point& p) {
  const Field a = p.x * p.x, b = p.y * p.y, zz = p.z * p.z;
  const Field h = a + b, sum = p.x + p.y;
  const Field e = h - sum * sum, g = a - b;
  const Field f = zz + zz + g;
  return Point{e * f, g * h, f * g, e * h};
}

void load(const uint8_t* bytes, uint32_t words[8]) {
  for (int i = 0; i < 8; ++i, bytes += 4) {
    words[i] = uint32_t{bytes[0]} | uint32_t{bytes[1]} << 8 | uint32_t{bytes[2]} << 16 | uint32_t{bytes[3]} << 24;
  }
}

// RFC 8032, section 5.1.3.
bool decode(const uint8_t bytes[32], Point* out) {
  Field y;
  load(bytes, y.w);
  const uint32_t sign = y.w[7] >> 31;
  y.w[7] &= 0x7FFFFFFF;
  if (!less(y.w, kPrime)) return false;
  const Field yy = y * y;
  const Field u = yy - kOne, v = yy * kD + kOne;
  const Field v3 = v * v * v;
  Field x = u * v3 * power(u * v3 * v3 * v, 244, 0xFD);  // (p - 5) / 8 = 2^252 - 3
  const Field vxx = v * x * x;
  if (!same(vxx, u)) {
    if (!same(vxx, Field{} - u)) return false;
    x = x * kRootOfMinusOne;
  }
  x = reduced(x);
  const bool zero = same(x, Field{});
  if (zero && sign != 0) return false;
  if ((x.w[0] & 1) != sign) x = Field{} - x;
  *out = Point{x, y, kOne, x * y};
  return true;
}

void encode(const Point& p, uint8_t out[32]) {
  const Field inverse = power(p.z, 247, 0xEB);  // p - 2 = 2^255 - 21
  const Field x = reduced(p.x * inverse);
  Field y = reduced(p.y * inverse);
  y.w[7] |= x.w[0] << 31;
  for (int i = 0; i < 32; ++i) out[i] = static_cast<uint8_t>(y.w[i / 4] >> (8 * (i % 4)));
}

// 64 bytes, little-endian, modulo the group order.
void reduce_scalar(const uint8_t bytes[kSha512Bytes], uint32_t out[8]) {
  std::memset(out, 0, 32);
  for (int bit = 511; bit >= 0; --bit) {
    uint32_t carry = bytes[bit / 8] >> (bit % 8) & 1;
    for (int i = 0; i < 8; ++i) {
      const uint32_t top = out[i] >> 31;
      out[i] = out[i] << 1 | carry;
      carry = top;
    }
    if (!less(out, kOrder)) subtract(out, kOrder);
  }
}

}  // namespace

bool ed25519_verify(const uint8_t signature[kSignatureBytes], const uint8_t key[kPublicKeyBytes], const uint8_t* message,
                    size_t bytes) {
  uint32_t s[8];
  load(signature + 32, s);
  Point a;
  if (!less(s, kOrder) || !decode(key, &a)) return false;
  uint8_t digest[kSha512Bytes];
  Sha512 sha;
  sha.update(signature, 32);
  sha.update(key, kPublicKeyBytes);
  sha.update(message, bytes);
  sha.finish(digest);
  uint32_t h[8];
  reduce_scalar(digest, h);
  // Both multiplications share their doublings.
  const Point minus_a = {Field{} - a.x, a.y, a.z, Field{} - a.t};
  const Point both = kBase + minus_a;
  Point sum = {Field{}, kOne, kOne, Field{}};
  for (int bit = 252; bit >= 0; --bit) {
    sum = twice(sum);
    const uint32_t in_s = s[bit / 32] >> (bit % 32) & 1, in_h = h[bit / 32] >> (bit % 32) & 1;
    if (in_s != 0 || in_h != 0) sum = sum + (in_s == 0 ? minus_a : in_h == 0 ? kBase : both);
  }
  uint8_t expected[32];
  encode(sum, expected);
  return std::memcmp(expected, signature, sizeof expected) == 0;
}

bool ed25519_key_ok(const uint8_t key[kPublicKeyBytes]) {
  Point a;
  if (!decode(key, &a)) return false;
  const Point eight = twice(twice(twice(a)));
  return !(same(eight.x, Field{}) && same(eight.y, eight.z));
}

}  // namespace edgeward
