// From values to places: linear and logarithmic scales, and the ticks people read them by.

export function linear(low, high, start, end) {
  const half = high / 2 - low / 2 || 1; // of halves: the whole span may be more than a number can be
  return (value) => start + ((value / 2 - low / 2) / half) * (end - start);
}

export function logarithmic(low, high, start, end) {
  const place = linear(Math.log10(low), Math.log10(high), start, end);
  return (value) => place(Math.log10(value));
}

const LEAST = 1e-300; // as good as zero: steps of less could not be told apart
const DIGITS = 12; // of a tick
const EQUAL = 1e-9; // of the larger one: what differs by less than this is one value to whoever reads the axis

// Round numbers from at most `low` to at least `high`, about `about` steps.
export function niceTicks(low, high, about) {
  const most = Math.max(Math.abs(low), Math.abs(high));
  if (high / most - low / most < EQUAL || most < LEAST) [low, high] = most < LEAST ? [0, 1] : [Math.min(low, 0), Math.max(high, 0)];
  const raw = high / about - low / about;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= raw * 0.999);
  const ticks = [];
  for (let i = Math.floor(low / step + 1e-9); i * step < high + step * 0.999; i += 1) ticks.push(Number((i * step).toPrecision(DIGITS)));
  return ticks;
}

const POWERS = { least: -323, most: 308 }; // of ten, that are numbers

// Powers of ten round what is shown; within two of them also twice and five times them.
export function logTicks(low, high) {
  const from = Math.min(Math.max(Math.floor(Math.log10(low) + 1e-9), POWERS.least), POWERS.most - 1);
  const to = Math.min(Math.max(from + 1, Math.ceil(Math.log10(high) - 1e-9)), POWERS.most);
  const every = Math.max(1, Math.ceil((to - from) / 5));
  const factors = to - from <= 2 ? [1, 2, 5] : [1];
  const ticks = [];
  for (let power = from; power < to; power += every) for (const factor of factors) ticks.push(Number((factor * 10 ** power).toPrecision(6)));
  return [...ticks, 10 ** to];
}

export function wholeTicks(low, high, most) {
  const step = Math.max(1, [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000].find((s) => (high - low) / s <= most) ?? (high - low) / most);
  const ticks = [];
  for (let tick = Math.ceil(low / step) * step; tick <= high && tick !== ticks[ticks.length - 1]; tick += step) ticks.push(tick);
  return ticks;
}

// Whether one series would press the others flat, or one value its own series: then only a logarithmic scale shows them.
export function flattens(series) {
  if (!series.length || series.flat().some((value) => value <= 0)) return false;
  const tops = series.map((values) => Math.max(...values));
  const middle = (values) => [...values].sort((a, b) => a - b)[Math.floor((values.length - 1) / 2)];
  return series.length > 1 ? Math.max(...tops) > 20 * Math.min(...tops) : tops[0] > 100 * middle(series[0]);
}
