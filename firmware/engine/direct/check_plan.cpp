#include "engine/direct/plan.h"

namespace edgeward::direct {
namespace {

constexpr uint32_t kMaxArenaBytes = 1u << 24;
constexpr uint32_t kMaxDimension = 1u << 20;
constexpr uint32_t kMaxWindow = 1u << 12;
constexpr int32_t kMinShift = -31, kMaxShift = 30;

class Checker {
 public:
  Checker(const ModelView& model, const PlanHeader& header) : model_(model), header_(header) {}

  // The reason why the record is unusable, or null.
  const char* record(const Record& op) const {
    if (!shape_ok(op.in) || !shape_ok(op.out)) return "a dimension is out of range";
    if (!in_arena(op.input, op.in.bytes())) return "input outside the arena";
    if (!in_arena(op.output, op.out.bytes())) return "output outside the arena";
    if (!int8_ok(op.in_zero_point) || !int8_ok(op.out_zero_point)) return "zero point out of range";
    if (!int8_ok(op.clamp_low) || !int8_ok(op.clamp_high) || op.clamp_low > op.clamp_high) return "bad clamp";
    switch (op.kind) {
      case Kind::conv: return convolution(op, true);
      case Kind::depthwise: return convolution(op, false);
      case Kind::max_pool:
      case Kind::average_pool: return pool(op);
      case Kind::mean: return mean(op);
      case Kind::add: return add(op);
      case Kind::softmax: return softmax(op);
      case Kind::lut: return lut(op);
      case Kind::pad: return pad(op);
      case Kind::load: return load(op);
      case Kind::copy: return copy(op);
      case Kind::add_broadcast: return add_broadcast(op);
      case Kind::arithmetic: return arithmetic(op);
      case Kind::move: return move(op);
    }
    return "unknown kind of operator";
  }

  bool in_arena(uint32_t offset, uint64_t bytes) const { return offset + bytes <= header_.arena_bytes; }

 private:
  static bool int8_ok(int32_t value) { return value >= -128 && value <= 127; }

  static bool dimension_ok(uint32_t n) { return n >= 1 && n <= kMaxDimension; }

  static bool shape_ok(const Shape& s) {
    return dimension_ok(s.height) && dimension_ok(s.width) && dimension_ok(s.channels) && s.bytes() <= kMaxArenaBytes;
  }

  static bool is_flat(const Shape& s) { return s.height == 1 && s.width == 1; }

  static bool scale_ok(int32_t multiplier, int32_t shift) {
    return multiplier >= 0 && shift >= kMinShift && shift <= kMaxShift;
  }

  bool table_ok(const Record& op, uint64_t bytes) const {
    return op.table % 4 == 0 && op.table >= sizeof(PlanHeader) && op.table + bytes <= header_.plan_bytes;
  }

  const int32_t* table(const Record& op) const { return reinterpret_cast<const int32_t*>(model_.plan + op.table); }

  // Every window touches the input: at least one cell of it lies inside.
  static bool axis_ok(uint32_t in, uint32_t out, uint32_t kernel, uint32_t stride, uint32_t dilation,
                      uint32_t padding) {
    const auto small = [](uint32_t n) { return n >= 1 && n <= kMaxWindow; };
    if (!small(kernel) || !small(stride) || !small(dilation)) return false;
    const uint64_t span = uint64_t{kernel - 1} * dilation + 1;
    return padding < span && uint64_t{out - 1} * stride < uint64_t{in} + padding;
  }

  static bool window_ok(const Record& op) {
    return axis_ok(op.in.height, op.out.height, op.kernel_height, op.stride_height, op.dilation_height, op.pad_top) &&
           axis_ok(op.in.width, op.out.width, op.kernel_width, op.stride_width, op.dilation_width, op.pad_left);
  }

  const char* convolution(const Record& op, bool full) const {
    if (!window_ok(op)) return "bad kernel, stride, dilation or padding";
    const uint64_t cells = uint64_t{op.kernel_height} * op.kernel_width;
    const uint64_t window = cells * op.in.channels;
    if (window > kMaxTaps) return "too many products per output";
    const uint64_t weights = full ? window * op.out.channels : cells * op.out.channels;
    if (!full && op.out.channels % op.in.channels != 0) return "channels do not fit";
    if (op.weights + weights > model_.tflite_bytes) return "weights outside the .tflite section";
    if (cells > 1 && !scratch_ok(op, window)) return "bad scratch";
    const uint64_t scales = op.per_channel ? op.out.channels : 1;
    if (!table_ok(op, 4 * uint64_t{op.out.channels} + 5 * scales)) return "table outside the plan";
    const int32_t* const multiplier = table(op) + op.out.channels;
    const auto* const shift = reinterpret_cast<const int8_t*>(multiplier + scales);
    for (uint64_t i = 0; i < scales; ++i) {
      if (!scale_ok(multiplier[i], shift[i])) return "bad multiplier";
    }
    return nullptr;
  }

