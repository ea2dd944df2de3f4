// Playing: a position that moves from 0 to n - 1, with controls.
import { button, choice, labelled, lessMotion, make } from "./dom.mjs";

const SPEEDS = [["2", "2 steps a second"], ["8", "8 steps a second"], ["30", "30 steps a second"]];

export class Player {
  // onStep(index, playing) is called whenever the position changes; onStop() when playing ends.
  constructor({ n, onStep, onStop = () => {}, index = 0 }) {
    Object.assign(this, { n, onStep, onStop, index, playing: false });
    this.speed = lessMotion() ? 2 : 8;
    this.toggle = button("Play", () => this.play(!this.playing), { class: "main" });
    const back = button("◀", () => this.step(-1), { "aria-label": "Step back" });
    const on = button("▶", () => this.step(1), { "aria-label": "Step forward" });
    const speed = choice(SPEEDS, this.speed, (value) => { this.speed = Number(value); }, { "aria-label": "Speed" });
    this.element = make("div", { class: "player", role: "group", "aria-label": "Sliding window" }, this.toggle, back, on, speed);
  }

  play(on) {
    if (on === this.playing) return;
    this.playing = on;
    this.toggle.textContent = on ? "Pause" : "Play";
    if (!on) {
      cancelAnimationFrame(this.frame);
      this.onStop();
      return;
    }
    if (this.index >= this.n - 1) this.go(0);
    let last = performance.now();
    const tick = (now) => {
      if (!this.playing) return;
      if (!this.element.isConnected) { this.playing = false; return; }
      if (now - last >= 1000 / this.speed - 4) {
        last = now;
        if (this.index >= this.n - 1) { this.play(false); return; }
        this.go(this.index + 1);
      }
      this.frame = requestAnimationFrame(tick);
    };
    this.frame = requestAnimationFrame(tick);
  }

  step(by) {
    this.play(false);
    this.go((this.index + by + this.n) % this.n);
  }

  go(index) {
    this.index = index;
    this.onStep(index, this.playing);
  }
}
