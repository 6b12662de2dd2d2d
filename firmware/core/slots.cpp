#include "core/slots.h"

#include <cstddef>
#include <cstring>

#include "core/crc.h"

namespace edgeward {
namespace {

constexpr uint32_t kMagic = 0x4C535745;  // "EWSL"
constexpr uint32_t kErased = 0xFFFFFFFF;

struct Entry {
  uint32_t magic;
  uint32_t finding;
  uint32_t sequence;
  uint8_t digest[8];
  uint32_t build;
  uint32_t reserved;
  uint32_t crc;  // CRC-32 of what is before it
};
static_assert(sizeof(Entry) == 32, "a whole number of entries fills a sector");
static_assert(sizeof(Entry) == kRuleEntryBytes, "entries of both kinds lie in one row");
constexpr uint32_t kEntries = kSlotLogBytes / sizeof(Entry);
constexpr uint32_t kKeptForRemovals = 16;  // places no new rule gets

uint32_t g_build = 0;

bool intact(const Entry& entry) {
  return entry.magic == kMagic && entry.crc == crc32(reinterpret_cast<const uint8_t*>(&entry), offsetof(Entry, crc));
}

const uint8_t* log_of(const hal::SlotView& view) { return view.data + view.bytes - kSlotLogBytes; }

// Writes an entry of either kind at a place that is free, and reads it back.
bool write_entry(hal::Slot slot, uint32_t place, const uint8_t* bytes) {
  const hal::SlotView view = hal::slot_map(slot);
  const uint32_t offset = view.bytes - kSlotLogBytes + place * static_cast<uint32_t>(sizeof(Entry));
  if (!hal::slot_write(slot, offset, bytes, sizeof(Entry))) return false;
  return std::memcmp(view.data + offset, bytes, sizeof(Entry)) == 0;
}

// What the entries of a log about a model come to, one after the other.
template <typename Kept>
Kept read_entries(hal::Slot slot, const uint8_t* sha256) {
  Kept kept;
  const hal::SlotView view = hal::slot_map(slot);
  if (view.data == nullptr || view.bytes < kSlotLogBytes) return kept;
  const uint8_t* at = log_of(view);
  for (uint32_t i = 0; i < kEntries; ++i, at += sizeof(Entry)) kept.apply(at, sha256);
  return kept;
}

bool write_stream(hal::Slot slot, const uint8_t* sha256, uint32_t place, const KeptStream& stream) {
  uint8_t packed[kRuleEntryBytes];
  pack_stream(stream, sha256, packed);
  return write_entry(slot, place, packed);
}

constexpr Refusal kFlashFailed{"flash_failed", "flash did not take what was written"};
constexpr Refusal kLogFull{"rule_log_full", "too many changes: rule clear removes all rules and makes room"};

// The last entry of a log about a model, the largest sequence number in it, and its first free place.
struct Log {
  Entry latest = {};  // magic 0 when there is none
  uint32_t last_sequence = 0;
  uint32_t free = 0;
};

Log read_log(hal::Slot slot, const uint8_t* sha256) {
  Log log;
  const hal::SlotView view = hal::slot_map(slot);
  if (view.data == nullptr || view.bytes < kSlotLogBytes) return log;
  const uint8_t* at = log_of(view);
  for (uint32_t i = 0; i < kEntries; ++i, at += sizeof(Entry)) {
    Entry entry;
    std::memcpy(&entry, at, sizeof entry);
    bool erased = true;
    for (uint32_t k = 0; k < sizeof entry; ++k) erased = erased && at[k] == 0xFF;
    if (erased) continue;
    log.free = i + 1;
    if (!intact(entry)) continue;
    if (entry.sequence > log.last_sequence) log.last_sequence = entry.sequence;
    if (std::memcmp(entry.digest, sha256, sizeof entry.digest) == 0) log.latest = entry;
  }
  return log;
}

}  // namespace

void set_build(const char* firmware, const char* engine) {
  const auto crc = [](const char* text) { return crc32(reinterpret_cast<const uint8_t*>(text), std::strlen(text)); };
  g_build = crc(firmware) ^ (crc(engine) << 1 | crc(engine) >> 31);
}

hal::SlotView model_area(hal::Slot slot) {
  const hal::SlotView view = hal::slot_map(slot);
  if (view.data == nullptr || view.bytes <= kSlotLogBytes) return hal::SlotView{nullptr, 0};
  return hal::SlotView{view.data, view.bytes - kSlotLogBytes};
}

SlotState inspect(hal::Slot slot) {
  SlotState state = {};
  const hal::SlotView area = model_area(slot);
  state.slot = slot;
  state.data = area.data;
  state.status = check_model(area.data, area.bytes, &state.header);
  if (state.status != HeaderStatus::ok) return state;
  const Entry latest = read_log(slot, state.header.sha256).latest;
  if (latest.magic != kMagic) return state;
  state.crashed = latest.finding == static_cast<uint32_t>(Finding::crashed);
  state.sequence = latest.sequence;
  state.proven_here = !state.crashed && latest.build == g_build;
  return state;
}

bool record_finding(hal::Slot slot, const uint8_t* sha256, Finding finding) {
  const hal::SlotView view = hal::slot_map(slot);
  if (view.data == nullptr || view.bytes < kSlotLogBytes) return false;
  const uint32_t start = view.bytes - kSlotLogBytes;
  const Log here = read_log(slot, sha256);
  const Log there = read_log(other(slot), sha256);
  Entry entry = {};
  entry.magic = kMagic;
  entry.finding = static_cast<uint32_t>(finding);
  entry.sequence = (here.last_sequence > there.last_sequence ? here.last_sequence : there.last_sequence) + 1;
  std::memcpy(entry.digest, sha256, sizeof entry.digest);
  entry.build = g_build;
  entry.reserved = kErased;
  const auto* const bytes = reinterpret_cast<const uint8_t*>(&entry);
  entry.crc = crc32(bytes, offsetof(Entry, crc));
  if (here.free < kEntries) return write_entry(slot, here.free, bytes);
  // Without its log the model counts as put there by a flasher: it is tried first, and proven again. Its rules and its stream are
  // written once more; where the power is cut before that, it has none.
  const RuleSet rules = read_rules(slot, sha256);
  const KeptStream stream = read_stream(slot, sha256);
  if (!hal::slot_erase(slot, start, kSlotLogBytes) || !write_entry(slot, 0, bytes)) return false;
  uint32_t place = 1;
  for (const Rule& rule : rules.rules) {
    uint8_t packed[kRuleEntryBytes];
    pack_rule(rule, sha256, packed);
    if (rule.action != RuleAction::none && !write_entry(slot, place++, packed)) return false;
  }
  return !stream.on() || write_stream(slot, sha256, place, stream);
}

RuleSet read_rules(hal::Slot slot, const uint8_t* sha256) { return read_entries<RuleSet>(slot, sha256); }

KeptStream read_stream(hal::Slot slot, const uint8_t* sha256) { return read_entries<KeptStream>(slot, sha256); }

Refusal record_rule(hal::Slot slot, const uint8_t* sha256, const Rule& rule) {
  const hal::SlotView view = hal::slot_map(slot);
  if (view.data == nullptr || view.bytes < kSlotLogBytes) return kFlashFailed;
  const bool removes = rule.action == RuleAction::none;
  const uint32_t free = read_log(slot, sha256).free;
  const bool nearly_full = free + kKeptForRemovals >= kEntries;
  const RuleSet rules = read_rules(slot, sha256);
  const bool there = rule.number == 0 ? rules.count() > 0 || nearly_full : rules.holds(rule.number);
  if (removes && !there) return Refusal{};
  if (nearly_full && removes && rule.number == 0) {
    const KeptStream stream = read_stream(slot, sha256);
    if (!hal::slot_erase(slot, view.bytes - kSlotLogBytes, kSlotLogBytes)) return kFlashFailed;
    const bool written = record_finding(slot, sha256, Finding::proven) &&
                         (!stream.on() || write_stream(slot, sha256, read_log(slot, sha256).free, stream));
    return written ? Refusal{} : kFlashFailed;
  }
  if (free >= kEntries || (nearly_full && !removes)) return kLogFull;
  uint8_t packed[kRuleEntryBytes];
  pack_rule(rule, sha256, packed);
  return write_entry(slot, free, packed) ? Refusal{} : kFlashFailed;
}

Refusal record_stream(hal::Slot slot, const uint8_t* sha256, const KeptStream& stream) {
  const KeptStream kept = read_stream(slot, sha256);
  uint8_t now[kRuleEntryBytes], before[kRuleEntryBytes];
  pack_stream(stream, sha256, now);
  pack_stream(kept, sha256, before);
  if (stream.on() == kept.on() && (!kept.on() || std::memcmp(now, before, sizeof now) == 0)) return Refusal{};
  const uint32_t free = read_log(slot, sha256).free;
  if (free >= kEntries || (stream.on() && free + kKeptForRemovals >= kEntries)) return kLogFull;
  return write_stream(slot, sha256, free, stream) ? Refusal{} : kFlashFailed;
}

uint32_t order_to_try(const SlotState states[kSlots], bool also_crashed, hal::Slot order[kSlots]) {
  const auto rank = [&](const SlotState& state) -> uint64_t {
    if (state.status != HeaderStatus::ok || (state.crashed && !also_crashed)) return 0;
    return state.sequence == 0 ? UINT64_MAX : uint64_t{1} + state.sequence;
  };
  const uint64_t first = rank(states[0]);
  const uint64_t second = rank(states[1]);
  uint32_t count = 0;
  const bool swapped = second > first;
  if (swapped) order[count++] = states[1].slot;
  if (first > 0) order[count++] = states[0].slot;
  if (!swapped && second > 0) order[count++] = states[1].slot;
  return count;
}

}  // namespace edgeward
