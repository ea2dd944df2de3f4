// Arithmetic of the steps. Each function is a generator that pauses after every row of its output,
// so that a page stays quick while a network runs; its result are the output's `Maps`.
import { Maps } from "./maps.mjs";
import { activationOf, softmax } from "./activations.mjs";
import { windowOf } from "./windows.mjs";
import { resized } from "./resize.mjs";

function* conv([x], { settings, weights }) {
  const { kernel, stride, dilation, pads, out } = windowOf(settings, x.rows, x.columns);
  const filters = weights.kernel.shape[3], groups = settings.groups ?? 1;
  const depth = x.channels / groups, each = filters / groups, k = weights.kernel.data;
  const y = new Maps(out[0], out[1], filters), sums = new Float64Array(filters);
  for (let row = 0, to = 0; row < out[0]; row++) {
    for (let column = 0; column < out[1]; column++, to += filters) {
      if (weights.bias) sums.set(weights.bias.data);
      else sums.fill(0);
      for (let i = 0; i < kernel[0]; i++) for (let j = 0; j < kernel[1]; j++) {
        const top = row * stride[0] - pads[0][0] + i * dilation[0], left = column * stride[1] - pads[1][0] + j * dilation[1];
        if (!x.holds(top, left)) continue;
        const from = (top * x.columns + left) * x.channels, weight = (i * kernel[1] + j) * depth * filters;
        for (let channel = 0; channel < x.channels; channel++) {
          const value = x.data[from + channel];
          if (value === 0) continue;
          const first = Math.floor(channel / depth) * each, line = weight + (channel % depth) * filters;
          for (let filter = first; filter < first + each; filter++) sums[filter] += value * k[line + filter];
        }
      }
      y.data.set(sums, to);
    }
    yield;
  }
  return y;
}

function* depthwise([x], { settings, weights }) {
  const { kernel, stride, dilation, pads, out } = windowOf(settings, x.rows, x.columns);
  const times = weights.kernel.shape[3], n = x.channels * times, k = weights.kernel.data;
  const y = new Maps(out[0], out[1], n), sums = new Float64Array(n);
  for (let row = 0, to = 0; row < out[0]; row++) {
    for (let column = 0; column < out[1]; column++, to += n) {
      if (weights.bias) sums.set(weights.bias.data);
      else sums.fill(0);
      for (let i = 0; i < kernel[0]; i++) for (let j = 0; j < kernel[1]; j++) {
        const top = row * stride[0] - pads[0][0] + i * dilation[0], left = column * stride[1] - pads[1][0] + j * dilation[1];
        if (!x.holds(top, left)) continue;
        const from = (top * x.columns + left) * x.channels, weight = (i * kernel[1] + j) * n;
        for (let filter = 0; filter < n; filter++) sums[filter] += x.data[from + Math.floor(filter / times)] * k[weight + filter];
      }
      y.data.set(sums, to);
    }
    yield;
  }
  return y;
}

// Positions outside of the map take no part in pooling: they are no zeros.
function pooling(start, add, end) {
  return function* pool([x], { settings }) {
    const { kernel, stride, pads, out } = windowOf(settings, x.rows, x.columns);
    const y = new Maps(out[0], out[1], x.channels);
    for (let row = 0, to = 0; row < out[0]; row++) {
      for (let column = 0; column < out[1]; column++) for (let channel = 0; channel < x.channels; channel++) {
        let found = start, n = 0;
        for (let i = 0; i < kernel[0]; i++) for (let j = 0; j < kernel[1]; j++) {
          const top = row * stride[0] - pads[0][0] + i, left = column * stride[1] - pads[1][0] + j;
          if (x.holds(top, left)) { found = add(found, x.at(top, left, channel)); n++; }
        }
        y.data[to++] = end(found, n);
      }
      yield;
    }
    return y;
  };
}

