// Layers in words.
import { labelOf } from "./activations.mjs";
import { number, plural, times } from "./dom.mjs";
import { fieldAt, sizeFormula, windowOf } from "./windows.mjs";

export const shapeOf = (step) => times(...step.shape);
export const shortName = (name) => name.split("/").at(-1);

// What one part of a layer's output is called: "map 3", or "value 3" of a vector.
export const partOf = (step, channel) => `${step.shape.length === 3 ? "map" : "value"} ${channel}`;

export function purposeOf(step, network) {
  const { settings, activation } = step, after = activation ? `, then ${labelOf(activation)}` : "";
  const window = settings.kernel && times(...settings.kernel);
  switch (step.op) {
    case "conv": {
      const filters = step.shape.at(-1), depth = network.inputDepth(step) / (settings.groups ?? 1);
      const groups = settings.groups > 1 ? ` in ${settings.groups} groups` : "";
      return `Convolution with ${plural(filters, "kernel")} of ${window} × ${depth}${groups}${paddingIn(step, network)}${after}`;
    }
    case "depthwise": return `Convolution of each map with a kernel of its own, ${window}${paddingIn(step, network)}${after}`;
    case "dense": return `Dense layer: each output is the sum of all ${network.inputDepth(step)} inputs, each times a weight${step.params > network.inputDepth(step) * step.shape[0] ? ", plus a bias" : ""}${after}`;
    case "max_pool": return `Max pooling: the largest value of each ${window} window${paddingIn(step, network)}`;
    case "mean_pool": return `Average pooling: the mean of each ${window} window${paddingIn(step, network)}`;
    case "global_max": return "Global max pooling: the largest value of each map";
    case "global_mean": return "Global average pooling: the mean of each map";
    case "batch_norm": return "Batch normalisation: each map is shifted and scaled by its own four numbers";
    case "rescale": return "Rescaling of the pixels: each value times a factor, plus an offset";
    case "flatten": return "Flatten: the values of all maps in one row";
    case "activation": return activation.name === "softmax" ? "Softmax: from numbers to probabilities that sum to 1" : `${labelOf(activation)}, value by value`;
    case "add": return "Addition of maps, value by value (a skip connection)";
    case "multiply": return "Multiplication of maps, value by value";
    case "concatenate": return "Maps of several layers, one after the other";
    case "pad": return "Zero padding around each map";
    case "resize": return "Resizing to the size that the network works at";
    default: return `${step.kind}: the page shows its output only`;
  }
}

function paddingIn(step, network) {
  const { settings: { stride, padding, dilation } } = step, { pads } = windowOf(step.settings, ...network.inputSize(step));
  const parts = [stride[0] === stride[1] ? `stride ${stride[0]}` : `stride ${times(...stride)}`];
  if (padding === "valid") parts.push("no padding (valid)");
  else parts.push(`${padding === "same" ? "same " : ""}padding: ${padWords(pads)}`);
  if (dilation.some((d) => d > 1)) parts.push(`dilation ${times(...dilation)}`);
  return `, ${parts.join(", ")}`;
}

// "1 on each side", or each side by name.
export function padWords([[top, bottom], [left, right]]) {
  if (top === bottom && left === right && top === left) return top === 0 ? "none needed" : `${top} on each side`;
  return `${top} above, ${bottom} below, ${left} left, ${right} right`;
}

// Formulas of the output's size with the numbers in them: one, or one for each axis.
export function formulasOf(settings, rows, columns) {
  const { pads } = windowOf(settings, rows, columns), { kernel, stride, dilation } = settings;
  const [down, across] = [rows, columns].map((n, axis) => sizeFormula(n, kernel[axis], stride[axis], dilation[axis], pads[axis]));
  return down === across ? [down] : [`rows: ${down}`, `columns: ${across}`];
}

// The part of the image that a value depends on, in words.
export function fieldWords(field, row, column, height, width) {
  if (field.whole) return "It depends on the whole image.";
  const box = fieldAt(field, row, column, height, width);
  const over = box.top < 0 || box.left < 0 || box.top + box.height > height || box.left + box.width > width;
  const size = [box.height, box.width].map((n) => number(n));
  return `It depends on ${size.join(" × ")} pixels of the image (receptive field)${over ? ", partly in the padding" : ""}.`;
}
