// What an owner says to a board over a network that nobody trusts: a command with a number, signed.
//
// char[8] "EWORDER1", u64 number (little-endian, below 2^63), u8 bytes and text of the addressee, u8 bytes and text of the command,
// then 64 bytes: the Ed25519 signature of all before by a key that may sign this board's models; then the first 16 bytes of the
// HMAC-SHA256 of all before by the board's secret. The addressee is FEDERATION/NAME/ID, ID the first 8 bytes of the SHA-256 of the
// board's secret as hex: settings with another secret make another addressee. An order is obeyed once: its number has to be above that
// of every order before, which flash remembers. So who carries orders can withhold and delay them, and neither invent, change, repeat
// nor exchange them; nor, without the secret, make the board check a signature, which takes it a good part of a second.
//
// Numbers are a log in the second and third sector of hal::Slot::network: entries of 16 bytes, u32 magic "EWON", u64 number, u32 CRC-32
// of the 12 bytes before and of the SHA-256 of the secret: numbers of orders for other settings do not count, and settings that come
// back find their own. Each number is written twice, so that one entry may go bad. When one sector is full the other is erased. A number
// is written before its order is obeyed, so one that a cut of power left unreadable belongs to none that was.
#pragma once

#include <cstdint>

#include "core/budget.h"
#include "core/keys.h"
#include "core/refusal.h"
#include "core/settings.h"

namespace edgeward {

constexpr uint32_t kAddresseeBytes = 64 + 1 + 64 + 1 + 16;
constexpr uint32_t kOrderMacBytes = 16;
constexpr uint32_t kMostOrderBytes = 8 + 8 + 1 + kAddresseeBytes + 1 + kLineBytes + kSignatureBytes + kOrderMacBytes;

struct Order {
  uint64_t number;
  char command[kLineBytes + 1];
};

// Reads an order and checks for whom it is, its number against last_order(), who sent it, and its signature.
Refusal read_order(const uint8_t* data, uint32_t bytes, const Keys& keys, const Settings& board, Order* out);

// The largest number an order had that was obeyed with these settings; 0 without any.
uint64_t last_order(const Settings& board);

// Remembers a number above last_order(), before its order is obeyed.
Refusal note_order(const Settings& board, uint64_t number);

}  // namespace edgeward
