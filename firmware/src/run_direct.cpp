// Runs rows through engine/direct on the host: the program behind `edgeward model run --engine direct`. Models of trees have no
// plan, and run in engine/trees.
//
// stdin:  for each model u32 .tflite bytes, u32 plan bytes, u32 rows (little-endian), the .tflite, the plan, the int8 rows.
// stdout: the int8 output rows, model after model.
// Exit code 0, or 1 with the reason on stderr.
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <vector>

#include "engine/direct/plan.h"
#include "engine/engine.h"
#include "engine/trees/format.h"

namespace {

bool read_all(void* to, size_t bytes) { return std::fread(to, 1, bytes, stdin) == bytes; }

int fail(const char* what) {
  std::fprintf(stderr, "%s\n", what);
  return 1;
}

int fail(const edgeward::Result& result) {
  std::fprintf(stderr, "%s: %s (operator %" PRId32 ")\n", edgeward::to_string(result.status), result.reason, result.op);
  return 1;
}

uint32_t trees_arena_bytes(const edgeward::ModelView& model) {
  edgeward::trees::Parts parts;
  const bool whole = static_cast<bool>(edgeward::trees::check(model.tflite, model.tflite_bytes, &parts));
  return whole ? edgeward::trees::places_of(parts).bytes : 0;
}

int run_model(const uint32_t* sizes) {
  using namespace edgeward;
  // Vectors of exactly these sizes, so that a sanitizer sees one byte too far.
  std::vector<uint8_t> tflite(sizes[0]);
  std::vector<uint8_t> plan(sizes[1]);
  if (!read_all(tflite.data(), tflite.size()) || !read_all(plan.data(), plan.size())) {
    return fail("input ended inside the model");
  }
  const ModelView model{tflite.data(), sizes[0], plan.empty() ? nullptr : plan.data(), sizes[1]};
  uint32_t arena_bytes = trees_arena_bytes(model);
  if (plan.size() >= sizeof(direct::PlanHeader)) {
    std::memcpy(&arena_bytes, plan.data() + offsetof(direct::PlanHeader, arena_bytes), sizeof arena_bytes);
  }
  if (arena_bytes > (1u << 24)) return fail("the plan asks for an arena over 16 MiB");
  std::vector<uint8_t> arena(arena_bytes);
  if (const Result loaded = engine().load(model, arena.data(), arena_bytes); !loaded) return fail(loaded);
  for (uint32_t row = 0; row < sizes[2]; ++row) {
    if (!read_all(engine().input().data, engine().input().bytes)) return fail("input ended inside a row");
    if (const Result ran = engine().invoke(); !ran) return fail(ran);
    if (std::fwrite(engine().output().data, 1, engine().output().bytes, stdout) != engine().output().bytes) {
      return fail("cannot write the outputs");
    }
  }
  return 0;
}

}  // namespace

int main() {
  uint32_t sizes[3];
  while (const size_t got = std::fread(sizes, 1, sizeof sizes, stdin)) {
    if (got != sizeof sizes) return fail("input ended inside the sizes");
    if (const int code = run_model(sizes); code != 0) return code;
  }
  return std::fflush(stdout) == 0 ? 0 : fail("cannot write the outputs");
}
