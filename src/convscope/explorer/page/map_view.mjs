// A map drawn large, value by value, with a window and a mark on it; keys and pointers move the mark.
import { colourOf, css, inkOn, picture } from "./colour.mjs";
import { announce, make, number } from "./dom.mjs";

const LARGEST_FIELD = 30; // of a cell whose number is written into it, in pixels

export class MapView {
  // onMove(row, column) is called when the mark is moved, onPick(row, column) on Enter or a second
  // click; with onDrag(row, column) pointers do that instead.
  constructor({ label, size = 250, onMove = null, onPick = null, onDrag = null, describe = null, maxCell = 56 }) {
    Object.assign(this, { label, size, onMove, onPick, onDrag, describe, maxCell });
    this.canvas = make("canvas", { class: "map" });
    this.small = document.createElement("canvas");
    this.mark = null;
    if (onMove || onPick) this.listen();
    else this.canvas.setAttribute("role", "img");
    this.element = this.canvas;
  }

  listen() {
    Object.assign(this.canvas, { tabIndex: 0 });
    this.canvas.setAttribute("role", "application");
    this.canvas.setAttribute("aria-roledescription", "map of values");
    this.canvas.classList.add("pick");
    this.canvas.classList.toggle("paint", Boolean(this.onDrag));
    this.canvas.addEventListener("keydown", (event) => this.key(event));
    this.canvas.addEventListener("pointerdown", (event) => this.point(event, true));
    this.canvas.addEventListener("pointermove", (event) => { if (event.buttons) this.point(event, false); });
  }

  // Values of rows x columns; `pads` are the zeros drawn around them. The map may be larger than its
  // picture: then `map` is its [rows, columns].
  set(values, rows, columns, { tint = "value", reach = 1, low = 0, high = 255, pads = [[0, 0], [0, 0]], map = null } = {}) {
    const small = [rows, columns];
    [rows, columns] = map ?? small;
    Object.assign(this, { values, rows, columns, tint, reach, pads, exact: rows === small[0] && columns === small[1] });
    const tall = rows + pads[0][0] + pads[0][1], wide = columns + pads[1][0] + pads[1][1];
    this.cell = Math.min(this.maxCell, this.size / Math.max(tall, wide));
    if (this.cell > 1) this.cell = Math.floor(this.cell);
    const ratio = Math.min(globalThis.devicePixelRatio || 1, 2);
    const width = Math.max(1, Math.round(wide * this.cell)), height = Math.max(1, Math.round(tall * this.cell));
    if (this.canvas.width !== width * ratio || this.canvas.height !== height * ratio) {
      Object.assign(this.canvas, { width: width * ratio, height: height * ratio });
      Object.assign(this.canvas.style, { width: `${width}px`, height: `${height}px` });
    }
    this.ratio = ratio;
    Object.assign(this.small, { width: small[1], height: small[0] });
    this.small.getContext("2d").putImageData(picture(values, ...small, { tint, reach, low, high }), 0, 0);
    this.named();
  }

  named() {
    const at = this.mark && this.describe ? ` ${this.describe(this.mark.row, this.mark.column)}.` : "";
    const keys = this.onMove ? " Arrow keys move." : "";
    const label = `${this.label}, ${this.rows} × ${this.columns} values.${at}${keys}`;
    if (this.canvas.getAttribute("aria-label") !== label) this.canvas.setAttribute("aria-label", label);
  }

