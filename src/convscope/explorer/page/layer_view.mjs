// One map of a layer: its window slides over the input, step by step, and each value can be opened.
import { reachOf } from "./colour.mjs";
import { fieldWords, formulasOf, partOf, purposeOf, shapeOf, shortName } from "./describe.mjs";
import { announce, button, choice, count, labelled, make, number, pictureSize, plural, times } from "./dom.mjs";
import { MapView } from "./map_view.mjs";
import { Player } from "./player.mjs";
import { Sums } from "./sums.mjs";
import { equationOf, numbersOf } from "./value_view.mjs";
import { fieldAt } from "./windows.mjs";

export class LayerView {
  // `place` is {channel, row, column, opened}; `go(step, place)` changes the address.
  constructor(network, step, place, { go, byLayer }) {
    Object.assign(this, { network, step, go, byLayer });
    const output = network.output(step);
    this.vector = output.vector;
    this.across = this.vector ? Math.ceil(Math.sqrt(output.channels)) : output.columns;
    this.channels = network.channelsOf(step) ?? Array.from({ length: output.channels }, (_, i) => i);
    this.channel = this.channels.includes(place.channel) ? place.channel : this.channels[0];
    this.window = network.windowOf(step);
    const { top, left, rows, columns } = this.window;
    this.goTo(place.row ?? top + Math.floor(rows / 2), place.column ?? left + Math.floor(columns / 2));
    this.opened = place.opened ?? false;
    this.input = null;
    this.size = pictureSize();
    this.player = new Player({ n: this.vector ? this.channels.length : rows * columns, index: this.index, onStep: (index, playing) => this.moveTo(index, playing), onStop: () => { this.show(); this.remember(); } });
    this.build();
    this.refresh();
  }

  get index() {
    return this.vector ? this.channels.indexOf(this.channel) : (this.row - this.window.top) * this.window.columns + this.column - this.window.left;
  }

  // The value at (row, column), or the nearest one whose numbers are known.
  goTo(row, column) {
    const { top, left, rows, columns } = this.window;
    this.row = Math.max(top, Math.min(top + rows - 1, row));
    this.column = Math.max(left, Math.min(left + columns - 1, column));
  }

  build() {
    const { network, step } = this, steps = network.steps;
    const to = (other) => `#/${encodeURIComponent(other.name)}`;
    const neighbours = make("nav", { class: "neighbours", "aria-label": "Layers" },
      step.index > 0 ? make("a", { href: to(steps[step.index - 1]) }, `← ${shortName(steps[step.index - 1].name)}`) : null,
      step.index < steps.length - 1 ? make("a", { href: to(steps[step.index + 1]) }, `${shortName(steps[step.index + 1].name)} →`) : null);
    const n = this.channels.length;
    this.select = n <= 2048
      ? choice(this.channels.map((channel) => [channel, this.nameOf(channel)]), this.channel, (value) => this.changeChannel(Number(value)))
      : make("input", { type: "number", min: 0, max: n - 1, value: this.channel, onchange: () => this.changeChannel(Math.max(0, Math.min(n - 1, Number(this.select.value) || 0))) });
    this.heading = make("h2", { tabIndex: -1 }, step.name);
    this.facts = make("ul", { class: "facts" });
    for (const fact of this.factsOf()) this.facts.append(make("li", {}, fact));
    const top = make("div", { class: "top" },
      make("div", {}, make("p", { class: "crumbs" }, make("a", { href: "#/" }, "Network"), " › ", step.name), this.heading, this.facts), neighbours);
    this.controls = make("div", { class: "controls" },
      labelled(step.shape.length === 3 ? "Map" : this.isLast ? "Class" : "Value", this.select), this.player.element);
    this.figures = make("div", { class: "figures" });
    this.equation = make("p", { class: "equation" });
    this.field = make("p", { class: "hint" });
    this.sumsBox = make("div", {});
    this.opener = button("", () => this.open(!this.opened), { class: "opener" });
    this.numbers = make("section", { class: "numbers", "aria-label": "Every number of this value" });
    this.element = make("div", { class: "layer-view" }, top, this.controls, this.figures, this.equation, this.sumsBox, this.opener, this.numbers, this.field);
    this.buildFigures();
  }

  get isLast() {
    return this.step.index === this.network.steps.length - 1;
  }

  nameOf(channel) {
    return this.isLast ? this.network.payload.classes[channel] : `${channel} of ${this.step.shape.at(-1)}`;
  }

  factsOf() {
    const { step, network } = this, inputs = step.sources.map((source) => (source < 0 ? network.payload.image.shape : network.steps[source].shape));
    const facts = [`${purposeOf(step, network)}.`, `${inputs.map((shape) => times(...shape)).join(" and ")} becomes ${shapeOf(step)}.`];
    if (step.settings.kernel) facts.push(...formulasOf(step.settings, ...network.inputSize(step)).map((formula) => `Size: ${formula}`));
    const cost = [step.params ? plural(step.params, "parameter") : "", step.multiplyAdds ? `${count(step.multiplyAdds)} multiply-adds` : ""].filter(Boolean);
    if (cost.length) facts.push(`${cost.join(", ")}.`);
    return facts;
  }