function* dense([x], { weights }) {
  const units = weights.kernel.shape[1], k = weights.kernel.data;
  const sums = new Float64Array(units);
  if (weights.bias) sums.set(weights.bias.data);
  for (let i = 0; i < x.channels; i++) {
    const value = x.data[i];
    if (value !== 0) for (let unit = 0; unit < units; unit++) sums[unit] += value * k[i * units + unit];
    if (i % 256 === 255) yield;
  }
  return new Maps(1, 1, units, Float32Array.from(sums), true);
}

function whole(start, add, end) {
  return function* ([x]) {
    const found = new Float64Array(x.channels).fill(start), n = x.rows * x.columns;
    for (let i = 0; i < x.data.length; i++) found[i % x.channels] = add(found[i % x.channels], x.data[i]);
    return new Maps(1, 1, x.channels, Float32Array.from(found, (value) => end(value, n)), true);
  };
}

// Scale and offset by channel: BatchNorm in inference, and rescaling.
function* scaled([x], step) {
  const { scale, offset } = scaleOf(step), y = new Maps(x.rows, x.columns, x.channels, undefined, x.vector);
  for (let i = 0; i < y.data.length; i++) y.data[i] = x.data[i] * scale[i % x.channels] + offset[i % x.channels];
  return y;
}

// {scale, offset} by channel of a step that is x * scale + offset.
export function scaleOf({ op, settings, weights }) {
  if (op === "rescale") return settings;
  const { gamma, beta, mean, variance } = weights;
  const scale = Float64Array.from(gamma.data, (g, i) => g / Math.sqrt(variance.data[i] + settings.epsilon));
  return { scale, offset: Float64Array.from(beta.data, (b, i) => b - mean.data[i] * scale[i]) };
}

const merge = (add) => function* (inputs) {
  const [first, ...others] = inputs, y = new Maps(first.rows, first.columns, first.channels, Float32Array.from(first.data), first.vector);
  // An input may be one value for each map.
  for (const x of others) for (let i = 0; i < y.data.length; i++) y.data[i] = add(y.data[i], x.data[i % x.data.length]);
  return y;
};

function* concatenate(inputs) {
  const channels = inputs.reduce((n, x) => n + x.channels, 0), [{ rows, columns, vector }] = inputs;
  const y = new Maps(rows, columns, channels, undefined, vector);
  for (let i = 0, to = 0; i < rows * columns; i++) for (const x of inputs) {
    y.data.set(x.data.subarray(i * x.channels, (i + 1) * x.channels), to);
    to += x.channels;
  }
  return y;
}

function* pad([x], { settings: { padding: [[top, bottom], [left, right]] } }) {
  const y = new Maps(x.rows + top + bottom, x.columns + left + right, x.channels);
  for (let row = 0; row < x.rows; row++) {
    const line = x.data.subarray(row * x.columns * x.channels, (row + 1) * x.columns * x.channels);
    y.data.set(line, ((row + top) * y.columns + left) * x.channels);
  }
  return y;
}

function* flatten([x]) {
  return new Maps(1, 1, x.data.length, x.data, true);
}

function* resize([x], { shape }) {
  return resized(x, shape[0], shape[1]);
}

function* activation([x]) {
  return new Maps(x.rows, x.columns, x.channels, Float32Array.from(x.data), x.vector);
}

const ADD = (a, b) => a + b, MEAN = (sum, n) => sum / n, SAME = (value) => value;
const OPS = {
  conv, depthwise, dense, concatenate, pad, flatten, resize, activation,
  max_pool: pooling(-Infinity, Math.max, SAME),
  mean_pool: pooling(0, ADD, MEAN),
  global_max: whole(-Infinity, Math.max, SAME),
  global_mean: whole(0, ADD, MEAN),
  batch_norm: scaled,
  rescale: scaled,
  add: merge(ADD),
  multiply: merge((a, b) => a * b),
};

// Output of a step for its inputs, with its activation function.
export function* forward(inputs, step) {
  const y = yield* OPS[step.op](inputs, step);
  if (step.activation?.name === "softmax") y.data.set(softmax(y.data).shares);
  else if (step.activation) {
    const f = activationOf(step.activation);
    for (let i = 0; i < y.data.length; i++) y.data[i] = f(y.data[i]);
  }
  return y;
}
