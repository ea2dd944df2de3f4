// Resizing as the network does it: bilinear; where the image shrinks, averaged over what a pixel covers.
import { Maps } from "./maps.mjs";

// For each of `size` pixels [first, weights] of the line of n pixels that it is made of.
function weightsOf(n, size) {
  const step = n / size, reach = Math.max(1, step);
  return Array.from({ length: size }, (_, i) => {
    const centre = (i + 0.5) * step - 0.5;
    const first = Math.max(0, Math.ceil(centre - reach)), last = Math.min(n - 1, Math.floor(centre + reach));
    const raw = Array.from({ length: last - first + 1 }, (_, j) => Math.max(0, 1 - Math.abs(first + j - centre) / reach));
    const sum = raw.reduce((a, b) => a + b, 0);
    return [first, raw.map((weight) => weight / sum)];
  });
}

export function resized(x, rows, columns) {
  const across = new Maps(x.rows, columns, x.channels), y = new Maps(rows, columns, x.channels);
  weightsOf(x.columns, columns).forEach(([first, weights], column) => {
    for (let row = 0; row < x.rows; row++) for (let channel = 0; channel < x.channels; channel++) {
      let sum = 0;
      for (let j = 0; j < weights.length; j++) sum += weights[j] * x.at(row, first + j, channel);
      across.data[(row * columns + column) * x.channels + channel] = sum;
    }
  });
  weightsOf(x.rows, rows).forEach(([first, weights], row) => {
    for (let column = 0; column < columns; column++) for (let channel = 0; channel < x.channels; channel++) {
      let sum = 0;
      for (let j = 0; j < weights.length; j++) sum += weights[j] * across.at(first + j, column, channel);
      y.data[(row * columns + column) * x.channels + channel] = sum;
    }
  });
  return y;
}
