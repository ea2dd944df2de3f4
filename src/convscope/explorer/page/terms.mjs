// One value of a map, number by number: what it is computed from.
import { activationOf, softmax } from "./activations.mjs";
import { scaleOf } from "./forward.mjs";
import { windowOf } from "./windows.mjs";

// Terms of the value at (row, column) of map `channel`:
//   kind      "sum" (patch times kernel), "largest", "mean", "scale", "merge", "copy"
//   top, left Upper left corner of the window in the input; may lie in the padding
//   cells     For a window: {row, column, inside} of each position
//   inputs    Input channels that take part
//   patch     Values, by input channel and then by cell; kernel and products likewise
//   sums      Sum of the products of each input channel
//   winner    Index of the cell of the largest value
//   before    Value before the activation function; value after it
//   pads      Zeros around the input, [[above, below], [left, right]]
// A dense layer has a window over its whole input; if that is flattened, `unflattened` are the maps.
export function termsOf(step, inputs, row, column, channel, unflattened = null) {
  const found = (TERMS[step.op] ?? copied)(step, unflattened ? [unflattened] : inputs, row, column, channel);
  found.before = Math.fround(found.before);
  if (step.activation?.name === "softmax") {
    found.logits = logitsOf(step, inputs);
    found.softmax = softmax(found.logits);
    found.value = found.softmax.shares[channel];
  } else found.value = activationOf(step.activation)(found.before);
  return found;
}

// Values before the softmax that ends a step.
export function logitsOf(step, [x]) {
  if (step.op !== "dense") return x.data;
  const { data, shape: [n, units] } = step.weights.kernel, bias = step.weights.bias?.data;
  return Float64Array.from({ length: units }, (_, unit) => {
    let sum = bias ? bias[unit] : 0;
    for (let i = 0; i < n; i++) sum += x.data[i] * data[i * units + unit];
    return sum;
  });
}

function cellsOf(step, x, row, column) {
  const { kernel, stride, dilation, pads } = windowOf(step.settings, x.rows, x.columns);
  const top = row * stride[0] - pads[0][0], left = column * stride[1] - pads[1][0], cells = [];
  for (let i = 0; i < kernel[0]; i++) for (let j = 0; j < kernel[1]; j++) {
    const at = { row: top + i * dilation[0], column: left + j * dilation[1] };
    cells.push({ ...at, inside: x.holds(at.row, at.column) });
  }
  return { top, left, cells, kernelSize: kernel, dilation, pads };
}

// The sum of products over the cells of a window, and a bias.
function weighted(step, window, inputs, valueAt, weightAt, biasIndex) {
  const found = { kind: "sum", ...window, inputs, patch: [], kernel: [], products: [], sums: [] };
  found.bias = step.weights.bias ? step.weights.bias.data[biasIndex] : 0;
  found.hasBias = Boolean(step.weights.bias);
  for (const [index, input] of inputs.entries()) {
    const patch = found.cells.map((_, cell) => valueAt(cell, input));
    const kernel = found.cells.map((_, cell) => weightAt(cell, input, index));
    const products = patch.map((value, cell) => value * kernel[cell]);
    found.patch.push(patch);
    found.kernel.push(kernel);
    found.products.push(products);
    found.sums.push(products.reduce((a, b) => a + b, 0));
  }
  found.before = found.sums.reduce((a, b) => a + b, 0) + found.bias;
  return found;
}

function summed(step, x, row, column, inputs, weightAt, biasIndex) {
  const window = cellsOf(step, x, row, column);
  const valueAt = (cell, input) => x.padded(window.cells[cell].row, window.cells[cell].column, input);
  return weighted(step, window, inputs, valueAt, weightAt, biasIndex);
}

function conv(step, [x], row, column, channel) {
  const { data, shape: [, , depth, filters] } = step.weights.kernel;
  const first = Math.floor(channel / (filters / (x.channels / depth))) * depth;
  const inputs = Array.from({ length: depth }, (_, i) => first + i);
  return summed(step, x, row, column, inputs, (cell, _, index) => data[(cell * depth + index) * filters + channel], channel);
}

function depthwise(step, [x], row, column, channel) {
  const { data, shape: [, , depth, times] } = step.weights.kernel;
  return summed(step, x, row, column, [Math.floor(channel / times)], (cell) => data[cell * depth * times + channel], channel);
}