  bool scratch_ok(const Record& op, uint64_t window) const {
    return op.scratch_bytes >= window && in_arena(op.second, op.scratch_bytes) &&
           apart(op.second, op.scratch_bytes, op.input, op.in.bytes()) &&
           apart(op.second, op.scratch_bytes, op.output, op.out.bytes());
  }

  static bool apart(uint32_t a, uint64_t a_bytes, uint32_t b, uint64_t b_bytes) {
    return a + a_bytes <= b || b + b_bytes <= a;
  }

  static const char* pool(const Record& op) {
    const bool plain = op.dilation_height == 1 && op.dilation_width == 1 && op.in.channels == op.out.channels;
    return plain && window_ok(op) ? nullptr : "bad pooling window";
  }

  static const char* mean(const Record& op) {
    const bool rows = op.in.height == op.out.height && op.out.width == 1 && op.in.channels == op.out.channels;
    if (!rows) return "bad mean";
    // Rows are written behind what is still to be read only where there is one.
    if (op.in.height > 1 && !apart(op.input, op.in.bytes(), op.output, op.out.bytes())) return "input and output overlap";
    return scale_ok(op.parameters[0], op.parameters[1]) ? nullptr : "bad multiplier";
  }

  const char* add(const Record& op) const {
    if (!is_flat(op.in) || !is_flat(op.out) || op.in.channels != op.out.channels) return "bad shape";
    if (!in_arena(op.second, op.in.bytes())) return "second input outside the arena";
    return addition_table(op, 8);
  }

  const char* addition_table(const Record& op, uint64_t words) const {
    if (!table_ok(op, 4 * words)) return "table outside the plan";
    const int32_t* const p = table(op);
    if (!int8_ok(p[0]) || !int8_ok(p[3])) return "zero point out of range";
    return scale_ok(p[1], p[2]) && scale_ok(p[4], p[5]) && scale_ok(p[6], p[7]) ? nullptr : "bad multiplier";
  }

  const char* add_broadcast(const Record& op) const {
    if (const char* const reason = addition_table(op, 14)) return reason;
    const uint32_t inputs[] = {op.input, op.second};
    for (uint32_t i = 0; i < 2; ++i) {
      const int32_t* const step = table(op) + 8 + 3 * i;
      if (step[0] < 0 || step[1] < 0 || step[2] < 0) return "bad step";
      // Below 2^53: a dimension has at most 21 bits.
      const uint64_t last = uint64_t{op.out.height - 1} * static_cast<uint32_t>(step[0]) +
                            uint64_t{op.out.width - 1} * static_cast<uint32_t>(step[1]) +
                            uint64_t{op.out.channels - 1} * static_cast<uint32_t>(step[2]);
      if (!in_arena(inputs[i], last + 1)) return "input outside the arena";
    }
    return nullptr;
  }

  const char* arithmetic(const Record& op) const {
    if (op.parameters[0] < 0 || op.parameters[0] >= kArithmetics) return "unknown arithmetic";
    return add_broadcast(op);
  }

  const char* move(const Record& op) const {
    if (!table_ok(op, 4 * 9)) return "table outside the plan";
    const int32_t* const t = table(op);
    if (t[0] < 0) return "bad place";
    // Below 2^53: a count has at most 21 bits, a step 31.
    int64_t low = t[0], high = t[0];
    uint64_t values = 1;
    for (uint32_t i = 0; i < 4; ++i) {
      const int32_t count = t[1 + i];
      if (count < 1 || static_cast<uint32_t>(count) > kMaxDimension) return "bad count";
      values *= static_cast<uint32_t>(count);
      if (values > kMaxArenaBytes) return "bad count";
      const int64_t reach = int64_t{count - 1} * t[5 + i];
      (reach < 0 ? low : high) += reach;
    }
    if (values != op.out.bytes()) return "bad shape";
    if (low < 0 || static_cast<uint64_t>(high) >= op.in.bytes()) return "bad step";
    return apart(op.input, op.in.bytes(), op.output, op.out.bytes()) ? nullptr : "input and output overlap";
  }

