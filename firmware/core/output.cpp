#include "core/output.h"

#include <cstring>

#include "core/uplink.h"
#include "hal/hal.h"

namespace edgeward {

void Output::put(char c) {
  if (to_ != To::copy) {
    if (used_ == kRecordBytes) flush();
    buffer_[used_++] = c;
  }
  if (to_ != To::port && uplink_ != nullptr && uplink_->writing()) uplink_->put(c);
}

void Output::begin_copy(const char* kind) {
  if (uplink_ != nullptr) uplink_->begin(kind);
}

void Output::end_copy() {
  if (uplink_ != nullptr) uplink_->end();
}

void Output::sequence(uint64_t here) {
  send_to(To::port);
  number(here);
  send_to(To::copy);
  if (uplink_ != nullptr && uplink_->writing()) number(uplink_->take_sequence());
  send_to(To::both);
}

void Output::text(const char* text) {
  while (*text) put(*text++);
}

void Output::number(uint64_t value) {
  char digits[20];
  int count = 0;
  do {
    digits[count++] = static_cast<char>('0' + value % 10);
    value /= 10;
  } while (value > 0);
  while (count > 0) put(digits[--count]);
}

void Output::signed_number(int64_t value) {
  if (value < 0) put('-');
  number(value < 0 ? 0 - static_cast<uint64_t>(value) : static_cast<uint64_t>(value));
}

void Output::decimal(double value) {
  constexpr double kLargest = 1e6;
  const double size = value < 0 ? -value : value;
  const auto ten_thousandths = static_cast<uint64_t>((size < kLargest ? size : kLargest) * 1e4 + 0.5);
  if (value < 0) put('-');
  number(ten_thousandths / 10000);
  put('.');
  for (uint64_t unit = 1000; unit > 0; unit /= 10) put(static_cast<char>('0' + ten_thousandths / unit % 10));
}

void Output::hex(uint8_t byte) {
  constexpr char kHex[] = "0123456789abcdef";
  put(kHex[byte >> 4]);
  put(kHex[byte & 15]);
}

void Output::hex32(uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) hex(static_cast<uint8_t>(value >> shift));
}

void Output::flush() {
  count_crc();
  hal::serial_write(reinterpret_cast<const uint8_t*>(buffer_), used_);
  used_ = crc_from_ = 0;
}

void Output::crc_begin() {
  crc_on_ = true;
  crc_ = kCrc16Start;
  crc_from_ = used_;
}

uint16_t Output::crc_end() {
  count_crc();
  crc_on_ = false;
  return crc_;
}

void Output::count_crc() {
  if (crc_on_) crc_ = crc16(reinterpret_cast<const uint8_t*>(buffer_) + crc_from_, used_ - crc_from_, crc_);
  crc_from_ = used_;
}

Record::Record(Output& output, RecordHead& head, const char* kind) : out_(output) {
  out_.text("@ew ");
  out_.crc_begin();
  out_.begin_copy(kind);
  out_.text("{\"v\":");
  out_.number(kRecordSchema);
  out_.text(",\"boot\":\"");
  out_.hex32(head.boot_id);
  out_.put('"');
  key("seq");
  out_.sequence(head.sequence++);
  text("model", head.digest);
  number("t_us", hal::clock_us());
  text("kind", kind);
  if (head.order != 0) number("order", head.order);
}

Record::~Record() {
  out_.end_copy();
  out_.put('}');
  const uint16_t crc = out_.crc_end();
  out_.put('*');
  out_.hex(static_cast<uint8_t>(crc >> 8));
  out_.hex(static_cast<uint8_t>(crc));
  out_.text("\r\n");
  out_.flush();
}

void Record::key(const char* key) {
  out_.text(",\"");
  out_.text(key);
  out_.text("\":");
}

void Record::list(const uint32_t* values, uint32_t count) {
  out_.put('[');
  for (uint32_t i = 0; i < count; ++i) {
    if (i > 0) out_.put(',');
    out_.number(values[i]);
  }
  out_.put(']');
}

Record& Record::text(const char* name, const char* value) {
  key(name);
  if (value == nullptr) {
    out_.text("null");
  } else {
    out_.put('"');
    out_.text(value);
    out_.put('"');
  }
  return *this;
}

Record& Record::number(const char* name, uint64_t value) {
  key(name);
  out_.number(value);
  return *this;
}

Record& Record::signed_number(const char* name, int64_t value) {
  key(name);
  out_.signed_number(value);
  return *this;
}

Record& Record::boolean(const char* name, bool value) {
  key(name);
  out_.text(value ? "true" : "false");
  return *this;
}

Record& Record::bytes(const char* name, const uint8_t* data, uint32_t count) {
  key(name);
  out_.put('"');
  for (uint32_t i = 0; i < count; ++i) out_.hex(data[i]);
  out_.put('"');
  return *this;
}

Record& Record::numbers(const char* name, const uint32_t* values, uint32_t count) {
  key(name);
  list(values, count);
  return *this;
}

Record& Record::numbers(const char* name, const uint32_t* here, const uint32_t* in_copy, uint32_t count) {
  key(name);
  out_.send_to(Output::To::port);
  list(here, count);
  out_.send_to(Output::To::copy);
  list(in_copy, count);
  out_.send_to(Output::To::both);
  return *this;
}

Record& Record::number(const char* name, uint64_t here, uint64_t in_copy) {
  key(name);
  out_.send_to(Output::To::port);
  out_.number(here);
  out_.send_to(Output::To::copy);
  out_.number(in_copy);
  out_.send_to(Output::To::both);
  return *this;
}

Record& Record::texts(const char* name, const char* const* values, uint32_t count) {
  key(name);
  out_.put('[');
  for (uint32_t i = 0; i < count; ++i) {
    out_.text(i > 0 ? ",\"" : "\"");
    out_.text(values[i]);
    out_.put('"');
  }
  out_.put(']');
  return *this;
}

Record& Record::decimal(const char* name, double value) {
  key(name);
  out_.decimal(value);
  return *this;
}

Record& Record::decimals(const char* name, const double* values, uint32_t count) {
  key(name);
  out_.put('[');
  for (uint32_t i = 0; i < count; ++i) {
    if (i > 0) out_.put(',');
    out_.decimal(values[i]);
  }
  out_.put(']');
  return *this;
}

Record& Record::real(const char* name, float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  const int32_t exponent = static_cast<int32_t>(bits >> 23 & 0xFF);
  const int32_t fraction = static_cast<int32_t>(bits & 0x7FFFFF);
  const int32_t mantissa = exponent == 0 ? fraction : fraction | 0x800000;
  key(name);
  out_.put('[');
  out_.signed_number(bits >> 31 ? -mantissa : mantissa);
  out_.put(',');
  out_.signed_number((exponent == 0 ? 1 : exponent) - 150);
  out_.put(']');
  return *this;
}

}  // namespace edgeward
