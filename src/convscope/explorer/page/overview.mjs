// Overview of a network: the image, the feature maps of all layers, the answer.
import { picture, reachOf } from "./colour.mjs";
import { announce, button, count, make, number, percent, plural } from "./dom.mjs";
import { partOf, shapeOf, shortName } from "./describe.mjs";
import { linksOf } from "./links.mjs";
import { MapView } from "./map_view.mjs";

const mostMaps = () => (document.documentElement.clientWidth < 700 ? 24 : 64);
const MOST_CLASSES = 10;

const tileOf = (column, channel) => column?.tiles?.find((each) => each.channel === channel);

// Consecutive steps of one stage together: [stage, steps]; the stage is "" outside of stages.
function stagesOf(steps) {
  const found = [];
  for (const step of steps) {
    if (found.length && found.at(-1)[0] === (step.stage ?? "")) found.at(-1)[1].push(step);
    else found.push([step.stage ?? "", [step]]);
  }
  return found;
}

export class Overview {
  // `open(step, channel)` opens a map; `byLayer()` says whether the maps of a layer share a colour
  // scale; `paint(row, column)` paints on the image.
  constructor(network, { open, byLayer, tools, paint }) {
    Object.assign(this, { network, open, byLayer });
    this.paintAt = paint;
    this.columns = new Map();
    this.lines = make("canvas", { class: "lines", "aria-hidden": "true" });
    this.strip = make("div", { class: "strip" }, this.imageColumn(tools));
    for (const [stage, steps] of stagesOf(network.steps)) this.strip.append(...(stage ? [this.stage(stage, steps)] : steps.map((step) => this.column(step))));
    this.hint = make("p", { class: "hint" }, "Point at a map to see what it is made from. Choose one to watch its kernel slide.");
    this.element = make("div", { class: "overview" }, this.hint, make("div", { class: "scroller" }, this.strip, this.lines));
    this.refresh();
  }

  // A stage of a deep network: its last layer, and all of them once it is opened.
  stage(name, steps) {
    const layers = make("div", { class: "layers" }, this.column(steps.at(-1))), section = make("section", { class: "stage", "aria-label": `Stage ${name}` });
    const words = (open) => `${open ? "Close" : "Open"} ${name}: ${plural(steps.length, "layer")}`;
    const toggle = button(words(false), () => {
      const open = toggle.getAttribute("aria-expanded") !== "true";
      toggle.setAttribute("aria-expanded", String(open));
      toggle.textContent = words(open);
      this.dim();
      layers.replaceChildren(...(open ? steps : steps.slice(-1)).map((step) => this.columns.get(step.index)?.box ?? this.column(step)));
    }, { "aria-expanded": "false" });
    section.append(toggle, layers);
    return section;
  }

  imageColumn(tools) {
    const move = (row, column) => { this.spot = { row, column }; this.image.draw({ mark: this.spot }); };
    const draw = (row, column) => { this.spot = { row, column }; this.paintAt(row, column); };
    const { paintAt: paint } = this;
    this.image = new MapView({ label: `The image as the network receives it${paint ? ". Enter paints" : ""}`, size: 130, onMove: paint && move, onPick: paint && draw, onDrag: paint && draw });
    return make("section", { class: "layer first", "aria-label": "Image" }, make("h2", {}, "image"), this.imageNote = make("p", { class: "kind" }), this.image.element, tools);
  }

  column(step) {
    const last = step.index === this.network.steps.length - 1;
    const shape = step.shape.length === 3 ? shapeOf(step) : `${count(step.shape[0])} values`;
    const box = make("section", { class: "layer", "aria-label": `Layer ${step.name}` },
      make("h2", {}, make("a", { href: `#/${encodeURIComponent(step.name)}`, title: step.name }, shortName(step.name))),
      make("p", { class: "kind" }, `${step.kind}`, make("br"), shape));
    const column = { step, box };
    if (last) this.answerIn(column);
    else if (step.shape.length === 3) this.mapsIn(column);
    else this.vectorIn(column);
    this.columns.set(step.index, column);
    if (!this.network.computed) this.network.load(step).then(() => this.paint(column));
    return box;
  }

