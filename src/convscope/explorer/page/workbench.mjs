// A workbench: any kernel on the image or on a map of the network, with stride, padding and dilation.
import { reachOf } from "./colour.mjs";
import { fieldWords, formulasOf, padWords } from "./describe.mjs";
import { choice, labelled, make, number, pictureSize, plural } from "./dom.mjs";
import { forward } from "./forward.mjs";
import { KERNELS } from "./kernels.mjs";
import { MapView } from "./map_view.mjs";
import { Maps } from "./maps.mjs";
import { Player } from "./player.mjs";
import { termsOf } from "./terms.mjs";
import { equationOf, numbersOf } from "./value_view.mjs";
import { fieldAfter, fieldAt, pixelField, span, windowOf } from "./windows.mjs";

const SIZES = [1, 2, 3, 4, 5, 6, 7];
const COLOURS = ["red", "green", "blue"];

export class Workbench {
  constructor(network) {
    this.network = network;
    this.state = { input: "image", map: "all", kernel: "edges", filter: 0, rows: 3, columns: 3, stride: 1, padding: "same", zeros: 1, dilation: 1, own: null };
    this.part = 0;
    [this.row, this.column] = [network.image.rows, network.image.columns].map((n) => Math.floor(n / 2));
    this.size = pictureSize();
    this.player = new Player({ n: 1, onStep: (index, playing) => this.moveTo(index, playing), onStop: () => this.show() });
    this.build();
    this.refresh();
  }

  build() {
    const { network, size, state } = this;
    // Of a network that is too large, the page has no whole maps; kernels on pixels it has.
    const layers = network.computed ? network.steps.filter((step) => step.shape.length === 3) : [];
    const convolutions = network.steps.filter((step) => step.op === "conv" && step.loaded && step.weights.kernel && (network.computed || network.inputDepth(step) === network.image.channels));
    const set = (name, read = (value) => value) => (value) => { state[name] = read(value); this.refresh(); };
    const numbers = (list) => list.map((n) => [n, String(n)]);
    this.inputSelect = choice([["image", "image"], ...layers.map((step) => [step.name, step.name])], state.input, (value) => { state.input = value; state.map = "all"; this.refresh(); });
    this.mapSelect = choice([], "", set("map"));
    this.kernelSelect = choice([...Object.entries(KERNELS).map(([key, [name]]) => [key, name]), ["own", "Your own numbers"], ...convolutions.map((step) => [`learnt/${step.name}`, `Learnt by ${step.name}`])], state.kernel, (value) => this.chooseKernel(value));
    this.filterSelect = make("input", { type: "number", min: 0, value: 0, onchange: () => { state.filter = Math.max(0, Math.min(this.learnt.weights.kernel.shape[3] - 1, Number(this.filterSelect.value) || 0)); this.refresh(); } });
    this.filterField = labelled("Kernel of map", this.filterSelect);
    this.rowsSelect = choice(numbers(SIZES), 3, set("rows", Number), { "aria-label": "Rows of the kernel" });
    this.columnsSelect = choice(numbers(SIZES), 3, set("columns", Number), { "aria-label": "Columns of the kernel" });
    this.zerosSelect = choice(numbers([0, 1, 2, 3, 4, 5, 6]), 1, set("zeros", Number));
    this.zerosField = labelled("Zeros on each side", this.zerosSelect);
    const controls = make("div", { class: "controls" },
      labelled("Input", this.inputSelect), labelled("Channels", this.mapSelect), labelled("Kernel", this.kernelSelect), this.filterField,
      make("div", { class: "field" }, make("span", {}, "Size"), make("span", { class: "pair" }, this.rowsSelect, "×", this.columnsSelect)),
      labelled("Stride", choice(numbers([1, 2, 3, 4, 5]), 1, set("stride", Number))),
      labelled("Padding", choice([["valid", "valid (none)"], ["same", "same"], ["number", "a number"]], "same", set("padding"))), this.zerosField,
      labelled("Dilation", choice(numbers([1, 2, 3, 4]), 1, set("dilation", Number))));
    this.photo = new MapView({ label: "The image, with the receptive field of the value", size: Math.min(size, 180) });
    this.source = new MapView({ label: "Input", size });
    this.target = new MapView({ label: "Output", size, describe: (row, column) => `row ${row}, column ${column}: ${number(this.output.at(row, column, 0))}`, onMove: (row, column) => this.pick(row, column), onPick: (row, column) => this.pick(row, column) });
    this.grid = make("div", { class: "kernel-grid", role: "group", "aria-label": "Numbers of the kernel" });
    this.formula = make("div", { class: "formulas" });
    this.equation = make("p", { class: "equation" });
    this.field = make("p", { class: "hint" });
    this.numbers = make("section", { class: "numbers", "aria-label": "Every number of this value" });
    this.captions = ["source", "kernel", "target"].map(() => make("figcaption"));
    this.photoFigure = make("figure", {}, make("figcaption", {}, "Image"), this.photo.element);
    this.figures = make("div", { class: "figures" }, this.photoFigure,
      make("figure", {}, this.captions[0], this.source.element), make("figure", {}, this.captions[1], this.grid), this.targetFigure = make("figure", {}, this.captions[2], this.target.element));
    this.element = make("div", { class: "workbench" }, make("h2", { tabIndex: -1 }, "Workbench: convolution on your pixels"), controls, this.formula, this.player.element, this.figures, this.equation, this.field, this.numbers);
  }

