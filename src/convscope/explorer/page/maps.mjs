// Feature maps: values of shape (rows, columns, channels), channels last, as Keras holds them.
// A vector of n values is a map of 1 x 1 with n channels.

export class Maps {
  constructor(rows, columns, channels, data = new Float32Array(rows * columns * channels), vector = false) {
    Object.assign(this, { rows, columns, channels, data, vector });
  }

  static ofShape(shape, data) {
    return shape.length === 3 ? new Maps(...shape, data) : new Maps(1, 1, shape[0], data, true);
  }

  at(row, column, channel) {
    return this.data[(row * this.columns + column) * this.channels + channel];
  }

  // Value there, 0 outside of the map, as padding has it.
  padded(row, column, channel) {
    return this.holds(row, column) ? this.at(row, column, channel) : 0;
  }

  holds(row, column) {
    return row >= 0 && column >= 0 && row < this.rows && column < this.columns;
  }

  // One map as an array of rows x columns.
  map(channel) {
    const found = new Float32Array(this.rows * this.columns);
    for (let i = 0; i < found.length; i++) found[i] = this.data[i * this.channels + channel];
    return found;
  }

  // One map as it is drawn.
  picture(channel) {
    return { values: this.map(channel), rows: this.rows, columns: this.columns };
  }

  // Smallest and largest value of one map, or of all.
  range(channel = null) {
    let low = Infinity, high = -Infinity;
    const step = channel === null ? 1 : this.channels;
    for (let i = channel ?? 0; i < this.data.length; i += step) {
      if (this.data[i] < low) low = this.data[i];
      if (this.data[i] > high) high = this.data[i];
    }
    return [low, high];
  }
}