  buildFigures() {
    const { step, size } = this, describe = (row, column) => this.describe(row, column);
    this.photo = new MapView({ label: "The image, with the receptive field of the value", size: Math.min(size, 180) });
    this.source = new MapView({ label: `Input of ${step.name}`, size });
    this.kernel = new MapView({ label: "Kernel", size: Math.min(size, 190), maxCell: 50 });
    this.target = new MapView({
      label: `Output of ${step.name}`, size, describe,
      onMove: (row, column) => this.choose(row, column),
      onPick: (row, column) => { this.choose(row, column); this.open(true, true); },
    });
    this.captions = {};
    const figure = (key, view, caption) => make("figure", { class: key }, this.captions[key] = make("figcaption", {}, caption), view.element);
    const terms = this.terms();
    this.figures.append(figure("photo", this.photo, "Image"));
    this.sourceFigure = figure("source", this.source, "");
    this.figures.append(this.sourceFigure);
    if (terms?.kind === "sum") this.figures.append(figure("kernel", this.kernel, ""));
    this.figures.append(figure("target", this.target, ""));
    this.sums = terms?.kind === "sum" && terms.inputs.length > 1 ? new Sums((input) => { this.input = input; this.refresh(); }) : null;
    if (this.sums) this.sumsBox.replaceWith(this.sums.element);
  }

  // What the value is computed from; null if the page does not know.
  terms() {
    return this.network.terms(this.step, this.row, this.column, this.channel);
  }

  choose(row, column) {
    this.player.play(false);
    if (this.vector) {
      const index = this.channels.indexOf(row * this.across + column);
      if (index >= 0) this.player.go(index);
      return;
    }
    this.goTo(row, column);
    this.player.go(this.index);
  }

  describe(row, column) {
    const output = this.network.output(this.step);
    if (this.vector) {
      const channel = Math.min(row * this.across + column, output.channels - 1);
      return `${this.isLast ? this.nameOf(channel) : `value ${channel}`}: ${number(output.at(0, 0, channel))}`;
    }
    return `row ${row}, column ${column}: ${number(output.at(row, column, this.channel))}`;
  }

  changeChannel(channel) {
    this.player.play(false);
    if (this.vector) this.player.go(this.channels.indexOf(channel));
    else {
      this.channel = channel;
      this.refresh();
    }
    this.remember();
  }

  moveTo(index, playing) {
    if (this.vector) {
      this.channel = this.channels[index];
      if (this.select.value !== String(this.channel)) this.select.value = this.channel;
    } else {
      this.row = this.window.top + Math.floor(index / this.window.columns);
      this.column = this.window.left + (index % this.window.columns);
    }
    this.show(playing);
    if (!playing) this.remember();
  }

  remember() {
    const { channel, row, column, opened } = this;
    this.go(this.step, { channel, row, column, opened }, true);
  }

  open(on, focus = false) {
    this.player.play(false);
    this.opened = on;
    this.show();
    this.remember();
    if (focus) {
      this.numbers.scrollIntoView({ block: "nearest" });
      announce(this.equation.textContent);
    }
  }

  // Everything again: another map, image, colour scale or scheme.
  refresh() {
    const { network, step } = this, { image } = network, output = network.output(step);
    this.photo.set(image.channels === 3 ? image.data : image.map(0), image.rows, image.columns, { tint: image.channels === 3 ? "colour" : "light" });
    if (this.vector) {
      const rows = Math.ceil(output.channels / this.across), values = new Float32Array(rows * this.across).fill(NaN);
      values.set(output.data);
      this.target.set(values, rows, this.across, { reach: reachOf(output.range()) });
    } else {
      const { values, rows, columns } = output.picture(this.channel);
      this.target.set(values, rows, columns, { ...this.look(step, output, this.channel), map: [output.rows, output.columns] });
    }
    this.captions.target.textContent = this.isLast ? `Output: ${this.nameOf(this.channel)}` : this.vector ? "Output" : `Output: ${partOf(step, this.channel)}`;
    this.player.index = this.index;
    this.drawn = null;
    this.show();
  }

  // Colours of a map of a step (null: of the image).
  look(step, output, channel) {
    const pixels = !step || step.pixels, range = this.byLayer() || pixels ? output.range() : output.range(channel);
    return pixels ? { tint: "light", low: step ? range[0] : 0, high: step ? range[1] : 255 } : { reach: reachOf(range) };
  }

