// A board without a cable: its records to the broker, an owner's orders from there.
#include <cstring>

#include "core/board.h"
#include "core/little_endian.h"
#include "core/orders.h"
#include "core/text.h"

namespace edgeward {
namespace {

// After an order with a wrong signature, which takes a board a good part of a second, none is checked for so long. Only who has the
// secret of the board gets so far.
constexpr uint64_t kQuietUs = 1000000;

constexpr char kUpdate[] = "update ";

// What an order may say. Neither recordings, nor keys, nor rows for the model: those take a cable.
constexpr const char* kOrders[] = {"info", "metrics", "metrics clear", "selftest", "reload", "rollback", "reboot"};
constexpr const char* kOrdersWithArgument[] = {"metrics rate ", "drift rows ", kUpdate};

bool starts_with(const char* text, const char* prefix) { return std::strncmp(text, prefix, std::strlen(prefix)) == 0; }

bool is_allowed(const char* command) {
  for (const char* const known : kOrders) {
    if (std::strcmp(command, known) == 0) return true;
  }
  for (const char* const known : kOrdersWithArgument) {
    if (starts_with(command, known)) return true;
  }
  return false;
}

const char* to_string(hal::NetworkState state) {
  switch (state) {
    case hal::NetworkState::none: return "none";
    case hal::NetworkState::off: return "off";
    case hal::NetworkState::joining: return "joining";
    case hal::NetworkState::connected: return "connected";
  }
  return "none";
}

}  // namespace

void Board::start_network() {
  const Refusal refusal = read_settings(&settings_);
  has_place_ = refusal || settings_.secret != nullptr;
  if (refusal) return error(refusal.code, refusal.reason);
  if (settings_.secret == nullptr || !hal::network_start(settings_.network)) return;
  output_.copy_to(&uplink_);
  uplink_.open(settings_.secret);
  metrics_every_us_ = settings_.metrics_every_ms * 1000;
  metrics_next_us_ = hal::clock_us() + metrics_every_us_;
}

bool Board::step_network() {
  if (!uplink_.is_open()) return false;
  const bool connected = hal::network_state() == hal::NetworkState::connected;
  if (connected && (presence_due_ || !was_connected_)) {
    presence_due_ = false;
    uplink_.address(hal::Topic::presence);
    send_info();
    uplink_.address(hal::Topic::record);
  }
  was_connected_ = connected;
  const size_t bytes = hal::network_read(message_, sizeof message_);
  if (bytes == 0) return false;
  network_message(static_cast<uint32_t>(bytes));
  head_.order = 0;
  return true;
}

void Board::network_message(uint32_t bytes) {
  if (bytes >= 8 && std::memcmp(message_, "EWORDER1", 8) == 0) return obey(bytes);
  if (bytes < kFrameHeadBytes) return refuse_order(Refusal{"bad_order", "a message is an order, or part of an update"});
  Frame frame{message_[0], u32(message_ + 1), message_ + kFrameHeadBytes, bytes - kFrameHeadBytes};
  const auto type = static_cast<FrameType>(frame.type);
  const bool part = type == FrameType::update_chunk || type == FrameType::update_commit;
  if (type == FrameType::update_begin && is_ordered(frame)) {
    update_due_ = false;  // an order is for one update: sent again, its parts would bring back a model that was rolled back
    head_.order = update_order_;
    update_begin(frame);
    by_network_ = updater_.open() || firmware_.open();
    return;
  }
  if (part && by_network_) {
    head_.order = update_order_;
    return type == FrameType::update_chunk ? update_chunk(frame) : update_commit(frame);
  }
  if (part) {
    if (may_answer()) send_update(frame.id, "refused", kNoUpdate);
    return;
  }
  refuse_order(Refusal{"not_ordered", "no order asks for what came over the network"});
}

// Whether an update that was ordered, and has not begun, begins with this header.
bool Board::is_ordered(const Frame& frame) const {
  uint8_t digest[kSha256Bytes];
  if (!update_due_) return false;
  sha256(frame.body, frame.body_bytes, digest);
  return std::memcmp(digest, ordered_header_, sizeof digest) == 0;
}

void Board::obey(uint32_t bytes) {
  Order order = {};
  if (hal::clock_us() < quiet_until_us_) return;
  Refusal refusal = read_order(message_, bytes, keys_, settings_, &order);
  if (refusal && std::strcmp(refusal.code, "bad_signature") == 0) quiet_until_us_ = hal::clock_us() + kQuietUs;
  if (refusal) return refuse_order(refusal, order.number);
  refusal = note_order(settings_, order.number);
  if (refusal) return refuse_order(refusal, order.number);
  head_.order = order.number;
  keep_program();
  if (!is_allowed(order.command)) return refuse_order(Refusal{"not_by_order", "this command takes a cable"});
  if (!starts_with(order.command, kUpdate)) {
    Record(output_, head_, "order").text("state", "obeyed");
    return command(order.command);
  }
  if (!parse_hex(order.command + std::strlen(kUpdate), ordered_header_, sizeof ordered_header_)) {
    return refuse_order(Refusal{"bad_argument", "update takes the SHA-256 of a model's header"});
  }
  if (by_network_) {  // nobody goes on with the one before
    updater_.abandon();
    firmware_.abandon();
  }
  by_network_ = false;
  update_order_ = order.number;
  update_due_ = true;
  Record(output_, head_, "order").text("state", "obeyed");
}

// Who floods a board with nonsense gets no flood of answers: one a second.
bool Board::may_answer() {
  const uint64_t now_us = hal::clock_us();
  if (now_us < answers_from_us_) return false;
  answers_from_us_ = now_us + kQuietUs;
  return true;
}

void Board::refuse_order(const Refusal& refusal, uint64_t claimed) {
  ++metrics_.errors;
  if (head_.order == 0 && !may_answer()) return;
  Record record(output_, head_, "order");
  record.text("state", "refused").text("code", refusal.code).text("reason", refusal.reason);
  if (head_.order == 0) record.number("claimed", claimed);
}

void Board::send_network() {
  Record record(output_, head_, "network");
  record.text("state", to_string(hal::network_state())).number("dropped", uplink_.dropped());
  if (settings_.secret == nullptr) return;
  record.text("host", settings_.network.host)
      .number("port", settings_.network.port)
      .text("federation", settings_.network.federation)
      .text("name", settings_.network.name)
      .boolean("encrypted", *settings_.network.ca != 0)
      .number("last_order", last_order(settings_));
}

// New settings, or with an empty body none any more. The board restarts: nothing of the place before stays, also where flash
// failed after the settings were erased, which the network still points to.
void Board::settings_frame(const Frame& frame) {
  Refusal refusal{"keys_locked", "the keys were locked: only flashing changes the settings"};
  if (!keys_.locked) refusal = frame.body_bytes == 0 ? forget_settings() : write_settings(frame.body, frame.body_bytes);
  if (refusal) {
    ++metrics_.errors;
    const bool gone = std::strcmp(refusal.code, "flash_failed") == 0;
    if (gone) output_.copy_to(nullptr);  // there is no secret to mark it with
    Record(output_, head_, "error").number("id", frame.id).text("code", refusal.code).text("reason", refusal.reason);
    if (!gone) return;
  } else {
    Record(output_, head_, "settings").number("id", frame.id);
  }
  restart();
}

}  // namespace edgeward
