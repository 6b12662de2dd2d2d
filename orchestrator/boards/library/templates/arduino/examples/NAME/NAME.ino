// Tests @name@ and shows what it makes of the rows of that test. README.md has what is printed, at 115,200 baud.
#include <@name@.h>
#include <string.h>

const size_t MOST_SHOWN = @most_shown@;

alignas(@NAME@_ARENA_ALIGNMENT) static uint8_t arena[@NAME@_ARENA_BYTES];

static void show(size_t row) {
  const int8_t *const values = @name@_output().data;
  Serial.print("row ");
  Serial.print((int)row);
  Serial.print(":");
  for (size_t i = 0; i < @NAME@_OUTPUT_BYTES && i < MOST_SHOWN; ++i) {
    Serial.print(" ");
    Serial.print((int)values[i]);
  }
  if (@NAME@_OUTPUT_BYTES > MOST_SHOWN) Serial.print(" ...");
#if @NAME@_LABELS > 1 && @NAME@_LABELS == @NAME@_OUTPUT_BYTES
  size_t best = 0;
  for (size_t i = 1; i < @NAME@_OUTPUT_BYTES; ++i) {
    if (values[i] > values[best]) best = i;
  }
  Serial.print(" ");
  Serial.print(@name@_labels[best]);
#endif
  Serial.println();
}

void setup() {
  Serial.begin(115200);
  while (!Serial && millis() < 5000) {
  }
  int code = @name@_init(arena, sizeof arena);
  if (code != @NAME@_OK) {
    Serial.print("@name@: ");
    Serial.println(@name@_error_text(code));
    return;
  }
  Serial.print("@name@: model ");
  Serial.print(@NAME@_DIGEST);
  Serial.print(", arena of ");
  Serial.print((unsigned long)@NAME@_ARENA_BYTES);
  Serial.println(" bytes");
  Serial.print("self test: ");
  Serial.print(@name@_self_test());
  Serial.print(" of ");
  Serial.print((int)@NAME@_KNOWN_ANSWERS);
  Serial.println(" rows differ");
  for (size_t row = 0; row < @NAME@_KNOWN_ANSWERS; ++row) {
    memcpy(@name@_input().data, @name@_known_input(row), @NAME@_INPUT_BYTES);
    code = @name@_invoke();
    if (code != @NAME@_OK) {
      Serial.println(@name@_error_text(code));
      return;
    }
    show(row);
  }
}

void loop() { delay(1000); }
