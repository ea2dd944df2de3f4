// The arithmetic of the explorer's page, on numbers that can be checked by hand.
import assert from "node:assert/strict";
import test from "node:test";
import { Maps } from "../../../src/convscope/explorer/page/maps.mjs";
import { forward } from "../../../src/convscope/explorer/page/forward.mjs";
import { activationOf, softmax } from "../../../src/convscope/explorer/page/activations.mjs";
import { termsOf } from "../../../src/convscope/explorer/page/terms.mjs";
import { fieldAfter, fieldAt, outputSize, padding, pixelField, sizeFormula, windowOf } from "../../../src/convscope/explorer/page/windows.mjs";
import { fitted, resized } from "../../../src/convscope/explorer/page/resize.mjs";

function result(run) {
  let state = run.next();
  while (!state.done) state = run.next();
  return state.value;
}
const weights = (shape, values) => ({ shape, data: Float32Array.from(values) });
const counting = (rows, columns, channels) => new Maps(rows, columns, channels, Float32Array.from({ length: rows * columns * channels }, (_, i) => i + 1));
const window = (more = {}) => ({ kernel: [2, 2], stride: [1, 1], padding: "valid", dilation: [1, 1], groups: 1, ...more });
const close = (found, wanted, by = 1e-6) => {
  assert.equal(found.length, wanted.length);
  for (const [i, value] of Array.from(found).entries()) assert.ok(Math.abs(value - wanted[i]) <= by, `${i}: ${value}, not ${wanted[i]}`);
};

test("padding is that of Keras: an odd zero comes after", () => {
  assert.deepEqual(padding(32, 3, 1, 1, "same"), [1, 1]);
  assert.deepEqual(padding(32, 3, 2, 1, "same"), [0, 1]);
  assert.deepEqual(padding(5, 4, 1, 1, "same"), [1, 2]);
  assert.deepEqual(padding(8, 3, 1, 3, "same"), [3, 3]);
  assert.deepEqual(padding(8, 3, 5, 1, "same"), [0, 0]);
  assert.deepEqual(padding(8, 3, 1, 1, "valid"), [0, 0]);
  assert.deepEqual(padding(8, 3, 1, 1, 4), [4, 4]);
});

test("sizes round down, and a window that does not fit gives none", () => {
  assert.equal(outputSize(7, 3, 2, 1, [0, 0]), 3);
  assert.equal(outputSize(8, 3, 2, 1, [0, 0]), 3);
  assert.equal(outputSize(8, 3, 1, 2, [0, 0]), 4);
  assert.equal(outputSize(3, 3, 2, 2, [0, 0]), 0);
  assert.equal(sizeFormula(32, 3, 2, 1, [0, 1]), "floor((32 + 0 + 1 − 1·(3 − 1) − 1) / 2) + 1 = 16");
  assert.equal(sizeFormula(8, 3, 1, 2, [1, 1]), "floor((8 + 2·1 − 2·(3 − 1) − 1) / 1) + 1 = 6");
});

test("convolution adds patch times kernel over all channels, and the bias", () => {
  const step = { op: "conv", settings: window(), activation: null, weights: { kernel: weights([2, 2, 1, 2], [1, 0, 0, 0, 0, 0, -1, 1]), bias: weights([2], [0.5, 0]) } };
  close(result(forward([counting(3, 3, 1)], step)).data, [-3.5, 5, -3.5, 6, -3.5, 8, -3.5, 9]);
});

test("convolution with stride, dilation and padding", () => {
  const kernel = weights([2, 2, 1, 1], [1, 10, 100, 1000]), x = counting(4, 4, 1);
  const of = (more) => result(forward([x], { op: "conv", settings: window(more), activation: null, weights: { kernel } }));
  close(of({ stride: [2, 2] }).data, [6521, 8743, 14 * 1000 + 13 * 100 + 10 * 10 + 9, 16 * 1000 + 15 * 100 + 12 * 10 + 11]);
  close(of({ dilation: [3, 3] }).data, [1 + 4 * 10 + 13 * 100 + 16 * 1000]);
  const same = of({ padding: "same" });
  assert.deepEqual([same.rows, same.columns], [4, 4]);
  assert.equal(same.at(3, 3, 0), 16);
  assert.equal(same.at(0, 3, 0), 4 + 8 * 100);
  const padded = of({ padding: 1 });
  assert.deepEqual([padded.rows, padded.columns], [5, 5]);
  assert.equal(padded.at(0, 0, 0), 1000);
});