  // `cells`: {row, column} of a window; `mark`: the value in focus; `until`: values after this one, in
  // the order of reading, are pale; `winner`: the {row, column} that counts; `box`: a rectangle.
  draw({ cells = null, mark = null, until = null, winner = null, box = null } = {}) {
    this.mark = mark;
    const pen = this.canvas.getContext("2d"), { cell, pads: [[top], [left]] } = this, look = getComputedStyle(this.canvas);
    const ink = look.getPropertyValue("--mark") || "#111", paper = look.getPropertyValue("--paper") || "#fff";
    pen.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    pen.clearRect(0, 0, this.canvas.width, this.canvas.height);
    if (this.pads.flat().some(Boolean)) this.hatch(pen);
    pen.imageSmoothingEnabled = cell < 1;
    pen.drawImage(this.small, left * cell, top * cell, this.columns * cell, this.rows * cell);
    if (until !== null) this.fade(pen, until, paper);
    if (cell >= LARGEST_FIELD && this.tint === "value" && this.exact) this.write(pen);
    const frame = (row, column, high, wide, colour, width) => {
      pen.lineWidth = width + 2;
      pen.strokeStyle = paper;
      const place = [(column + left) * cell, (row + top) * cell, wide * cell, high * cell];
      pen.strokeRect(...place);
      pen.lineWidth = width;
      pen.strokeStyle = colour;
      pen.strokeRect(...place);
    };
    if (cells) {
      const rows = cells.map((each) => each.row), columns = cells.map((each) => each.column);
      const [first, from] = [Math.min(...rows), Math.min(...columns)];
      const apart = cells.length < (Math.max(...rows) - first + 1) * (Math.max(...columns) - from + 1);
      if (apart) for (const each of cells) frame(each.row, each.column, 1, 1, ink, 1);
      frame(first, from, Math.max(...rows) - first + 1, Math.max(...columns) - from + 1, ink, 2);
    }
    if (winner) frame(winner.row, winner.column, 1, 1, look.getPropertyValue("--winner") || "#0a0", 3);
    if (box) frame(box.top, box.left, box.height, box.width, ink, 2);
    if (mark) frame(mark.row, mark.column, 1, 1, ink, cell > 8 ? 2 : 1.5);
  }

  hatch(pen) {
    const { cell } = this, width = this.canvas.width / this.ratio, height = this.canvas.height / this.ratio;
    pen.save();
    pen.fillStyle = "#8883";
    pen.fillRect(0, 0, width, height);
    pen.strokeStyle = "#8889";
    pen.lineWidth = 1;
    pen.beginPath();
    const step = Math.max(5, Math.min(cell, 9));
    for (let x = -height; x < width; x += step) { pen.moveTo(x, height); pen.lineTo(x + height, 0); }
    pen.stroke();
    pen.restore();
  }

  fade(pen, until, paper) {
    const { cell, columns, rows, pads: [[top], [left]] } = this;
    const row = Math.floor(until / columns), column = until % columns;
    pen.save();
    pen.globalAlpha = 0.82;
    pen.fillStyle = paper;
    pen.fillRect((left + column + 1) * cell, (top + row) * cell, (columns - column - 1) * cell, cell);
    pen.fillRect(left * cell, (top + row + 1) * cell, columns * cell, (rows - row - 1) * cell);
    pen.restore();
  }

  write(pen) {
    const { cell, pads: [[top], [left]] } = this;
    pen.font = `${Math.min(13, Math.floor(cell / 3.2))}px system-ui, sans-serif`;
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    for (let i = 0; i < this.rows * this.columns; i++) {
      if (Number.isNaN(this.values[i])) continue;
      pen.fillStyle = inkOn(colourOf(this.values[i], this.reach));
      const long = number(this.values[i], 2), text = pen.measureText(long).width < cell - 3 ? long : number(this.values[i], 1);
      pen.fillText(text, (left + (i % this.columns) + 0.5) * cell, (top + Math.floor(i / this.columns) + 0.5) * cell);
    }
  }

  key(event) {
    const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0], Home: [0, -Infinity], End: [0, Infinity], PageUp: [-Infinity, 0], PageDown: [Infinity, 0] };
    const at = this.mark ?? { row: 0, column: 0 };
    if (event.key === "Enter" && this.onPick) this.onPick(at.row, at.column);
    else if (moves[event.key]) {
      const [down, right] = moves[event.key];
      const row = Math.max(0, Math.min(this.rows - 1, at.row + down)), column = Math.max(0, Math.min(this.columns - 1, at.column + right));
      (this.onMove ?? this.onPick)(row, column);
      if (this.describe) announce(this.describe(row, column));
    } else return;
    event.preventDefault();
  }

  point(event, pressed) {
    const box = this.canvas.getBoundingClientRect(), [[top], [left]] = this.pads;
    const column = Math.floor((event.clientX - box.left) / this.cell) - left, row = Math.floor((event.clientY - box.top) / this.cell) - top;
    if (row < 0 || column < 0 || row >= this.rows || column >= this.columns) return;
    if (this.onDrag) { this.onDrag(row, column); return; }
    const again = this.mark && this.mark.row === row && this.mark.column === column;
    if (pressed && (again || !this.onMove)) this.onPick?.(row, column);
    else if (!again) this.onMove?.(row, column);
  }
}
