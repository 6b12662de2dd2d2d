// Text and records to the serial port, through one static buffer, without printf.
#pragma once

#include <cstdint>

#include "core/budget.h"
#include "core/crc.h"

namespace edgeward {

class Uplink;

class Output {
 public:
  // Where copies of records go, besides.
  void copy_to(Uplink* uplink) { uplink_ = uplink; }
  void begin_copy(const char* kind);
  void end_copy();

  // Where goes what is put from now on.
  enum class To : uint8_t { both, port, copy };
  void send_to(To to) { to_ = to; }

  // The number of a record, which is another one in the copy.
  void sequence(uint64_t here);

  void put(char c);
  void decimal(double value);
  void text(const char* text);
  void number(uint64_t value);
  void signed_number(int64_t value);
  void hex(uint8_t byte);
  void hex32(uint32_t value);
  void flush();

  // CRC-16 of what was put since crc_begin().
  void crc_begin();
  uint16_t crc_end();

 private:
  void count_crc();

  Uplink* uplink_ = nullptr;
  To to_ = To::both;
  uint32_t used_ = 0;
  uint32_t crc_from_ = 0;  // first byte of the buffer not yet in crc_
  bool crc_on_ = false;
  uint16_t crc_ = kCrc16Start;
  char buffer_[kRecordBytes];
};

// What every record says before its own fields.
struct RecordHead {
  uint32_t boot_id;
  uint32_t sequence;   // of the next record; wraps
  const char* digest;  // model digest, null without a model
  uint64_t order = 0;  // number of the order from the network that is being obeyed; 0 for none
};

constexpr uint32_t kRecordSchema = 1;

// One line `@ew <json>*<crc16>`; goes out when the object goes out of scope. Texts must not need escaping in JSON.
class Record {
 public:
  Record(Output& output, RecordHead& head, const char* kind);
  ~Record();
  Record(const Record&) = delete;
  Record& operator=(const Record&) = delete;

  Record& text(const char* key, const char* value);  // null becomes JSON null
  Record& number(const char* key, uint64_t value);
  Record& signed_number(const char* key, int64_t value);
  Record& boolean(const char* key, bool value);
  Record& bytes(const char* key, const uint8_t* data, uint32_t count);  // as hex digits
  Record& numbers(const char* key, const uint32_t* values, uint32_t count);
  // As numbers(), others in the copy.
  Record& numbers(const char* key, const uint32_t* here, const uint32_t* in_copy, uint32_t count);
  Record& number(const char* key, uint64_t here, uint64_t in_copy);
  Record& texts(const char* key, const char* const* values, uint32_t count);
  // With four decimals, cut off at a million either way.
  Record& decimal(const char* key, double value);
  Record& decimals(const char* key, const double* values, uint32_t count);
  // A float without loss: [mantissa, exponent], the value is mantissa * 2^exponent.
  Record& real(const char* key, float value);

 private:
  void key(const char* key);
  void list(const uint32_t* values, uint32_t count);

  Output& out_;
};

}  // namespace edgeward
