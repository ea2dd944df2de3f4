// Bars of what each input map adds to a value.
import { colourOf, css } from "./colour.mjs";
import { announce, make, number } from "./dom.mjs";

const HEIGHT = 74;

export class Sums {
  // `pick(input)` chooses an input map.
  constructor(pick) {
    this.pick = pick;
    this.canvas = make("canvas", { class: "bars pick", tabIndex: 0, role: "slider", height: HEIGHT });
    this.caption = make("p", { class: "caption" }, "What each input map adds: the sum of its products");
    this.element = make("div", { class: "sums" }, this.caption, this.canvas);
    this.canvas.addEventListener("keydown", (event) => this.key(event));
    this.canvas.addEventListener("pointerdown", (event) => {
      const box = this.canvas.getBoundingClientRect();
      this.choose(Math.floor(((event.clientX - box.left) / box.width) * this.terms.inputs.length));
    });
  }

  key(event) {
    const at = this.terms.inputs.indexOf(this.input), n = this.terms.inputs.length;
    const to = { ArrowRight: at + 1, ArrowUp: at + 1, ArrowLeft: at - 1, ArrowDown: at - 1, Home: 0, End: n - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    this.choose(Math.max(0, Math.min(n - 1, to)));
  }

  choose(index) {
    this.pick(this.terms.inputs[index]);
    announce(this.words());
  }

  words() {
    const index = this.terms.inputs.indexOf(this.input);
    return `map ${this.input} adds ${number(this.terms.sums[index])}`;
  }

  show(terms, input) {
    Object.assign(this, { terms, input });
    const n = terms.inputs.length, width = Math.min(900, Math.max(240, (this.width ??= document.documentElement.clientWidth - 40))), ratio = Math.min(devicePixelRatio || 1, 2);
    if (this.canvas.width !== width * ratio) {
      Object.assign(this.canvas, { width: width * ratio, height: HEIGHT * ratio });
      this.canvas.style.width = `${width}px`;
      this.canvas.style.height = `${HEIGHT}px`;
    }
    const pen = this.canvas.getContext("2d"), each = width / n;
    let largest = 1e-12;
    for (const sum of terms.sums) largest = Math.max(largest, Math.abs(sum));
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, HEIGHT);
    const middle = HEIGHT / 2;
    const [plus, minus] = [0.6, -0.6].map((share) => css(colourOf(share, 1)));
    terms.sums.forEach((sum, i) => {
      const high = (Math.abs(sum) / largest) * (middle - 4);
      if (terms.inputs[i] === input) {
        pen.fillStyle = "#8885";
        pen.fillRect(i * each, 0, each, HEIGHT);
      }
      pen.fillStyle = sum < 0 ? minus : plus;
      pen.fillRect(i * each + each * 0.12, sum < 0 ? middle : middle - high, Math.max(1, each * 0.76), Math.max(high, 0.5));
    });
    pen.fillStyle = "#888";
    pen.fillRect(0, middle - 0.5, width, 1);
    for (const [name, value] of [["aria-label", "Input map"], ["aria-valuemin", terms.inputs[0]], ["aria-valuemax", terms.inputs.at(-1)], ["aria-valuenow", input], ["aria-valuetext", this.words()]])
      if (this.canvas.getAttribute(name) !== String(value)) this.canvas.setAttribute(name, value);
  }
}
