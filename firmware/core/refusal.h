// Why a model was not accepted: a code for programs and a sentence for people, both static text. No code: it was accepted.
#pragma once

#include <cstdint>

namespace edgeward {

struct Refusal {
  const char* code = nullptr;
  const char* reason = "";
  int32_t op = -1;  // the operator it is about, -1 for none

  explicit operator bool() const { return code != nullptr; }
};

}  // namespace edgeward
