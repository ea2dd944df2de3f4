// The network of a page: its steps in order, and their outputs for the image that is shown.
import { Maps } from "./maps.mjs";
import { forward } from "./forward.mjs";
import { fieldAfter, fieldOfAll, pixelField, wholeField, windowOf } from "./windows.mjs";
import { givenInputs, givenOutput } from "./given.mjs";
import { termsOf } from "./terms.mjs";
import { unpackBytes, unpackFloats } from "./unpack.mjs";

const SLICE_MS = 6;

// Control goes back to the browser, and comes back soon; a timer would wait for 4 ms.
const pause = () => new Promise((resolve) => {
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = () => { port1.close(); resolve(); };
  port2.postMessage(null);
});

export class Network {
  // Network of a page's payload; `textOf` returns the text of an array by its number.
  static async open(payload, textOf) {
    const network = new Network();
    network.payload = payload;
    const [height, width, channels] = payload.image.shape;
    network.first = new Maps(height, width, channels, Float32Array.from(await unpackBytes(textOf(payload.image.blob))));
    network.textOf = textOf;
    network.computed = payload.computed;
    network.steps = payload.steps.map((step, index) => ({ explained: true, ...step, index }));
    for (const step of network.steps) {
      step.field = network.fieldOf(step);
      step.pixels = ["rescale", "resize", "pad"].includes(step.op) && step.sources.every((source) => source < 0 || network.steps[source].pixels);
    }
    network.image = network.first;
    network.outputs = [];
    network.crops = [];
    if (network.computed) {
      for (const step of network.steps) await network.loadWeights(step);
      await network.show(network.first);
    } else await network.load(network.steps.at(-1));
    return network;
  }

  async loadWeights(step) {
    const weights = {};
    for (const [name, { shape, blob }] of Object.entries(step.weights)) weights[name] = { shape, data: await unpackFloats(this.textOf(blob)) };
    step.weights = weights;
    step.loaded = true;
  }

  // Unpack what the page holds of a step; nothing is left to do where the page computes.
  async load(step) {
    if (step.loaded) return;
    await this.loadWeights(step);
    this.outputs[step.index] = await givenOutput(step, this.textOf);
    this.crops[step.index] = await givenInputs(step, this.textOf);
  }

  // A step, and the steps that it takes its input from.
  async loadAround(step) {
    for (const source of step.sources) if (source >= 0) await this.load(this.steps[source]);
    await this.load(step);
  }

  // Channels of a step that the page can show and explain; null for all.
  channelsOf(step) {
    return step.given?.channels ?? null;
  }

  // Positions {top, left, rows, columns} of a step whose numbers the page holds.
  windowOf(step) {
    const output = this.output(step), [top, left, rows, columns] = step.given?.window ?? [0, 0, output.rows, output.columns];
    return { top, left, rows, columns };
  }

  // Terms of a value, see `termsOf`; null where the page cannot compute them.
  terms(step, row, column, channel) {
    const channels = this.channelsOf(step), place = channels ? channels.indexOf(channel) : channel;
    if (!step.explained || place < 0) return null;
    const found = termsOf(step, this.inputs(step), row, column, place, this.unflattened(step));
    if (channels && step.op !== "conv" && step.op !== "dense") found.inputs = [channel];
    return found;
  }

  // Compute everything for another image, `Maps` of 0..255 in the size of the first one. A later call
  // overtakes an earlier one. Returns whether it came to its end.
  async show(image) {
    const turn = (this.turn = Symbol("turn"));
    const outputs = [];
    let start = performance.now();
    for (const step of this.steps) {
      const run = forward(step.sources.map((source) => (source < 0 ? image : outputs[source])), step);
      let state = run.next();
      while (!state.done) {
        if (performance.now() - start > SLICE_MS) {
          await pause();
          if (this.turn !== turn) return false;
          start = performance.now();
        }
        state = run.next();
      }
      outputs.push(state.value);
    }
    this.image = image;
    this.outputs = outputs;
    return true;
  }

  step(name) {
    return this.steps.find((step) => step.name === name);
  }

  output(step) {
    return this.outputs[step.index];
  }

  inputs(step) {
    return this.computed ? step.sources.map((source) => (source < 0 ? this.image : this.outputs[source])) : this.crops[step.index];
  }

  // Maps whose flattened values a dense layer takes, if it does.
  unflattened(step) {
    const source = this.computed && step.op === "dense" && step.sources[0] >= 0 ? this.steps[step.sources[0]] : null;
    if (source?.op !== "flatten") return null;
    const [x] = this.inputs(source);
    return x.vector ? null : x;
  }

  // Name of what a step takes as its nth input.
  sourceName(step, n = 0) {
    return step.sources[n] < 0 ? "image" : this.steps[step.sources[n]].name;
  }

  get probs() {
    return this.outputs.at(-1).data;
  }

  // Size of a step's nth input: [rows, columns].
  inputSize(step, n = 0) {
    const shape = step.sources[n] < 0 ? this.payload.image.shape : this.steps[step.sources[n]].shape;
    return shape.length === 3 ? shape.slice(0, 2) : [1, 1];
  }

  // Channels of a step's first input; values of a vector.
  inputDepth(step) {
    const shape = step.sources[0] < 0 ? this.payload.image.shape : this.steps[step.sources[0]].shape;
    return shape.at(-1);
  }

  fieldOf(step) {
    const fields = step.sources.map((source) => (source < 0 ? pixelField() : this.steps[source].field));
    if (["dense", "flatten", "global_max", "global_mean"].includes(step.op) || step.shape.length !== 3) return wholeField();
    if (step.settings.kernel) return fieldAfter(fields[0], windowOf(step.settings, ...this.inputSize(step)));
    if (step.op === "pad") {
      const [rows, columns] = step.settings.padding;
      return fieldAfter(fields[0], { kernel: [1, 1], stride: [1, 1], dilation: [1, 1], pads: [rows, columns] });
    }
    if (step.op === "resize") return { whole: false, axes: this.resizedAxes(step) };
    return fieldOfAll(fields);
  }

  // Fields in pixels of the image that is shown, where the network works at another size.
  resizedAxes(step) {
    return this.inputSize(step).map((n, axis) => {
      const jump = n / step.shape[axis];
      return { start: (jump - Math.max(jump, 1)) / 2, size: Math.max(jump, 1), jump };
    });
  }
}