test("groups and depthwise kernels see their own channels only", () => {
  const x = counting(1, 1, 4), one = { kernel: [1, 1] };
  const grouped = { op: "conv", settings: window({ ...one, groups: 2 }), activation: null, weights: { kernel: weights([1, 1, 2, 2], [1, 10, 1, 10]) } };
  close(result(forward([x], grouped)).data, [3, 70]);
  assert.deepEqual(termsOf(grouped, [x], 0, 0, 1).inputs, [2, 3]);
  assert.equal(termsOf(grouped, [x], 0, 0, 1).value, 70);
  const depthwise = { op: "depthwise", settings: window(one), activation: null, weights: { kernel: weights([1, 1, 4, 2], [1, 2, 1, 2, 1, 2, 1, 2]) } };
  close(result(forward([x], depthwise)).data, [1, 2, 2, 4, 3, 6, 4, 8]);
  assert.equal(termsOf(depthwise, [x], 0, 0, 7).value, 8);
});

test("pooling ignores what lies outside of the map", () => {
  const x = new Maps(3, 3, 1, Float32Array.from([-1, -2, -3, -4, -5, -6, -7, -8, -9])), settings = window({ stride: [2, 2], padding: "same" });
  close(result(forward([x], { op: "max_pool", settings, weights: {}, activation: null })).data, [-1, -3, -7, -9]);
  close(result(forward([x], { op: "mean_pool", settings, weights: {}, activation: null })).data, [-3, -4.5, -7.5, -9]);
  const terms = termsOf({ op: "max_pool", settings, weights: {}, activation: null }, [x], 0, 1, 0);
  assert.deepEqual([terms.winner, terms.value, terms.count], [0, -3, 2]);
});

test("dense, global pooling, BatchNorm, rescaling and merges", () => {
  const x = new Maps(1, 1, 2, Float32Array.from([2, -1]), true);
  const dense = { op: "dense", settings: {}, activation: { name: "relu" }, weights: { kernel: weights([2, 2], [1, 2, 3, 4]), bias: weights([2], [0.5, 0.25]) } };
  close(result(forward([x], dense)).data, [0, 0.25]);
  const y = counting(2, 2, 2), plain = { settings: {}, weights: {}, activation: null };
  close(result(forward([y], { ...plain, op: "global_max" })).data, [7, 8]);
  close(result(forward([y], { ...plain, op: "global_mean" })).data, [4, 5]);
  const norm = { op: "batch_norm", activation: null, settings: { epsilon: 1 }, weights: { gamma: weights([2], [2, 1]), beta: weights([2], [0, 1]), mean: weights([2], [4, 5]), variance: weights([2], [3, 0]) } };
  close(result(forward([y], norm)).data, [-3, -2, -1, 0, 1, 2, 3, 4]);
  assert.equal(termsOf(norm, [y], 1, 0, 1).value, 2);
  close(result(forward([x], { ...plain, op: "rescale", settings: { scale: [2, 3], offset: [1, 0] } })).data, [5, -3]);
  close(result(forward([x, x], { ...plain, op: "add" })).data, [4, -2]);
  close(result(forward([x, x], { ...plain, op: "multiply" })).data, [4, 1]);
  close(result(forward([y, x], { ...plain, op: "multiply" })).data, [2, -2, 6, -4, 10, -6, 14, -8]);
  assert.deepEqual(termsOf({ ...plain, op: "multiply" }, [y, x], 1, 0, 1).parts, [6, -1]);
  close(result(forward([x, x], { ...plain, op: "concatenate" })).data, [2, -1, 2, -1]);
  const padded = result(forward([y], { ...plain, op: "pad", settings: { padding: [[0, 1], [1, 0]] } }));
  assert.deepEqual([padded.rows, padded.columns, padded.at(0, 1, 1), padded.at(0, 0, 1), padded.at(2, 2, 0)], [3, 3, 2, 0, 0]);
});

test("activation functions", () => {
  const at = (name, x, more = {}) => activationOf({ name, ...more })(x);
  close([at("silu", 1), at("gelu", 1), at("gelu", -3), at("sigmoid", -800), at("softplus", 800)], [0.7310586, 0.8413447, -0.0040497, 0, 800]);
  close([at("relu", -2, { slope: 0.1 }), at("relu", 9, { max: 6 }), at("relu6", 9), at("hard_silu", 1), at("elu", -1)], [-0.2, 6, 6, 2 / 3, -0.6321206]);
  const { shares, sum } = softmax([1000, 1000, 999]);
  close(shares, [0.4223188, 0.4223188, 0.1553624]);
  close([sum], [2 + Math.exp(-1)]);
});

