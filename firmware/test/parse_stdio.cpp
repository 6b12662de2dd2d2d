// Feeds standard input to the input parser and prints one line per event. The buffer comes from the heap, so that a
// sanitizer sees one byte too far.
#include <cstdio>
#include <memory>

#include "core/input_parser.h"

int main() {
  using namespace edgeward;
  const auto buffer = std::make_unique<uint8_t[]>(kFrameBytes);
  InputParser parser(buffer.get());
  const auto print = [&](InputEvent event) {
    switch (event) {
      case InputEvent::none: return;
      case InputEvent::command: std::printf("command %s\n", parser.text()); return;
      case InputEvent::runner_command: std::printf("runner %s\n", parser.text()); return;
      case InputEvent::line_too_long: std::printf("line_too_long\n"); return;
      case InputEvent::bad_frame: std::printf("bad_frame\n"); return;
      case InputEvent::frame:
        std::printf("frame %u %u ", parser.frame().type, static_cast<unsigned>(parser.frame().id));
        for (uint32_t i = 0; i < parser.frame().body_bytes; ++i) std::printf("%02x", parser.frame().body[i]);
        std::printf("\n");
    }
  };
  for (int byte = std::getchar(); byte != EOF; byte = std::getchar()) print(parser.feed(static_cast<uint8_t>(byte)));
  print(parser.silence());
  return 0;
}
