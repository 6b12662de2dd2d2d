#include "core/uplink.h"

#include <cstring>

namespace edgeward {
namespace {

constexpr const char* kCarried[] = {"boot", "model", "info", "metrics", "drift", "update", "selftest", "ok", "order", "reboot", "error"};

constexpr uint32_t kMacBytes = 16;
constexpr char kMacKey[] = ",\"mac\":\"";
constexpr uint32_t kEndBytes = sizeof kMacKey - 1 + 2 * kMacBytes + 2;  // and "}

}  // namespace

void Uplink::begin(const char* kind) {
  writing_ = false;
  if (!is_open()) return;
  for (const char* const carried : kCarried) writing_ = writing_ || std::strcmp(kind, carried) == 0;
  used_ = 0;
}

void Uplink::put(char c) {
  if (used_ < kUplinkBytes) room_[kHmacBlockBytes + used_] = static_cast<uint8_t>(c);
  ++used_;
}

void Uplink::end() {
  if (!writing_) return;
  writing_ = false;
  if (used_ + kEndBytes > kUplinkBytes) {
    ++dropped_;
    return;
  }
  uint8_t mac[kSha256Bytes];
  hmac_sha256(secret_, room_, used_, mac);
  uint8_t* p = room_ + kHmacBlockBytes + used_;
  for (const char* c = kMacKey; *c != 0; ++c) *p++ = static_cast<uint8_t>(*c);
  for (uint32_t i = 0; i < 2 * kMacBytes; ++i) {
    *p++ = static_cast<uint8_t>("0123456789abcdef"[mac[i / 2] >> (i % 2 == 0 ? 4 : 0) & 15]);
  }
  *p++ = '"';
  *p++ = '}';
  if (!hal::network_send(topic_, room_ + kHmacBlockBytes, used_ + kEndBytes)) ++dropped_;
}

}  // namespace edgeward
