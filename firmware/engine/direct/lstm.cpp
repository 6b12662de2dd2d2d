// A long short-term memory. Over a whole series it begins with an empty state, hidden values at their zero point and cells at 0;
// otherwise with what the row before left.
#include <cstring>

#include "engine/direct/check.h"
#include "engine/direct/fixed_point.h"
#include "engine/direct/kernels.h"

namespace edgeward::direct {
namespace {

constexpr uint32_t kGates = 4;  // input, forget, cell, output
constexpr uint32_t kForget = 1, kCell = 2;
constexpr uint32_t kSigmoids = 256;
constexpr int32_t kMaxTanhShift = 13;  // an int16 times 3, shifted so far, has 32 bits

// The begin of the table, as model_export/operators/recurrent.py writes it.
struct Head {
  struct Gate {
    uint32_t weights, recurrent;  // offsets in the .tflite section
    Scale input, hidden;
  } gates[kGates];
  Scale forget, update, output;
  int32_t tanh_multiplier, tanh_shift;
  int32_t clip;  // 0: none
};
static_assert(sizeof(Head) == 33 * 4, "as in model_export/operators/recurrent.py");

int16_t to_int16(int32_t value) {
  return static_cast<int16_t>(value < INT16_MIN ? INT16_MIN : value > INT16_MAX ? INT16_MAX : value);
}

int32_t dot(const int8_t* x, const int8_t* weights, uint32_t count) {
  int32_t sum = 0;
  for (uint32_t i = 0; i < count; ++i) sum += static_cast<int32_t>(x[i]) * weights[i];
  return sum;
}

// sigmoid of x in units of 2^-12, in units of 2^-15: between two values of the table by their distance.
int32_t sigmoid(const uint16_t* table, int32_t x) {
  const int32_t scaled = 3 * x;
  const uint32_t size = static_cast<uint32_t>(scaled < 0 ? -scaled : scaled);
  const uint32_t place = size >> 9;
  uint32_t value = 0x7FFFu << 10;
  if (place < kSigmoids - 1) {
    const uint32_t low = table[place];
    value = (low << 9) + (size & 0x1FF) * (table[place + 1] - low);
  }
  value = scaled >= 0 ? value + (1u << 9) : (1u << 25) - value + (1u << 9) - 1;
  return static_cast<int32_t>(value >> 10);
}

// tanh(x) = 2 sigmoid(2x) - 1 of the same table; `scaled` is three times x in units of 2^-12.
int32_t tanh_of(const uint16_t* table, int32_t scaled) {
  const uint32_t size = scaled < 0 ? 0u - static_cast<uint32_t>(scaled) : static_cast<uint32_t>(scaled);
  const uint32_t place = size >> 8;
  int32_t value = 0xFFFF << 8;
  if (place < kSigmoids - 1) {
    const uint32_t low = table[place];
    value = static_cast<int32_t>((low << 8) + (size & 0xFF) * (table[place + 1] - low));
  }
  constexpr int32_t kOne = 1 << 23, kHalf = 1 << 7;
  value = scaled >= 0 ? value - kOne + kHalf : -value + kOne + kHalf - 1;
  return value >> 8;
}

class Lstm {
 public:
  Lstm(const Program& program, const Record& op)
      : op_(op),
        tflite_(reinterpret_cast<const int8_t*>(program.tflite)),
        head_(*reinterpret_cast<const Head*>(program.plan + op.table)),
        biases_(reinterpret_cast<const int32_t*>(&head_ + 1)),
        sigmoids_(reinterpret_cast<const uint16_t*>(biases_ + 2 * kGates * op.out.channels)),
        cells_(reinterpret_cast<int16_t*>(at(program, op.second + op.second % 2))),
        hidden_(reinterpret_cast<int8_t*>(cells_ + op.out.channels)) {}

  void run(const int8_t* input, int8_t* out) {
    const uint32_t units = op_.out.channels;
    if (op_.parameters[0] == 0) {
      std::memset(cells_, 0, 2 * units);
      std::memset(hidden_, op_.out_zero_point, units);
    }
    const int8_t* hidden = hidden_;
    for (uint32_t step = 0; step < op_.in.width; ++step, input += op_.in.channels, out += units) {
      for (uint32_t unit = 0; unit < units; ++unit) out[unit] = next(input, hidden, unit);
      hidden = out;
    }
    if (op_.parameters[0] != 0) std::memcpy(hidden_, hidden, units);
  }