  mapsIn(column) {
    const { step } = column, grid = make("div", { class: "maps", role: "group", "aria-label": `Feature maps of ${step.name}` });
    const channels = this.network.channelsOf(step) ?? Array.from({ length: step.shape[2] }, (_, i) => i), n = channels.length;
    const size = step.given ? { width: step.given.columns, height: step.given.rows } : { width: step.shape[1], height: step.shape[0] };
    column.tiles = [];
    const add = (from, to) => {
      for (const channel of channels.slice(from, to)) {
        const canvas = make("canvas", size);
        const tile = make("button", { type: "button", class: "tile", tabIndex: column.tiles.length === 0 ? 0 : -1, "aria-label": `${step.name}, map ${channel}`, onclick: () => this.open(step, channel) }, canvas);
        tile.dataset.channel = channel;
        column.tiles.push({ tile, canvas, channel });
        grid.append(tile);
      }
    };
    const most = mostMaps();
    add(0, Math.min(n, most));
    grid.classList.toggle("few", n <= 4);
    const name = (event) => tileOf(column, Number(event.target.closest?.(".tile")?.dataset.channel));
    grid.addEventListener("pointerover", (event) => { const found = name(event); if (found) this.light(column, found.channel); });
    grid.addEventListener("pointerleave", () => this.dim());
    grid.addEventListener("focusin", (event) => { const found = name(event); if (found) this.light(column, found.channel, true); });
    grid.addEventListener("focusout", () => this.dim());
    grid.addEventListener("keydown", (event) => this.walk(event, column, grid));
    column.box.append(grid);
    if (n < step.shape[2]) column.box.append(make("p", { class: "kind" }, `${n} of ${step.shape[2]} maps`));
    if (n > most) {
      const more = button(`All ${n} maps`, () => { add(most, n); more.remove(); this.paint(column); });
      column.box.append(more);
    }
  }