test("the terms of every value add up to it", () => {
  const x = new Maps(5, 6, 3, Float32Array.from({ length: 90 }, (_, i) => Math.sin(3 * i)));
  const kernel = weights([3, 3, 3, 4], Array.from({ length: 108 }, (_, i) => Math.cos(5 * i)));
  for (const more of [{ padding: "same" }, { stride: [2, 1] }, { dilation: [2, 1], padding: 2 }, { stride: [3, 3], padding: "same" }]) {
    const step = { op: "conv", settings: window({ kernel: [3, 3], ...more }), activation: { name: "silu" }, weights: { kernel, bias: weights([4], [1, -1, 0.5, 0]) } };
    const y = result(forward([x], step));
    for (let row = 0; row < y.rows; row++) for (let column = 0; column < y.columns; column++) for (let channel = 0; channel < 4; channel++) {
      const terms = termsOf(step, [x], row, column, channel);
      close([terms.value, terms.sums.reduce((a, b) => a + b) + terms.bias], [y.at(row, column, channel), terms.before], 1e-5);
      assert.equal(terms.products.flat().length, 27);
    }
  }
});

test("receptive fields follow stride, padding and dilation", () => {
  const conv = { kernel: [3, 3], stride: [1, 1], padding: "same", dilation: [1, 1] }, pool = { kernel: [2, 2], stride: [2, 2], padding: "valid", dilation: [1, 1] };
  let field = pixelField();
  for (const [settings, n] of [[conv, 32], [pool, 32], [conv, 16], [pool, 16], [conv, 8]]) field = fieldAfter(field, windowOf(settings, n, n));
  // 1, +2, +1, +2*2, +1*2, +2*4 = 18 pixels; 4 apart.
  assert.deepEqual(fieldAt(field, 0, 0, 32, 32), { top: -7, left: -7, height: 18, width: 18 });
  assert.deepEqual(fieldAt(field, 7, 1, 32, 32), { top: 21, left: -3, height: 18, width: 18 });
  const dilated = fieldAfter(pixelField(), windowOf({ ...conv, dilation: [2, 3], padding: "valid" }, 32, 32));
  assert.deepEqual(fieldAt(dilated, 1, 1, 32, 32), { top: 1, left: 1, height: 5, width: 7 });
});

test("resizing averages what shrinks and keeps what stays", () => {
  const x = counting(4, 4, 1);
  close(resized(x, 4, 4).data, x.data);
  close(resized(new Maps(1, 2, 1, Float32Array.from([0, 4])), 1, 4).data, [0, 1, 3, 4]);
  // A triangle of two output pixels around each centre, cut off at the ends.
  close(resized(new Maps(1, 4, 1, Float32Array.from([7, 0, 0, 0])), 1, 2).data, [3, 0]);
  close(resized(new Maps(1, 4, 1, Float32Array.from([0, 7, 0, 0])), 1, 2).data, [3, 1]);
});

test("an image of another aspect ratio is squashed, cropped or padded as the network's own were", () => {
  const x = new Maps(2, 4, 1, Float32Array.from([0, 10, 20, 30, 40, 50, 60, 70]));
  close(fitted(x, 2, 2, "squash").data, resized(x, 2, 2).data);
  close(fitted(x, 2, 2, "crop").data, [10, 20, 50, 60]);
  close(fitted(x, 4, 4, "pad").data, [127, 127, 127, 127, ...x.data, 127, 127, 127, 127]);
  // What Pillow makes of it with BILINEAR and box=(0.5, 0, 2.5, 2): (0 / 2 + 6 + 60 / 2) / 2.
  const three = new Maps(2, 3, 1, Float32Array.from([0, 6, 60, 0, 6, 60]));
  close(fitted(three, 1, 1, "crop").data, [18]);
  const upright = new Maps(3, 1, 2, Float32Array.from([1, 2, 3, 4, 5, 6]));
  close(fitted(upright, 3, 3, "pad").data, [127, 127, 1, 2, 127, 127, 127, 127, 3, 4, 127, 127, 127, 127, 5, 6, 127, 127]);
  // Never thinner than a pixel.
  close(fitted(new Maps(1, 9, 1, new Float32Array(9)), 2, 2, "pad").data, [0, 0, 127, 127]);
});