 private:
  int8_t next(const int8_t* input, const int8_t* hidden, uint32_t unit) {
    const int32_t entering = sigmoid(sigmoids_, sum(0, input, hidden, unit));
    const int32_t kept = sigmoid(sigmoids_, sum(kForget, input, hidden, unit));
    const int32_t offered = tanh_of(sigmoids_, 3 * sum(kCell, input, hidden, unit));
    int32_t cell = to_int16(head_.forget.of(kept * cells_[unit]));
    cell = to_int16(cell + to_int16(head_.update.of(entering * offered)));
    if (head_.clip > 0) cell = cell > head_.clip ? head_.clip : cell < -head_.clip ? -head_.clip : cell;
    cells_[unit] = static_cast<int16_t>(cell);
    const int32_t leaving = sigmoid(sigmoids_, sum(kGates - 1, input, hidden, unit));
    const int32_t rounding = head_.tanh_shift > 0 ? 1 << (head_.tanh_shift - 1) : 0;
    const int32_t shown = tanh_of(sigmoids_, (cell * head_.tanh_multiplier + rounding) >> head_.tanh_shift);
    return clamp(wrapping_add(head_.output.of(shown * leaving), op_.out_zero_point), -128, 127);
  }

  int32_t sum(uint32_t gate, const int8_t* input, const int8_t* hidden, uint32_t unit) const {
    const Head::Gate& of = head_.gates[gate];
    const uint32_t width = op_.in.channels, units = op_.out.channels;
    const int32_t* const bias = biases_ + 2 * gate * units + unit;
    const int32_t x = wrapping_add(dot(input, tflite_ + of.weights + unit * width, width), bias[0]);
    const int32_t h = wrapping_add(dot(hidden, tflite_ + of.recurrent + unit * units, units), bias[units]);
    return to_int16(to_int16(of.input.of(x)) + to_int16(of.hidden.of(h)));
  }

  const Record& op_;
  const int8_t* tflite_;
  const Head& head_;
  const int32_t* biases_;
  const uint16_t* sigmoids_;
  int16_t* cells_;
  int8_t* hidden_;
};

}  // namespace

void lstm(const Program& program, const Record& op) { Lstm(program, op).run(at(program, op.input), at(program, op.output)); }

const char* check_lstm(const Checker& plan, const Record& op) {
  if (op.in.height != 1 || op.out.height != 1 || op.in.width != op.out.width) return "bad shape";
  const uint64_t units = op.out.channels;
  if (op.in.channels > kMaxTaps || units > kMaxTaps) return "too many products per output";
  if (op.parameters[0] == 0) {
    if (!plan.scratch_ok(op, 3 * units + 1)) return "bad scratch";
  } else {
    if (!plan.kept_ok(op, 3 * units)) return "bad place of what is kept";
  }
  if (!apart(op.input, op.in.bytes(), op.output, op.out.bytes())) return "input and output overlap";
  if (!plan.table_ok(op, sizeof(Head) + 2 * kGates * units * sizeof(int32_t) + kSigmoids * sizeof(uint16_t))) {
    return "table outside the plan";
  }
  const auto& head = *reinterpret_cast<const Head*>(plan.table(op));
  for (const Head::Gate& gate : head.gates) {
    if (!plan.in_tflite(gate.weights, units * op.in.channels) || !plan.in_tflite(gate.recurrent, units * units)) {
      return "weights outside the .tflite section";
    }
    if (!scale_ok(gate.input) || !scale_ok(gate.hidden)) return "bad multiplier";
  }
  if (!scale_ok(head.forget) || !scale_ok(head.update) || !scale_ok(head.output)) return "bad multiplier";
  if (head.tanh_multiplier < 0 || head.tanh_multiplier > 3 << kMaxTanhShift) return "bad multiplier";
  if (head.tanh_shift < 0 || head.tanh_shift > kMaxTanhShift) return "bad shift";
  return head.clip < 0 || head.clip > INT16_MAX ? "bad clip" : nullptr;
}

}  // namespace edgeward::direct