  // Name of an input channel.
  nameOf(input) {
    return this.state.input === "image" && this.x.channels === 3 ? COLOURS[input] : `map ${input}`;
  }

  get learnt() {
    return this.state.kernel.startsWith("learnt/") ? this.network.step(this.state.kernel.slice(7)) : null;
  }

  chooseKernel(kernel) {
    const { state } = this;
    if (kernel === "own") state.own = this.weightsOf(0).map((weight) => Number(weight.toPrecision(3)));
    state.kernel = kernel;
    const { learnt } = this;
    if (learnt) {
      [state.rows, state.columns] = learnt.settings.kernel;
      state.input = learnt.sources[0] < 0 || !this.network.computed ? "image" : this.network.steps[learnt.sources[0]].name;
      Object.assign(state, { map: "all", filter: 0 });
    }
    this.refresh();
  }

  // Weights of the kernel for one of its input channels.
  weightsOf(part) {
    const { state, learnt } = this, { rows, columns } = state;
    if (learnt) {
      const { data, shape: [, , depth, filters] } = learnt.weights.kernel;
      const channel = Math.min(state.map === "all" ? part : Number(state.map), depth - 1);
      return Array.from({ length: rows * columns }, (_, cell) => data[(cell * depth + channel) * filters + state.filter]);
    }
    if (state.kernel === "own" && state.own.length === rows * columns) return state.own;
    return (KERNELS[state.kernel] ?? KERNELS.identity)[1](rows, columns);
  }

  // Everything again.
  refresh() {
    const { state, network, learnt } = this;
    this.player.play(false);
    if (state.kernel === "own" && state.own.length !== state.rows * state.columns) state.own = KERNELS.identity[1](state.rows, state.columns);
    const step = state.input === "image" ? null : network.step(state.input), whole = step ? network.output(step) : network.image;
    this.maps(whole, step);
    this.x = whole;
    if (state.map !== "all") this.x = new Maps(whole.rows, whole.columns, 1, whole.map(Number(state.map)));
    const depth = this.x.channels, n = state.rows * state.columns, kernel = new Float32Array(n * depth);
    for (let part = 0; part < depth; part++) this.weightsOf(part).forEach((weight, cell) => { kernel[cell * depth + part] = weight; });
    const bias = learnt?.weights.bias ? { bias: { shape: [1], data: Float32Array.of(learnt.weights.bias.data[state.filter]) } } : {};
    const settings = { kernel: [state.rows, state.columns], stride: [state.stride, state.stride], dilation: [state.dilation, state.dilation], padding: state.padding === "number" ? state.zeros : state.padding, groups: 1 };
    this.step = { op: "conv", settings, activation: null, weights: { kernel: { shape: [state.rows, state.columns, depth, 1], data: kernel }, ...bias } };
    this.window = windowOf(settings, this.x.rows, this.x.columns);
    this.fieldOf = fieldAfter(step ? step.field : pixelField(), this.window);
    this.controls();
    this.fits = this.window.out.every((size) => size > 0);
    this.targetFigure.hidden = this.player.element.hidden = !this.fits;
    if (this.fits) {
      const run = forward([this.x], this.step);
      let found = run.next();
      while (!found.done) found = run.next();
      this.output = found.value;
      this.player.n = this.output.rows * this.output.columns;
      this.row = Math.min(this.row, this.output.rows - 1);
      this.column = Math.min(this.column, this.output.columns - 1);
      this.player.index = this.row * this.output.columns + this.column;
      this.target.set(this.output.map(0), this.output.rows, this.output.columns, { reach: reachOf(this.output.range()) });
      this.captions[2].textContent = `Output: ${this.output.rows} × ${this.output.columns}`;
    }
    this.part = Math.min(this.part, depth - 1);
    const { image } = network;
    this.photoFigure.hidden = !step;
    this.photo.set(image.channels === 3 ? image.data : image.map(0), image.rows, image.columns, { tint: image.channels === 3 ? "colour" : "light" });
    this.drawSource(step, whole);
    this.drawKernel();
    this.show();
  }

  // Choices of channels of the input.
  maps(whole, step) {
    const { state } = this, n = whole.channels;
    const name = (i) => (!step && n === 3 ? COLOURS[i] : `${i}`);
    const options = n === 1 ? [["all", "the only one"]] : [["all", `all ${n}, added up`], ...Array.from({ length: n }, (_, i) => [String(i), name(i)])];
    if (!options.some(([key]) => key === state.map)) state.map = "all";
    this.mapSelect.replaceChildren(...options.map(([key, text]) => make("option", { value: key, selected: key === state.map }, text)));
  }