  const char* load(const Record& op) const {
    return uint64_t{op.weights} + op.out.bytes() <= model_.tflite_bytes ? nullptr : "constant outside the .tflite section";
  }

  static const char* copy(const Record& op) {
    const bool rows = op.in.height == 1 && op.out.height == 1 && op.in.width == op.out.width;
    if (!rows || uint64_t{op.pad_left} + op.in.channels > op.out.channels) return "bad shape";
    return apart(op.input, op.in.bytes(), op.output, op.out.bytes()) ? nullptr : "input and output overlap";
  }

  const char* softmax(const Record& op) const {
    const bool same = op.in.width == op.out.width && op.in.channels == op.out.channels;
    if (!same || op.in.height != 1 || op.out.height != 1 || op.in.channels > kMaxSoftmaxDepth) return "bad shape";
    if (!table_ok(op, 8)) return "table outside the plan";
    const int32_t* const t = table(op);
    if (t[0] < 1 || t[0] > 256 || t[1] != INT32_MAX) return "bad exponentials";
    if (!table_ok(op, 4 + 4 * static_cast<uint64_t>(t[0]))) return "table outside the plan";
    for (int32_t i = 1; i <= t[0]; ++i) {
      if (t[i] < 0) return "bad exponentials";
    }
    return nullptr;
  }

  const char* lut(const Record& op) const {
    if (!is_flat(op.in) || !is_flat(op.out) || op.in.channels != op.out.channels) return "bad shape";
    return table_ok(op, 256) ? nullptr : "table outside the plan";
  }

  static const char* pad(const Record& op) {
    const bool fits = uint64_t{op.pad_top} + op.in.height <= op.out.height &&
                      uint64_t{op.pad_left} + op.in.width <= op.out.width && op.in.channels == op.out.channels;
    return fits && apart(op.input, op.in.bytes(), op.output, op.out.bytes()) ? nullptr : "bad padding";
  }

  const ModelView& model_;
  const PlanHeader& header_;
};

Result bad(const char* reason, int32_t op = -1) { return Result{Status::bad_model, reason, op}; }

}  // namespace

Result check_plan(const ModelView& model, uint32_t arena_bytes) {
  if (model.plan == nullptr || model.plan_bytes == 0) return Result{Status::no_plan, "the model has no plan", -1};
  if (model.plan_bytes < sizeof(PlanHeader)) return bad("the plan is shorter than its header");
  if (reinterpret_cast<uintptr_t>(model.plan) % 4 != 0) return bad("the plan is not aligned to 4 bytes");
  const auto& header = *reinterpret_cast<const PlanHeader*>(model.plan);
  if (header.magic != kPlanMagic) return bad("the plan has the wrong magic");
  if (header.version != kPlanVersion) return Result{Status::unsupported, "unknown version of the plan", -1};
  if (header.plan_bytes != model.plan_bytes) return bad("the plan has the wrong length");
  if (header.tflite_bytes != model.tflite_bytes) return bad("the plan belongs to another .tflite");
  if (header.ops_offset != sizeof(PlanHeader)) return bad("the operator table is not where it belongs");
  if (header.op_count > (header.plan_bytes - sizeof(PlanHeader)) / sizeof(Record)) return bad("too many operators");
  if (header.arena_bytes > kMaxArenaBytes) return bad("the arena is out of range");
  if (header.arena_bytes > arena_bytes) {
    return Result{Status::arena_too_small, "the plan needs a larger arena", -1};
  }
  const Checker checker(model, header);
  if (!checker.in_arena(header.input.offset, header.input.bytes)) return bad("the input is outside the arena");
  if (!checker.in_arena(header.output.offset, header.output.bytes)) return bad("the output is outside the arena");
  const auto* const records = reinterpret_cast<const Record*>(model.plan + header.ops_offset);
  for (uint32_t i = 0; i < header.op_count; ++i) {
    if (const char* const reason = checker.record(records[i])) {
      return bad(reason, static_cast<int32_t>(records[i].model_op & INT32_MAX));
    }
  }
  return ok_result();
}

}  // namespace edgeward::direct
