// The public keys this board trusts to sign models and orders, the one it trusts to sign its programs, and whether it may record: a
// log in a flash sector of its own, hal::Slot::keys.
//
// An entry of 64 bytes adds a key, removes one, or locks the store: from then on no command changes it, only someone who
// writes flash. Recording is allowed by an entry that no command writes, only a flasher; a command takes it back. Such an
// entry also allows changes of rules where the keys are locked. Entries are written once and checked
// by a CRC; a cut of power leaves one whole or unreadable. What an unreadable one said nobody knows: where it leaves the
// board without keys, no model may run until a key is set again.
#pragma once

#include <cstdint>

#include "core/ed25519.h"
#include "core/model_header.h"
#include "core/refusal.h"

namespace edgeward {

constexpr uint32_t kMaxKeys = 4;
constexpr uint32_t kSignedBytes = 80;  // of the header of a model.bin

struct Keys {
  uint32_t count = 0;
  bool locked = false;
  bool damaged = false;  // an entry cannot be read
  bool recording = false;
  bool rules_open = false;  // although the keys are locked
  uint8_t keys[kMaxKeys][kPublicKeyBytes];
  bool has_program_key = false;
  uint8_t program_key[kPublicKeyBytes];  // who has its other half can do whatever the chip can

  bool holds(const uint8_t key[kPublicKeyBytes]) const;

  // Whether raw samples may leave this board. An entry that cannot be read may have forbidden it.
  bool may_record() const { return recording && !damaged; }

  // Whether what comes over the serial port may change rules, and by samples of its own make them act. An entry that cannot
  // be read may have been the lock.
  bool may_change_rules() const { return (!locked || rules_open) && !damaged; }
};

// Reads the store; without such a sector there are no keys.
Keys read_keys();

Refusal add_key(const uint8_t key[kPublicKeyBytes]);
// The key for programs, in place of the one before.
Refusal set_program_key(const uint8_t key[kPublicKeyBytes]);

// Either kind.
Refusal remove_key(const uint8_t key[kPublicKeyBytes]);
Refusal lock_keys();

// Takes back what the flasher allowed, also where the keys are locked.
Refusal forbid_recording();

// Whether a model may run here: any may while there never were keys, afterwards only one that one of them signed. `data` is
// the first kModelHeaderBytes of a model.bin, parsed as `header`.
Refusal check_signature(const Keys& keys, const uint8_t* data, const ModelHeader& header);

// First 8 bytes of the SHA-256 of a key, as hex: how it is named.
void key_id(const uint8_t key[kPublicKeyBytes], char out[17]);

}  // namespace edgeward
