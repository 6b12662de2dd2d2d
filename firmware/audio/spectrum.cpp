#include "audio/spectrum.h"

namespace edgeward {
namespace {

constexpr int32_t kOne = 32767;

// Over 2^15, halves upwards. Products of int16 by roots of unity stay in 32 bits: no root is -32768 (read_audio_tables()).
int16_t rounded(int32_t product) { return static_cast<int16_t>((product + (1 << 14)) >> 15); }
int32_t rounded(int64_t product) { return static_cast<int32_t>((product + (1 << 14)) >> 15); }

template <int32_t kBy>
Complex divided(Complex value) {
  return Complex{rounded(value.real * (kOne / kBy)), rounded(value.imaginary * (kOne / kBy))};
}

template <int32_t kBy>
WideComplex divided(WideComplex value) {
  static_assert(kBy == 2 || kBy == 4, "a shift by half of it");
  return WideComplex{(value.real + kBy / 2) >> kBy / 2, (value.imaginary + kBy / 2) >> kBy / 2};
}

Complex operator*(Complex value, Complex turn) {
  return Complex{rounded(int32_t{value.real} * turn.real - int32_t{value.imaginary} * turn.imaginary),
                 rounded(int32_t{value.real} * turn.imaginary + int32_t{value.imaginary} * turn.real)};
}

WideComplex operator*(WideComplex value, Complex turn) {
  return WideComplex{rounded(int64_t{value.real} * turn.real - int64_t{value.imaginary} * turn.imaginary),
                     rounded(int64_t{value.real} * turn.imaginary + int64_t{value.imaginary} * turn.real)};
}

template <typename Part>
ComplexOf<Part> operator+(ComplexOf<Part> one, ComplexOf<Part> other) {
  return {static_cast<Part>(one.real + other.real), static_cast<Part>(one.imaginary + other.imaginary)};
}

template <typename Part>
ComplexOf<Part> operator-(ComplexOf<Part> one, ComplexOf<Part> other) {
  return {static_cast<Part>(one.real - other.real), static_cast<Part>(one.imaginary - other.imaginary)};
}

// Joins four neighbours of `size` values each; `turn` roots of unity lie between one value and the next.
template <typename Part>
void join_four(ComplexOf<Part>* values, uint32_t size, const Complex* turns, uint32_t turn) {
  using Value = ComplexOf<Part>;
  for (uint32_t i = 0; i < size; ++i) {
    Value* const at = values + i;
    const Value first = divided<4>(at[0]);
    Value second = divided<4>(at[size]), third = divided<4>(at[2 * size]), fourth = divided<4>(at[3 * size]);
    if (i > 0) {  // the first root is 1, and in 32767ths would change nothing as small as a quarter of 16 bits
      second = second * turns[i * turn];
      third = third * turns[2 * i * turn];
      fourth = fourth * turns[3 * i * turn];
    }
    const Value even = first + third, across = first - third;
    const Value odd = second + fourth, difference = second - fourth;
    const Value quarter{difference.imaginary, static_cast<Part>(-difference.real)};
    at[0] = even + odd;
    at[size] = across + quarter;
    at[2 * size] = even - odd;
    at[3 * size] = across - quarter;
  }
}

// Of single values: only the innermost stage has radix 2.
template <typename Part>
void join_two(ComplexOf<Part>* values) {
  const ComplexOf<Part> first = divided<2>(values[0]), second = divided<2>(values[1]);
  values[0] = first + second;
  values[1] = first - second;
}

template <typename Part>
Part halved(int32_t sum) {
  return static_cast<Part>(sum >> 1);
}

// A complex transform of even and odd samples becomes that of real ones.
template <typename Part>
void part_real(const AudioTables& tables, ComplexOf<Part>* values) {
  using Value = ComplexOf<Part>;
  const uint32_t count = tables.transform_samples / 2;
  const Complex* const turns = tables.turns + tables.transform_samples / 4;
  for (uint32_t low = 1; low <= count / 2; ++low) {
    const uint32_t high = count - low;
    const Value mirrored{values[high].real, static_cast<Part>(-values[high].imaginary)};
    const Value one = divided<2>(values[low]), other = divided<2>(mirrored);
    const Value even = one + other, odd = (one - other) * turns[low];
    values[low] = Value{halved<Part>(even.real + odd.real), halved<Part>(even.imaginary + odd.imaginary)};
    values[high] = Value{halved<Part>(even.real - odd.real), halved<Part>(odd.imaginary - even.imaginary)};
  }
}

template <typename Part>
void transform(const AudioTables& tables, ComplexOf<Part>* values) {
  const uint32_t count = tables.transform_samples / 2;
  uint32_t size = 1;
  if ((bit_length(count) & 1) == 0) {  // no power of 4
    for (uint32_t at = 0; at < count; at += 2) join_two(values + at);
    size = 2;
  }
  for (; size < count; size *= 4) {
    const uint32_t turn = tables.transform_samples / (4 * size);
    for (uint32_t at = 0; at < count; at += 4 * size) join_four(values + at, size, tables.turns, turn);
  }
  part_real(tables, values);
}

}  // namespace

void spectrum(const AudioTables& tables, Complex* values) { transform(tables, values); }

void spectrum(const AudioTables& tables, WideComplex* values) { transform(tables, values); }

}  // namespace edgeward
