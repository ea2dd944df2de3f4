// Resizing as the network does it: bilinear; where the image shrinks, averaged over what a pixel covers.
import { Maps } from "./maps.mjs";

const PADDING = 127; // grey of the bars, as in `convscope.images.fit`

// For each of `size` pixels [first, weights] of the line of n pixels that it is made of; of the line,
// what is before `start` is left out, and as much at its end.
function weightsOf(n, size, start = 0) {
  const step = (n - 2 * start) / size, reach = Math.max(1, step);
  return Array.from({ length: size }, (_, i) => {
    const centre = start + (i + 0.5) * step - 0.5;
    const first = Math.max(0, Math.ceil(centre - reach)), last = Math.min(n - 1, Math.floor(centre + reach));
    const raw = Array.from({ length: last - first + 1 }, (_, j) => Math.max(0, 1 - Math.abs(first + j - centre) / reach));
    const sum = raw.reduce((a, b) => a + b, 0);
    return [first, raw.map((weight) => weight / sum)];
  });
}

// An image in another size, fitted as the network's own images were: "squash", "crop" or "pad".
export function fitted(x, rows, columns, fit) {
  if (fit === "crop") {
    const scale = Math.min(x.rows / rows, x.columns / columns);
    return resized(x, rows, columns, Math.max(0, (x.rows - scale * rows) / 2), Math.max(0, (x.columns - scale * columns) / 2));
  }
  if (fit !== "pad") return resized(x, rows, columns);
  const inner = resized(x, side(rows, (x.rows * columns) / x.columns), side(columns, (x.columns * rows) / x.rows));
  const top = Math.floor((rows - inner.rows) / 2), left = Math.floor((columns - inner.columns) / 2);
  const y = new Maps(rows, columns, x.channels, new Float32Array(rows * columns * x.channels).fill(PADDING)), line = inner.columns * x.channels;
  for (let row = 0; row < inner.rows; row++) y.data.set(inner.data.subarray(row * line, (row + 1) * line), ((top + row) * columns + left) * x.channels);
  return y;
}

function side(largest, length) {
  return Math.min(largest, Math.max(1, Math.round(length)));
}

// `top` and `left`: rows and columns, or parts of them, that are left out at both ends.
export function resized(x, rows, columns, top = 0, left = 0) {
  const across = new Maps(x.rows, columns, x.channels), y = new Maps(rows, columns, x.channels);
  weightsOf(x.columns, columns, left).forEach(([first, weights], column) => {
    for (let row = 0; row < x.rows; row++) for (let channel = 0; channel < x.channels; channel++) {
      let sum = 0;
      for (let j = 0; j < weights.length; j++) sum += weights[j] * x.at(row, first + j, channel);
      across.data[(row * columns + column) * x.channels + channel] = sum;
    }
  });
  weightsOf(x.rows, rows, top).forEach(([first, weights], row) => {
    for (let column = 0; column < columns; column++) for (let channel = 0; channel < x.channels; channel++) {
      let sum = 0;
      for (let j = 0; j < weights.length; j++) sum += weights[j] * across.at(first + j, column, channel);
      y.data[(row * columns + column) * x.channels + channel] = sum;
    }
  });
  return y;
}