function dense(step, [x], row, column, channel) {
  const { data, shape: [, units] } = step.weights.kernel, across = x.vector ? Math.ceil(Math.sqrt(x.channels)) : x.columns;
  const cells = x.vector
    ? Array.from({ length: x.channels }, (_, i) => ({ row: Math.floor(i / across), column: i % across, inside: true }))
    : Array.from({ length: x.rows * x.columns }, (_, i) => ({ row: Math.floor(i / across), column: i % across, inside: true }));
  const depth = x.vector ? 1 : x.channels, kernelSize = [Math.ceil(cells.length / across), across];
  const window = { whole: true, vector: x.vector, cells, kernelSize }, inputs = Array.from({ length: depth }, (_, i) => i);
  return weighted(step, window, inputs, (cell, input) => x.data[cell * depth + input], (cell, input) => data[(cell * depth + input) * units + channel], channel);
}

function pooled(kind, step, x, row, column, channel, window) {
  const found = { kind, ...window, inputs: [channel] };
  found.patch = [found.cells.map((cell) => (cell.inside ? x.at(cell.row, cell.column, channel) : NaN))];
  const values = found.patch[0].filter((value) => !Number.isNaN(value));
  found.count = values.length;
  found.winner = kind === "largest" ? found.patch[0].indexOf(Math.max(...values)) : -1;
  found.before = kind === "largest" ? Math.max(...values) : values.reduce((a, b) => a + b, 0) / values.length;
  return found;
}

const pool = (kind) => (step, [x], row, column, channel) => pooled(kind, step, x, row, column, channel, cellsOf(step, x, row, column));

const whole = (kind) => (step, [x], row, column, channel) => {
  const cells = Array.from({ length: x.rows * x.columns }, (_, i) => ({ row: Math.floor(i / x.columns), column: i % x.columns, inside: true }));
  return pooled(kind, step, x, row, column, channel, { top: 0, left: 0, cells, kernelSize: [x.rows, x.columns], whole: true });
};

const single = (row, column) => ({ top: row, left: column, cells: [{ row, column, inside: true }], kernelSize: [1, 1] });

function scale(step, [x], row, column, channel) {
  const { scale, offset } = scaleOf(step), value = x.at(row, column, channel);
  const found = { kind: "scale", ...single(row, column), inputs: [channel], patch: [[value]], scale: scale[channel], offset: offset[channel] };
  if (step.op === "batch_norm") for (const name of ["mean", "variance", "gamma", "beta"]) found[name] = step.weights[name].data[channel];
  found.before = value * found.scale + found.offset;
  return found;
}

const merge = (kind) => (step, inputs, row, column, channel) => {
  const parts = inputs.map((x) => (x.rows * x.columns === 1 ? x.at(0, 0, channel) : x.at(row, column, channel)));
  const before = parts.reduce(kind === "add" ? (a, b) => a + b : (a, b) => a * b);
  return { kind: "merge", merge: kind, parts, ...single(row, column), inputs: [channel], patch: [[parts[0]]], before };
};

// Where a value is copied from.
function copied(step, inputs, row, column, channel) {
  let [x] = inputs, from = { row, column, channel }, input = 0;
  if (step.op === "flatten") {
    const place = Math.floor(channel / x.channels);
    from = { row: Math.floor(place / x.columns), column: place % x.columns, channel: channel % x.channels };
  } else if (step.op === "pad") {
    const [[top], [left]] = step.settings.padding;
    from = { row: row - top, column: column - left, channel };
  } else if (step.op === "concatenate") {
    while (from.channel >= inputs[input].channels) from.channel -= inputs[input++].channels;
    x = inputs[input];
  }
  const value = x.padded(from.row, from.column, from.channel);
  return { kind: "copy", from, input, ...single(from.row, from.column), inputs: [from.channel], patch: [[value]], before: value };
}

const TERMS = {
  conv, depthwise, dense,
  max_pool: pool("largest"), mean_pool: pool("mean"),
  global_max: whole("largest"), global_mean: whole("mean"),
  batch_norm: scale, rescale: scale,
  add: merge("add"), multiply: merge("multiply"),
};
