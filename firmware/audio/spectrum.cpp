#include "audio/spectrum.h"

namespace edgeward {
namespace {

constexpr int32_t kOne = 32767;

// Over 2^15, halves upwards. Products of int16 by roots of unity stay in 32 bits: no root is -32768 (read_audio_tables()).
int16_t rounded(int32_t product) { return static_cast<int16_t>((product + (1 << 14)) >> 15); }

int16_t halved(int32_t sum) { return static_cast<int16_t>(sum >> 1); }

template <int32_t kBy>
Complex divided(Complex value) {
  return Complex{rounded(value.real * (kOne / kBy)), rounded(value.imaginary * (kOne / kBy))};
}

Complex operator*(Complex value, Complex turn) {
  return Complex{rounded(int32_t{value.real} * turn.real - int32_t{value.imaginary} * turn.imaginary),
                 rounded(int32_t{value.real} * turn.imaginary + int32_t{value.imaginary} * turn.real)};
}

Complex operator+(Complex one, Complex other) {
  return Complex{static_cast<int16_t>(one.real + other.real), static_cast<int16_t>(one.imaginary + other.imaginary)};
}

Complex operator-(Complex one, Complex other) {
  return Complex{static_cast<int16_t>(one.real - other.real), static_cast<int16_t>(one.imaginary - other.imaginary)};
}

// Joins four neighbours of `size` values each; `turn` roots of unity lie between one value and the next.
void join_four(Complex* values, uint32_t size, const Complex* turns, uint32_t turn) {
  for (uint32_t i = 0; i < size; ++i) {
    Complex* const at = values + i;
    const Complex first = divided<4>(at[0]);
    Complex second = divided<4>(at[size]), third = divided<4>(at[2 * size]), fourth = divided<4>(at[3 * size]);
    if (i > 0) {  // the first root is 1, and changes nothing as small as a quarter
      second = second * turns[i * turn];
      third = third * turns[2 * i * turn];
      fourth = fourth * turns[3 * i * turn];
    }
    const Complex even = first + third, across = first - third;
    const Complex odd = second + fourth, difference = second - fourth;
    const Complex quarter{difference.imaginary, static_cast<int16_t>(-difference.real)};
    at[0] = even + odd;
    at[size] = across + quarter;
    at[2 * size] = even - odd;
    at[3 * size] = across - quarter;
  }
}

// Of single values: only the innermost stage has radix 2.
void join_two(Complex* values) {
  const Complex first = divided<2>(values[0]), second = divided<2>(values[1]);
  values[0] = first + second;
  values[1] = first - second;
}

// A complex transform of even and odd samples becomes that of real ones.
void part_real(const AudioTables& tables, Complex* values) {
  const uint32_t count = tables.transform_samples / 2;
  const Complex* const turns = tables.turns + tables.transform_samples / 4;
  for (uint32_t low = 1; low <= count / 2; ++low) {
    const uint32_t high = count - low;
    const Complex mirrored{values[high].real, static_cast<int16_t>(-values[high].imaginary)};
    const Complex one = divided<2>(values[low]), other = divided<2>(mirrored);
    const Complex even = one + other, odd = (one - other) * turns[low];
    values[low] = Complex{halved(even.real + odd.real), halved(even.imaginary + odd.imaginary)};
    values[high] = Complex{halved(even.real - odd.real), halved(odd.imaginary - even.imaginary)};
  }
}

}  // namespace

void spectrum(const AudioTables& tables, Complex* values) {
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

}  // namespace edgeward
