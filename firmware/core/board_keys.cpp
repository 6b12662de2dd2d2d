// Which keys the board trusts: `key list`, `key set HEX`, `key program HEX`, `key remove HEX`, `key lock`.
#include <cstring>

#include "core/board.h"
#include "core/text.h"

namespace edgeward {
namespace {

bool parse_key(const char* text, uint8_t out[kPublicKeyBytes]) { return parse_hex(text, out, kPublicKeyBytes); }

}  // namespace

void Board::key_command(const char* argument) {
  const char* const text = std::strchr(argument, ' ');
  uint8_t key[kPublicKeyBytes];
  Refusal refusal{"bad_argument", "key takes: list, set HEX, program HEX, remove HEX, lock; HEX is 64 small hex digits"};
  if (std::strcmp(argument, "list") == 0) {
    refusal = Refusal{};
  } else if (std::strcmp(argument, "lock") == 0) {
    refusal = lock_keys();
    runner_.drop_pins();
  } else if (std::strncmp(argument, "set ", 4) == 0 && parse_key(text + 1, key)) {
    refusal = add_key(key);
  } else if (std::strncmp(argument, "program ", 8) == 0 && parse_key(text + 1, key)) {
    refusal = set_program_key(key);
  } else if (std::strncmp(argument, "remove ", 7) == 0 && parse_key(text + 1, key)) {
    refusal = remove_key(key);
  }
  keys_ = read_keys();
  if (refusal) return error(refusal.code, refusal.reason);
  char ids[kMaxKeys][17];
  const char* shown[kMaxKeys];
  for (uint32_t i = 0; i < keys_.count; ++i) {
    key_id(keys_.keys[i], ids[i]);
    shown[i] = ids[i];
  }
  char program[17] = {};
  if (keys_.has_program_key) key_id(keys_.program_key, program);
  Record(output_, head_, "keys").texts("keys", shown, keys_.count).text("program", program).boolean("locked", keys_.locked);
}

}  // namespace edgeward
