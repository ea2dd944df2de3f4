// Colours of values: 0 is the colour of the page, positive values orange, negative ones blue.
import { isDark } from "./dom.mjs";

const STOPS = {
  light: { zero: [250, 250, 250], plus: [[244, 158, 88], [166, 54, 3]], minus: [[107, 174, 226], [8, 69, 148]] },
  dark: { zero: [22, 26, 31], plus: [[202, 88, 24], [255, 214, 165]], minus: [[40, 112, 186], [190, 225, 255]] },
};
const N = 255;
const tables = {};

function tableOf(scheme) {
  const { zero, plus, minus } = STOPS[scheme], table = new Uint8ClampedArray(3 * (2 * N + 1));
  for (let i = -N; i <= N; i++) {
    const [middle, end] = i < 0 ? minus : plus, share = Math.abs(i) / N;
    const [from, to, at] = share < 0.5 ? [zero, middle, 2 * share] : [middle, end, 2 * share - 1];
    for (let c = 0; c < 3; c++) table[3 * (i + N) + c] = from[c] + (to[c] - from[c]) * at;
  }
  return table;
}

// Colour [red, green, blue] of a value between -reach and reach.
export function colourOf(value, reach) {
  const scheme = isDark() ? "dark" : "light", table = (tables[scheme] ??= tableOf(scheme));
  const place = 3 * (N + Math.round(N * Math.max(-1, Math.min(1, reach > 0 ? value / reach : 0))));
  return [table[place], table[place + 1], table[place + 2]];
}

export const css = ([red, green, blue]) => `rgb(${red} ${green} ${blue})`;

// Colour of letters on a colour.
export const inkOn = ([red, green, blue]) => (0.299 * red + 0.587 * green + 0.114 * blue > 130 ? "#111" : "#fff");

// Picture of values of rows x columns. `tint`: "value", "light" (from black to white, as pixels have
// it), or "colour" (three values each: red, green, blue). NaN stays empty.
export function picture(values, rows, columns, { reach, low = 0, high = 255, tint = "value" }) {
  const image = new ImageData(columns, rows), scheme = isDark() ? "dark" : "light";
  const table = (tables[scheme] ??= tableOf(scheme)), span = high - low || 1;
  for (let i = 0, to = 0; i < rows * columns; i++, to += 4) {
    if (tint === "colour") for (let c = 0; c < 3; c++) image.data[to + c] = (255 * (values[3 * i + c] - low)) / span;
    else if (Number.isNaN(values[i])) continue;
    else if (tint === "light") image.data.fill((255 * (values[i] - low)) / span, to, to + 3);
    else {
      const place = 3 * (N + Math.round(N * Math.max(-1, Math.min(1, reach > 0 ? values[i] / reach : 0))));
      for (let c = 0; c < 3; c++) image.data[to + c] = table[place + c];
    }
    image.data[to + 3] = 255;
  }
  return image;
}

export const reachOf = ([low, high]) => Math.max(Math.abs(low), Math.abs(high));
