// Windows that slide over a map: sizes, padding, receptive fields. One axis at a time.

// Pixels between the first and the last weight of a kernel, both included.
export const span = (kernel, dilation) => dilation * (kernel - 1) + 1;

// Zeros added [before, after] an axis of n values. `padding` is "valid" (none), "same" (as many as
// an output of ceil(n / stride) needs; an odd one comes after, as in Keras), or a number for each side.
export function padding(n, kernel, stride, dilation, padding) {
  if (padding === "valid") return [0, 0];
  if (padding !== "same") return [padding, padding];
  const total = Math.max((Math.ceil(n / stride) - 1) * stride + span(kernel, dilation) - n, 0);
  return [Math.floor(total / 2), Math.ceil(total / 2)];
}

// Number of positions of the window; 0 if it does not fit once.
export function outputSize(n, kernel, stride, dilation, [before, after]) {
  return Math.max(Math.floor((n + before + after - dilation * (kernel - 1) - 1) / stride) + 1, 0);
}

// "floor((32 + 2·1 − 1·(3 − 1) − 1) / 1) + 1 = 32"
export function sizeFormula(n, kernel, stride, dilation, [before, after]) {
  const zeros = before === after ? `2·${before}` : `${before} + ${after}`;
  const size = outputSize(n, kernel, stride, dilation, [before, after]);
  return `floor((${n} + ${zeros} − ${dilation}·(${kernel} − 1) − 1) / ${stride}) + 1 = ${size}`;
}

// Both axes of a step with a window over a map: {kernel, stride, dilation, pads, out}, pairs of
// (rows, columns).
export function windowOf(settings, rows, columns) {
  const { kernel, stride, dilation } = settings, sizes = [rows, columns];
  const pads = sizes.map((n, axis) => padding(n, kernel[axis], stride[axis], dilation[axis], Array.isArray(settings.padding) ? settings.padding[axis] : settings.padding));
  const out = sizes.map((n, axis) => outputSize(n, kernel[axis], stride[axis], dilation[axis], pads[axis]));
  return { kernel, stride, dilation, pads, out };
}

// Receptive field of the outputs of a step, in pixels of the image: output i of an axis depends on
// pixels start + i * jump to start + i * jump + size - 1; beyond the image that is padding.
// Where all outputs depend on the whole image, `whole` is true.
export const pixelField = () => ({ whole: false, axes: [0, 1].map(() => ({ start: 0, size: 1, jump: 1 })) });
export const wholeField = () => ({ whole: true, axes: pixelField().axes });

export function fieldAfter(field, { kernel, stride, dilation, pads }) {
  if (field.whole) return field;
  const axes = field.axes.map(({ start, size, jump }, axis) => ({
    start: start - pads[axis][0] * jump,
    size: size + (span(kernel[axis], dilation[axis]) - 1) * jump,
    jump: jump * stride[axis],
  }));
  return { whole: false, axes };
}

// Field of a step that combines several maps position by position.
export function fieldOfAll(fields) {
  if (fields.some((field) => field.whole)) return wholeField();
  const axes = [0, 1].map((axis) => {
    const parts = fields.map((field) => field.axes[axis]);
    const start = Math.min(...parts.map((part) => part.start));
    const end = Math.max(...parts.map((part) => part.start + part.size));
    return { start, size: end - start, jump: parts[0].jump };
  });
  return { whole: false, axes };
}

// Rectangle {top, left, height, width} of the image that the output at (row, column) depends on.
export function fieldAt(field, row, column, height, width) {
  if (field.whole) return { top: 0, left: 0, height, width };
  const [down, across] = field.axes;
  return { top: down.start + row * down.jump, left: across.start + column * across.jump, height: down.size, width: across.size };
}