  // Arrow keys within the maps of a layer; Tab goes to the next layer.
  walk(event, column, grid) {
    const tiles = column.tiles.map(({ tile }) => tile), at = tiles.indexOf(document.activeElement);
    const across = getComputedStyle(grid).gridTemplateColumns.split(" ").length;
    const by = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: across, ArrowUp: -across, Home: -at, End: tiles.length - 1 - at }[event.key];
    if (by === undefined || at < 0 || !tiles[at + by]) return;
    tiles[at].tabIndex = -1;
    tiles[at + by].tabIndex = 0;
    tiles[at + by].focus();
    event.preventDefault();
  }

  vectorIn(column) {
    const { step } = column, n = step.shape[0], across = Math.ceil(Math.sqrt(n));
    const open = (row, columnIndex) => { if (row * across + columnIndex < n) this.open(step, row * across + columnIndex); };
    const light = (row, columnIndex) => { const unit = Math.min(row * across + columnIndex, n - 1); column.view.draw({ mark: { row, column: columnIndex } }); this.light(column, unit); };
    column.view = new MapView({ label: `Values of ${step.name}`, size: 92, maxCell: 8, onMove: light, onPick: open, describe: (row, at) => this.words(step, Math.min(row * across + at, n - 1)) });
    column.view.element.addEventListener("blur", () => this.dim());
    column.box.append(column.view.element);
  }

  answerIn(column) {
    column.bars = make("div", { class: "answer" });
    column.box.classList.add("last");
    column.box.append(column.bars);
  }

  words(step, channel) {
    const output = this.network.output(step);
    if (output.vector) return `${step.name}, value ${channel}: ${number(output.at(0, 0, channel))}`;
    const [low, high] = output.range(channel);
    return `${step.name}, ${partOf(step, channel)}: from ${number(low)} to ${number(high)}`;
  }

  // Show what a map is made from: lines from the maps before, the thicker the larger its kernel.
  light(column, channel, aloud = false) {
    this.dim();
    const { step } = column, links = linksOf(step, channel, this.network), words = this.words(step, channel);
    const from = step.sources.map((source) => this.columns.get(source) ?? null);
    const strongest = links.filter((link) => link.share > 0).sort((a, b) => b.share - a.share);
    const named = strongest.slice(0, 3).map((link) => link.channel).join(", ");
    const more = step.op === "conv" && strongest.length > 1 ? `; largest kernels on maps ${named} of ${this.network.sourceName(step)}` : "";
    this.hint.textContent = `${words}${more}.`;
    if (aloud) announce(`${words}${more}`);
    const pen = this.beginLines(), end = this.centre(column, channel);
    for (const { input, channel: source, share, sign } of links) {
      if (step.sources[input] >= 0 && !from[input]?.box.isConnected) continue; // its stage is closed
      const start = from[input] ? this.centre(from[input], source) : this.centreOf(this.image.element);
      if (!start || !end) continue;
      tileOf(from[input], source)?.tile.classList.toggle("linked", share > 0.7);
      pen.globalAlpha = 0.12 + 0.88 * share ** 2;
      pen.lineWidth = 0.5 + 2.5 * share;
      pen.strokeStyle = sign < 0 ? this.colours.minus : this.colours.plus;
      pen.beginPath();
      pen.moveTo(...start);
      const middle = (start[0] + end[0]) / 2;
      pen.bezierCurveTo(middle, start[1], middle, end[1], ...end);
      pen.stroke();
    }
  }

  dim() {
    for (const tile of this.strip.querySelectorAll(".linked")) tile.classList.remove("linked");
    this.lines.getContext("2d").clearRect(0, 0, this.lines.width, this.lines.height);
  }

  beginLines() {
    const { strip, lines } = this, width = strip.scrollWidth, height = strip.offsetHeight;
    if (lines.width !== width || lines.height !== height) Object.assign(lines, { width, height });
    const look = getComputedStyle(this.element);
    this.colours = { plus: look.getPropertyValue("--plus"), minus: look.getPropertyValue("--minus") };
    this.origin = strip.getBoundingClientRect();
    return lines.getContext("2d");
  }

  centre(column, channel) {
    return this.centreOf(column.tiles ? tileOf(column, channel)?.tile : column.view?.element ?? column.bars);
  }

  centreOf(element) {
    const box = element?.getBoundingClientRect();
    return box ? [box.left + box.width / 2 - this.origin.left, box.top + box.height / 2 - this.origin.top] : null;
  }

  // Draw everything again: after another image, another scale or another colour scheme.
  refresh() {
    const { image } = this.network;
    this.image.set(image.channels === 3 ? image.data : image.map(0), image.rows, image.columns, { tint: image.channels === 3 ? "colour" : "light" });
    this.image.draw(document.activeElement === this.image.element && this.spot ? { mark: this.spot } : {});
    this.imageNote.textContent = `${image.rows} × ${image.columns} × ${image.channels}`;
    for (const column of this.columns.values()) this.paint(column);
  }

  paint(column) {
    const { step } = column, output = this.network.output(step);
    if (!output) return null; // it comes
    if (column.bars) return this.paintAnswer(column);
    if (column.view) {
      const across = Math.ceil(Math.sqrt(output.channels)), rows = Math.ceil(output.channels / across), values = new Float32Array(rows * across).fill(NaN);
      values.set(output.data);
      column.view.set(values, rows, across, { reach: reachOf(output.range()) });
      column.view.draw();
      return null;
    }
    const all = output.range(), tint = step.pixels ? "light" : "value";
    for (const { canvas, channel, tile } of column.tiles) {
      const shown = output.picture(channel), range = this.byLayer() || step.pixels ? all : output.range(channel);
      canvas.getContext("2d").putImageData(picture(shown.values, shown.rows, shown.columns, { tint, reach: reachOf(range), low: range[0], high: range[1] }), 0, 0);
      tile.classList.toggle("dead", !step.pixels && range[0] === 0 && range[1] === 0);
    }
    return null;
  }

  paintAnswer({ step, bars }) {
    const { classes } = this.network.payload, probs = this.network.probs;
    const best = Array.from(probs, (prob, index) => ({ prob, index })).sort((a, b) => b.prob - a.prob).slice(0, MOST_CLASSES);
    bars.replaceChildren(...best.map(({ prob, index }, place) => {
      const line = make("span", { class: "share" }, make("i"));
      line.firstChild.style.width = percent(prob).replace(" ", "");
      return make("button", { type: "button", class: place === 0 ? "class best" : "class", onclick: () => this.open(step, index) },
        make("span", { class: "name" }, classes[index]), " ", line, make("span", { class: "value" }, percent(prob)));
    }));
    if (classes.length > best.length) bars.append(make("p", { class: "kind" }, `${classes.length - best.length} more classes have less.`));
  }
}