  controls() {
    const { state, learnt, window, x } = this;
    this.inputSelect.value = state.input;
    this.kernelSelect.value = state.kernel;
    this.filterField.hidden = !learnt;
    this.filterSelect.value = state.filter;
    if (learnt) this.filterSelect.max = learnt.weights.kernel.shape[3] - 1;
    Object.assign(this.rowsSelect, { value: state.rows, disabled: Boolean(learnt) });
    Object.assign(this.columnsSelect, { value: state.columns, disabled: Boolean(learnt) });
    this.zerosField.hidden = state.padding !== "number";
    const sizes = formulasOf(this.step.settings, x.rows, x.columns), spans = this.step.settings.kernel.map((k) => span(k, state.dilation));
    const facts = [`Zeros: ${padWords(window.pads)}.`, `${plural(state.rows * state.columns * x.channels, "weight")}${learnt?.weights.bias ? " and a bias" : ""}.`];
    if (state.dilation > 1) facts.push(`With dilation ${state.dilation} the kernel spans ${spans.join(" × ")} pixels.`);
    const lines = [make("p", { class: "legend" }, "floor((N + 2p − d·(k − 1) − 1) / s) + 1"), ...sizes.map((text) => make("p", { class: "formula" }, text)), make("p", { class: "hint" }, facts.join(" "))];
    const [down, across] = window.pads, sides = [x.rows + down[0] + down[1], x.columns + across[0] + across[1]];
    if (!window.out.every((size) => size > 0)) lines.push(make("p", { class: "bad" }, `The kernel spans ${spans.join(" × ")} pixels and the padded input has ${sides.join(" × ")}: it fits nowhere. Choose a smaller kernel or dilation, or more padding.`));
    this.formula.replaceChildren(...lines);
  }

  drawSource(step, whole) {
    const { x, state, window } = this, pads = window.pads;
    const all = state.map === "all" && !step && whole.channels === 3;
    const shown = state.map === "all" ? this.part : 0, pixels = !step || step.pixels;
    const range = step ? x.range() : [0, 255];
    const values = all ? x.data : x.map(shown);
    this.source.set(values, x.rows, x.columns, { tint: all ? "colour" : pixels ? "light" : "value", reach: reachOf(range), low: range[0], high: range[1], pads });
    const which = all ? "" : x.channels > 1 ? `, map ${shown} of ${x.channels}` : state.map === "all" ? "" : `, ${!step && whole.channels === 3 ? COLOURS[state.map] : `map ${state.map}`}`;
    this.captions[0].textContent = `Input: ${state.input}${which}, ${x.rows} × ${x.columns}`;
  }

  drawKernel() {
    const { state, learnt } = this, weights = this.weightsOf(this.part);
    this.captions[1].textContent = learnt && this.x.channels > 1 ? `Kernel: weights for ${this.nameOf(this.part)}` : "Kernel (change any number)";
    this.grid.style.gridTemplateColumns = `repeat(${state.columns}, minmax(0, 3.6rem))`;
    // The fields stay while their number does: one of them may be in focus.
    if (this.grid.children.length !== weights.length)
      this.grid.replaceChildren(...weights.map((_, cell) => make("input", { type: "number", step: "any", onchange: (event) => this.change(cell, Number(event.target.value) || 0) })));
    weights.forEach((weight, cell) => {
      const field = this.grid.children[cell];
      Object.assign(field, { value: Number(weight.toPrecision(3)), disabled: Boolean(learnt) });
      field.setAttribute("aria-label", `Row ${Math.floor(cell / state.columns)}, column ${cell % state.columns}`);
    });
  }

  // One number of the kernel, which is then one's own.
  change(cell, weight) {
    const own = this.weightsOf(this.part).map((each) => Number(each.toPrecision(3)));
    own[cell] = weight;
    Object.assign(this.state, { own, kernel: "own" });
    this.refresh();
  }

  pick(row, column) {
    this.player.play(false);
    this.player.go(row * this.output.columns + column);
  }

  moveTo(index, playing) {
    this.row = Math.floor(index / this.output.columns);
    this.column = index % this.output.columns;
    this.show(playing);
  }

  show(playing = false) {
    const { network, row, column, fits } = this;
    if (!fits) {
      this.source.draw();
      this.equation.replaceChildren();
      this.numbers.replaceChildren();
      this.field.textContent = "";
      return;
    }
    const terms = termsOf(this.step, [this.x], row, column, 0);
    this.source.draw({ cells: terms.cells });
    this.target.draw({ mark: { row, column }, until: playing ? this.player.index : null });
    this.photo.draw({ box: fieldAt(this.fieldOf, row, column, network.image.rows, network.image.columns) });
    this.equation.replaceChildren(...equationOf(this.step, terms, terms.value));
    if (playing && this.player.speed > 2) return;
    this.target.named();
    this.field.textContent = fieldWords(this.fieldOf, row, column, network.image.rows, network.image.columns);
    this.numbers.replaceChildren(...numbersOf(this.step, terms, this.part, { network, channel: 0, pick: (input) => { this.part = input; this.refresh(); }, nameOf: (input) => this.nameOf(input) }));
  }
}