  show(playing = false) {
    const { network, step, photo, target } = this, terms = this.terms(), output = network.output(step);
    if (terms && (this.input === null || !terms.inputs.includes(this.input))) this.input = this.bestInput(terms);
    const part = terms?.inputs.indexOf(this.input);
    this.sourceFigure.hidden = !terms;
    if (terms) {
      this.showInput(terms);
      const winner = terms.winner >= 0 ? terms.cells[terms.winner] : null;
      this.source.draw({ cells: terms.whole ? null : terms.cells, winner });
    }
    if (terms?.kind === "sum") this.showKernel(terms, part);
    const at = this.vector ? { row: Math.floor(this.channel / this.across), column: this.channel % this.across } : { row: this.row, column: this.column };
    const known = this.vector || network.computed || !terms ? null : { top: this.window.top, left: this.window.left, height: this.window.rows, width: this.window.columns };
    target.draw({ mark: at, until: playing && network.computed ? this.index : null, box: known });
    photo.draw({ box: fieldAt(step.field, this.row, this.column, network.image.rows, network.image.columns) });
    const value = this.vector ? output.at(0, 0, this.channel) : output.at(this.row, this.column, this.channel);
    this.equation.replaceChildren(...(terms ? equationOf(step, terms, value) : [Number.isNaN(value) ? "The page holds pictures of these maps, without the numbers behind them." : `value ${number(value)}`]));
    this.opener.hidden = this.player.element.hidden = !terms;
    if (terms) this.sums?.show(terms, this.input);
    if (playing && this.player.speed > 2) return;
    this.target.named();
    const frame = known ? ` The page has the numbers of ${this.window.rows} × ${this.window.columns} positions, in the frame.` : "";
    this.field.textContent = fieldWords(step.field, this.row, this.column, network.image.rows, network.image.columns) + frame;
    this.opener.textContent = this.opened ? "Hide the numbers" : "Show every number";
    this.opener.setAttribute("aria-expanded", String(this.opened));
    this.numbers.hidden = !this.opened || !terms;
    this.numbers.replaceChildren(...(this.opened && terms ? numbersOf(step, terms, part, { network, channel: this.channel, pick: (input) => { this.input = input; this.refresh(); } }) : []));
  }

  // Input map with the largest part in the value.
  bestInput(terms) {
    if (terms.kind !== "sum" || terms.inputs.length < 2) return terms.inputs[0];
    const [source] = this.step.sources, shown = source < 0 ? null : this.network.channelsOf(this.network.steps[source]);
    let best = null;
    terms.inputs.forEach((input, i) => {
      if (shown && !shown.includes(input)) return; // there is no picture of it
      if (best === null || Math.abs(terms.sums[i]) > Math.abs(terms.sums[best])) best = i;
    });
    return terms.inputs[best ?? 0];
  }

  showInput(terms) {
    const { network, step } = this, index = terms.input ?? 0, unflattened = network.unflattened(step);
    const x = unflattened ?? network.inputs(step)[index], key = `${index}/${this.input}`;
    if (this.drawn === key) return;
    this.drawn = key;
    const source = unflattened ? network.steps[network.steps[step.sources[0]].sources[0]] : step.sources[index] < 0 ? null : network.steps[step.sources[index]];
    const name = source ? shortName(source.name) : "image";
    if (x.vector) {
      const across = Math.ceil(Math.sqrt(x.channels)), rows = Math.ceil(x.channels / across), values = new Float32Array(rows * across).fill(NaN);
      values.set(x.data);
      this.source.set(values, rows, across, { reach: reachOf(x.range()) });
      this.captions.source.textContent = `Input: all values of ${name}`;
    } else {
      // Of a network that is too large, a picture where there is one, or the part that is known.
      const whole = network.computed || !source ? x : network.output(source);
      const pictured = network.computed || (source && network.channelsOf(source)?.includes(this.input));
      const place = terms.kind === "sum" && step.op === "conv" ? this.input : this.channels.indexOf(this.channel);
      const { values, rows, columns } = pictured ? whole.picture(this.input) : { values: x.map(Math.min(place, x.channels - 1)), rows: x.rows, columns: x.columns };
      this.source.set(values, rows, columns, { ...this.look(source, whole, this.input), pads: terms.pads, map: [x.rows, x.columns] });
      this.captions.source.textContent = x.channels > 1 ? `Input: map ${this.input} of ${name}` : `Input: ${name}`;
    }
  }

  showKernel(terms, part) {
    const weights = terms.kernel[part], [rows, columns] = terms.kernelSize;
    const values = new Float32Array(rows * columns).fill(NaN);
    values.set(weights);
    const key = `${this.channel}/${this.input}/${this.byLayer()}`;
    if (this.kernelDrawn !== key) {
      this.kernelDrawn = key;
      const all = this.byLayer() ? this.step.weights.kernel.data : weights;
      let reach = 0;
      for (const weight of all) reach = Math.max(reach, Math.abs(weight));
      this.kernel.set(values, rows, columns, { reach });
      this.captions.kernel.textContent = terms.inputs.length > 1 ? `Weights for map ${this.input}` : "Weights";
    }
    this.kernel.draw();
  }
}
