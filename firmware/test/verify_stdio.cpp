// Verifies Ed25519 signatures: lines `KEY SIGNATURE MESSAGE` in hex, `-` for an empty message. Prints for each whether the
// signature is right and whether the key may be given to a board, as two digits.
#include <cstdio>
#include <iostream>
#include <string>
#include <vector>

#include "core/ed25519.h"

namespace {

std::vector<uint8_t> from_hex(const std::string& text) {
  std::vector<uint8_t> out;
  if (text == "-") return out;
  for (size_t i = 0; i + 1 < text.size(); i += 2) {
    out.push_back(static_cast<uint8_t>(std::stoul(text.substr(i, 2), nullptr, 16)));
  }
  return out;
}

}  // namespace

int main() {
  std::string key, signature, message;
  while (std::cin >> key >> signature >> message) {
    const auto k = from_hex(key), s = from_hex(signature), m = from_hex(message);
    if (k.size() != 32 || s.size() != 64) return 2;
    std::printf("%d%d\n", edgeward::ed25519_verify(s.data(), k.data(), m.data(), m.size()),
                edgeward::ed25519_key_ok(k.data()));
  }
  return 0;
}
