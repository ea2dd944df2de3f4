// Outputs of a network that is too large for the page: small pictures of some maps, and exact numbers in
// a window of positions; see `given.py`.
import { Maps } from "./maps.mjs";
import { unpackBytes, unpackFloats } from "./unpack.mjs";

// A part of a map, for the arithmetic of a window.
class Crop extends Maps {
  constructor({ whole: [rows, columns], origin, shape }, data) {
    super(rows, columns, shape[2], data);
    Object.assign(this, { origin, shape });
  }

  at(row, column, channel) {
    const y = row - this.origin[0], x = column - this.origin[1];
    return y >= 0 && x >= 0 && y < this.shape[0] && x < this.shape[1] ? this.data[(y * this.shape[1] + x) * this.channels + channel] : NaN;
  }

  // The whole map; NaN where nothing is known.
  map(channel) {
    const found = new Float32Array(this.rows * this.columns);
    for (let row = 0, to = 0; row < this.rows; row++) for (let column = 0; column < this.columns; column++) found[to++] = this.at(row, column, channel);
    return found;
  }
}

// Some maps of a layer; exact in a window only.
class GivenMaps extends Maps {
  constructor(shape, given, pictures, values) {
    super(...shape, values ?? new Float32Array(0));
    Object.assign(this, { given, pictures });
  }

  at(row, column, channel) {
    const { channels, window } = this.given, place = channels.indexOf(channel);
    if (!window || place < 0) return NaN;
    const y = row - window[0], x = column - window[1];
    return y >= 0 && x >= 0 && y < window[2] && x < window[3] ? this.data[(y * window[3] + x) * channels.length + place] : NaN;
  }

  picture(channel) {
    const { channels, rows, columns, low, high } = this.given, place = channels.indexOf(channel), n = rows * columns;
    const values = new Float32Array(n).fill(NaN), step = place < 0 ? 0 : (high[place] - low[place]) / 255;
    if (place >= 0) for (let i = 0; i < n; i++) values[i] = low[place] + step * this.pictures[place * n + i];
    return { values, rows, columns };
  }

  range(channel = null) {
    const place = this.given.channels.indexOf(channel);
    return place < 0 ? this.given.range : [this.given.low[place], this.given.high[place]];
  }
}

// Output of a step.
export async function givenOutput({ shape, given }, textOf) {
  if (given.vector !== undefined) {
    const data = await unpackFloats(textOf(given.vector));
    return new Maps(1, 1, data.length, data, true);
  }
  const values = given.values === undefined ? null : await unpackFloats(textOf(given.values));
  return new GivenMaps(shape, given, await unpackBytes(textOf(given.maps)), values);
}

// Inputs of a step, as far as its window needs them.
export async function givenInputs({ given }, textOf) {
  return Promise.all((given.crops ?? []).map(async (crop) => {
    if (crop.vector === undefined) return new Crop(crop, await unpackFloats(textOf(crop.blob)));
    const data = await unpackFloats(textOf(crop.vector));
    return new Maps(1, 1, data.length, data, true);
  }));
}
