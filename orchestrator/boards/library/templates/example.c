// Tests @name@ and shows what it makes of the rows of that test. README.md has what is printed.
#include <stdio.h>
#include <string.h>

#include "@name@.h"

#define MOST_SHOWN @most_shown@

static uint8_t arena[@NAME@_ARENA_BYTES] __attribute__((aligned(@NAME@_ARENA_ALIGNMENT)));

static void show(size_t row) {
  const int8_t *const values = @name@_output().data;
  printf("row %d:", (int)row);
  for (size_t i = 0; i < @NAME@_OUTPUT_BYTES && i < MOST_SHOWN; ++i) printf(" %d", values[i]);
  if (@NAME@_OUTPUT_BYTES > MOST_SHOWN) printf(" ...");
#if @NAME@_LABELS > 1 && @NAME@_LABELS == @NAME@_OUTPUT_BYTES
  size_t best = 0;
  for (size_t i = 1; i < @NAME@_OUTPUT_BYTES; ++i) {
    if (values[i] > values[best]) best = i;
  }
  printf(" %s", @name@_labels[best]);
#endif
  printf("\n");
}

static int run(void) {
  int code = @name@_init(arena, sizeof arena);
  if (code != @NAME@_OK) {
    printf("@name@: %s\n", @name@_error_text(code));
    return 1;
  }
  printf("@name@: model %s, arena of %lu bytes\n", @NAME@_DIGEST, (unsigned long)@NAME@_ARENA_BYTES);
  const int differ = @name@_self_test();
  printf("self test: %d of %d rows differ\n", differ, @NAME@_KNOWN_ANSWERS);
  for (size_t row = 0; row < @NAME@_KNOWN_ANSWERS; ++row) {
    memcpy(@name@_input().data, @name@_known_input(row), @NAME@_INPUT_BYTES);
    code = @name@_invoke();
    if (code != @NAME@_OK) {
      printf("row %d: %s\n", (int)row, @name@_error_text(code));
      return 1;
    }
    show(row);
  }
  return differ == 0 ? 0 : 1;
}
