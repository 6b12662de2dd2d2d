// What a board may say on the network, whatever it is fed: for test programs that stand in for the network.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "core/budget.h"
#include "hal/network.h"

namespace edgeward {

[[noreturn]] inline void broken(const char* promise, const std::string& said) {
  std::fprintf(stderr, "%s: %s\n", promise, said.c_str());
  std::abort();
}

// Ends the program where it is not one JSON object of a kind that may leave, or says what belongs to a sample.
inline void check_sent(const uint8_t* data, size_t bytes) {
  const std::string said(reinterpret_cast<const char*>(data), bytes);
  if (bytes > kUplinkBytes) broken("too long", said);
  if (said.rfind("{\"v\":1,\"boot\":\"", 0) != 0 || said.substr(said.size() - 2) != "\"}") broken("no record", said);
  int depth = 0;
  bool text = false;
  for (size_t i = 0; i < bytes; ++i) {
    const uint8_t c = data[i];
    if (c < 0x20 || c == 0x7F || c == '\\') broken("not printable", said);
    if (c == '"') text = !text;
    if (!text && (c == '{' || c == '[')) ++depth;
    if (!text && (c == '}' || c == ']')) --depth;
    if (depth == 0 && i + 1 < bytes) broken("more than one object", said);
  }
  if (depth != 0 || text) broken("half an object", said);
  const char kKind[] = ",\"kind\":\"";
  const size_t at = said.find(kKind) + sizeof kKind - 1;
  const std::string kind = said.substr(at, said.find('"', at) - at);
  bool allowed = false;
  for (const char* const may : {"info", "model", "metrics", "drift", "update", "selftest", "ok", "order", "reboot", "error"}) {
    allowed = allowed || kind == may;
  }
  if (!allowed) broken("of a kind that may not leave", said);
  for (const char* const field : {"out", "values", "score", "label", "mean", "spread", "sample", "host"}) {
    if (said.find("\"" + std::string(field) + "\":") != std::string::npos) broken("says what belongs to a sample", said);
  }
}

inline void check_place(const hal::NetworkSettings& place) {
  for (const char* const name : {place.federation, place.name}) {
    const size_t bytes = std::strlen(name);
    if (bytes < 1 || bytes > 64 || std::strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789._-") != bytes) broken("no name", name);
  }
  if (*place.host == 0 || place.port == 0) broken("no broker", place.host);
  if ((*place.certificate != 0) != (*place.key != 0) || (*place.key != 0 && *place.ca == 0)) broken("half an identity", place.name);
}

}  // namespace edgeward
