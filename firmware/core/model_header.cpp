#include "core/model_header.h"

#include <cstring>

#include "core/crc.h"
#include "core/little_endian.h"
#include "core/sha256.h"

namespace edgeward {
namespace {

constexpr uint32_t kFlagSigned = 1;
constexpr uint32_t kAlignment = 16;
constexpr uint32_t kNameBytes = 32;

// Sections follow each other in the order of the header; `end` is where the last one ended.
bool read_section(const uint8_t* p, uint32_t total, uint32_t* end, Section* out) {
  *out = Section{u32(p), u32(p + 4)};
  if (out->offset == 0 && out->bytes == 0) return true;
  if (out->offset % kAlignment != 0 || out->offset < *end || out->bytes == 0) return false;
  if (uint64_t{out->offset} + out->bytes > total) return false;
  *end = out->offset + out->bytes;
  return true;
}

bool read_name(const uint8_t* p, char* out) {
  uint32_t length = 0;
  while (length < kNameBytes && p[length] != 0) ++length;
  for (uint32_t i = length; i < kNameBytes; ++i) {
    if (p[i] != 0) return false;
  }
  for (uint32_t i = 0; i < length; ++i) {
    if (p[i] < 0x20 || p[i] == 0x7F || p[i] == '"' || p[i] == '\\') return false;  // it goes into JSON as it is
  }
  std::memcpy(out, p, length);
  out[length] = 0;
  return length > 0;
}

void write_digest(const uint8_t* sha, char* out) {
  constexpr char kHex[] = "0123456789abcdef";
  for (int i = 0; i < 8; ++i) {
    out[2 * i] = kHex[sha[i] >> 4];
    out[2 * i + 1] = kHex[sha[i] & 15];
  }
  out[16] = 0;
}

}  // namespace

const char* to_string(HeaderStatus status) {
  switch (status) {
    case HeaderStatus::ok: return "ok";
    case HeaderStatus::empty: return "empty_slot";
    case HeaderStatus::truncated: return "truncated";
    case HeaderStatus::bad_magic: return "bad_magic";
    case HeaderStatus::bad_version: return "bad_version";
    case HeaderStatus::bad_header_bytes: return "bad_header_bytes";
    case HeaderStatus::bad_header_crc: return "bad_header_crc";
    case HeaderStatus::bad_total_bytes: return "bad_total_bytes";
    case HeaderStatus::bad_section: return "bad_section";
    case HeaderStatus::bad_operators: return "bad_operators";
    case HeaderStatus::bad_reserved: return "bad_reserved";
    case HeaderStatus::bad_name: return "bad_name";
    case HeaderStatus::bad_sha256: return "bad_sha256";
  }
  return "unknown";
}

HeaderStatus parse_model_header(const uint8_t* data, uint32_t capacity, ModelHeader* out) {
  if (data == nullptr) return HeaderStatus::empty;
  if (capacity < kModelHeaderBytes) return HeaderStatus::truncated;
  if (u32(data) == 0xFFFFFFFF) return HeaderStatus::empty;
  if (std::memcmp(data, "EWMB", 4) != 0) return HeaderStatus::bad_magic;
  if (u16(data + 4) != 1) return HeaderStatus::bad_version;
  if (u16(data + 6) != kModelHeaderBytes) return HeaderStatus::bad_header_bytes;
  if (u32(data + 252) != crc32(data, 252)) return HeaderStatus::bad_header_crc;
  out->total_bytes = u32(data + 8);
  if (out->total_bytes < kModelHeaderBytes || out->total_bytes > capacity) return HeaderStatus::bad_total_bytes;
  out->arena_tflm_bytes = u32(data + 12);
  out->arena_direct_bytes = u32(data + 16);
  uint32_t end = kModelHeaderBytes;
  Section* const sections[] = {&out->tflite, &out->plan, &out->known_answers};
  for (uint32_t i = 0; i < 3; ++i) {
    if (!read_section(data + 20 + 8 * i, out->total_bytes, &end, sections[i])) return HeaderStatus::bad_section;
  }
  if (!read_section(data + 244, out->total_bytes, &end, &out->input_profile)) return HeaderStatus::bad_section;
  if (out->tflite.bytes == 0) return HeaderStatus::bad_section;
  out->flags = u32(data + 44);
  if ((out->flags & ~kFlagSigned) != 0) return HeaderStatus::bad_reserved;
  std::memcpy(out->sha256, data + 48, sizeof out->sha256);
  std::memcpy(out->signature, data + 80, sizeof out->signature);
  out->operator_count = u16(data + 144);
  if (out->operator_count > kMaxOperatorCodes) return HeaderStatus::bad_operators;
  for (uint32_t i = 0; i < kMaxOperatorCodes; ++i) {
    out->operators[i] = u16(data + 148 + 2 * i);
    const bool used = i < out->operator_count;
    if (!used && out->operators[i] != 0) return HeaderStatus::bad_operators;
    if (used && i > 0 && out->operators[i] <= out->operators[i - 1]) return HeaderStatus::bad_operators;
  }
  if (u16(data + 146) != 0) return HeaderStatus::bad_reserved;
  if (!read_name(data + 212, out->name)) return HeaderStatus::bad_name;
  write_digest(out->sha256, out->digest);
  return HeaderStatus::ok;
}

HeaderStatus check_model(const uint8_t* data, uint32_t capacity, ModelHeader* out) {
  const HeaderStatus status = parse_model_header(data, capacity, out);
  if (status != HeaderStatus::ok) return status;
  uint8_t digest[kSha256Bytes];
  sha256(data + kModelHeaderBytes, out->total_bytes - kModelHeaderBytes, digest);
  return std::memcmp(digest, out->sha256, sizeof digest) == 0 ? HeaderStatus::ok : HeaderStatus::bad_sha256;
}

bool is_signed(const ModelHeader& header) { return (header.flags & kFlagSigned) != 0; }

bool is_gapless(const ModelHeader& header) {
  uint32_t end = kModelHeaderBytes;
  const Section* const sections[] = {&header.tflite, &header.plan, &header.known_answers, &header.input_profile};
  for (const Section* const at : sections) {
    const Section& section = *at;
    if (section.bytes == 0) continue;
    if (section.offset != end) return false;
    end = (section.offset + section.bytes + kAlignment - 1) / kAlignment * kAlignment;
  }
  return end == header.total_bytes;
}

ModelView view_of(const uint8_t* data, const ModelHeader& header) {
  const uint8_t* const plan = header.plan.bytes ? data + header.plan.offset : nullptr;
  return ModelView{data + header.tflite.offset, header.tflite.bytes, plan, header.plan.bytes};
}

}  // namespace edgeward
