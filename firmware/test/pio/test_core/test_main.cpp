// `pio test -e native`: the unit tests of the core, reported to test_custom_runner.py.
#define main unit_main
#include "test/unit.cpp"
#undef main

int main() {
  const int failed = unit_main();
  std::puts(failed == 0 ? "PASS core units" : "FAIL core units");
  std::puts("END");
  return failed;
}
