// The header of a model.bin (docs/design.md, section 9): parsed and checked before anything of the model is used.
#pragma once

#include <cstdint>

#include "engine/engine.h"

namespace edgeward {

constexpr uint32_t kModelHeaderBytes = 256;
constexpr uint32_t kMaxOperatorCodes = 32;

struct Section {
  uint32_t offset;  // from the first byte of model.bin; 0 when absent
  uint32_t bytes;
};

struct ModelHeader {
  uint32_t total_bytes;
  uint32_t arena_tflm_bytes;
  uint32_t arena_direct_bytes;
  Section tflite;
  Section plan;
  Section known_answers;
  Section input_profile;
  uint32_t flags;  // bit 0: signed
  uint8_t sha256[32];
  uint8_t signature[64];
  uint16_t operator_count;
  uint16_t operators[kMaxOperatorCodes];
  char name[33];    // UTF-8, zero terminated
  char digest[17];  // first 8 bytes of sha256 as hex: the model digest of serial records
};

enum class HeaderStatus : uint8_t {
  ok,
  empty,            // erased flash or no partition
  truncated,
  bad_magic,
  bad_version,
  bad_header_bytes,
  bad_header_crc,
  bad_total_bytes,
  bad_section,
  bad_operators,
  bad_reserved,
  bad_name,
  bad_sha256,
};

const char* to_string(HeaderStatus status);

// Reads the header from `data` (a mapped slot of `capacity` bytes) and checks every field, the CRC, and that all
// sections lie inside. Does not read the body.
HeaderStatus parse_model_header(const uint8_t* data, uint32_t capacity, ModelHeader* out);

// parse_model_header() plus the SHA-256 over the body.
HeaderStatus check_model(const uint8_t* data, uint32_t capacity, ModelHeader* out);

// Whether it says that it carries a signature; core/keys.h checks it.
bool is_signed(const ModelHeader& header);

// Whether the sections follow one another up to the end of the file. The place of the input profile is not among the
// signed bytes: this rule leaves it only one.
bool is_gapless(const ModelHeader& header);

ModelView view_of(const uint8_t* data, const ModelHeader& header);

}  // namespace edgeward
