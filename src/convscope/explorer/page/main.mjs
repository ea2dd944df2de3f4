// The page: addresses, the image and its tools, colours.
import { picture } from "./colour.mjs";
import { announce, button, choice, labelled, make, percent } from "./dom.mjs";
import { LayerView } from "./layer_view.mjs";
import { Maps } from "./maps.mjs";
import { Network } from "./network.mjs";
import { Overview } from "./overview.mjs";
import { photoPixels } from "./photo.mjs";
import { Workbench } from "./workbench.mjs";

const $ = (id) => document.getElementById(id);
const payload = JSON.parse($("payload").textContent);
const main = $("main");
let network, view, overview, workbench, scale = "map";

const byLayer = () => scale === "layer";

// Addresses: #/ for the network, #/workbench, #/layer, #/layer/map, #/layer/map/row/column for a value.
function addressOf(step, { channel, row, column, opened }) {
  const parts = [encodeURIComponent(step.name), channel, ...(opened ? [row, column] : [])];
  return `#/${parts.join("/")}`;
}

function go(step, place, silently = false) {
  const address = addressOf(step, place);
  if (address === location.hash) return;
  if (silently) history.replaceState(null, "", address);
  else location.hash = address;
}

async function route(first = false) {
  const [name, channel, row, column] = location.hash.slice(2).split("/").map(decodeURIComponent);
  const step = name ? network.step(name) : null, address = location.hash;
  view?.player?.play(false);
  if (step) await network.loadAround(step);
  if (location.hash !== address) return; // left meanwhile
  let found;
  if (name === "workbench" && !step) {
    view = workbench ??= new Workbench(network);
    if (view.stale) { view.stale = false; view.refresh(); }
    found = "workbench";
  } else if (step) {
    const number = (text) => (text === undefined || !/^\d+$/.test(text) ? undefined : Number(text));
    view = new LayerView(network, step, { channel: number(channel), row: number(row), column: number(column), opened: column !== undefined }, { go, byLayer });
    found = "network";
  } else {
    view = overview;
    if (view.stale) { view.stale = false; view.refresh(); }
    found = "network";
  }
  for (const each of ["network", "workbench"]) {
    if (each === found) $(`to-${each}`).setAttribute("aria-current", "page");
    else $(`to-${each}`).removeAttribute("aria-current");
  }
  main.replaceChildren(bar, view.element);
  if (view === overview) overview.refresh();
  if (!first) {
    (view.element.querySelector("h2[tabindex]") ?? main).focus({ preventScroll: true });
    scrollTo(0, 0);
  }
}

// The views show the network's current outputs.
function redraw() {
  for (const each of [overview, workbench]) if (each && each !== view) each.stale = true;
  view.refresh();
  drawLegend();
  said();
}

function drawLegend() {
  const values = Float32Array.from({ length: legend.width }, (_, i) => (2 * i) / (legend.width - 1) - 1);
  legend.getContext("2d").putImageData(picture(values, 1, legend.width, { reach: 1 }), 0, 0);
}

function said() {
  const { classes } = payload, probs = network.probs;
  const order = Array.from(probs.keys()).sort((a, b) => probs[b] - probs[a]), [best] = order;
  const named = payload.thresholds ? order.filter((i) => probs[i] >= payload.thresholds[i]) : [best];
  predicted.hidden = network.image !== network.first;
  answer.textContent = `${named.map((i) => classes[i]).join(" + ") || "no class"} (${percent(probs[best])})`;
}

async function show(image, words) {
  if (!(await network.show(image))) return;
  redraw();
  if (words) announce(`${words}: ${answer.textContent}`);
}

async function choose(file) {
  if (!file || !network.computed) return;
  try {
    await show(await photoPixels(file, network.first, payload.fit), file.name);
    about.textContent = `${file.name}, resized by this page`;
  } catch {
    announce(`${file.name} cannot be read as an image`);
    about.textContent = `${file.name} cannot be read as an image.`;
  }
}

// Painting on the image; the network answers while one paints.
function paint(row, column) {
  const { image } = network, value = Number(brush.value), next = new Maps(image.rows, image.columns, image.channels, Float32Array.from(image.data));
  const radius = Math.max(0.6, Math.min(image.rows, image.columns) / 20);
  for (let y = Math.ceil(row - radius); y <= row + radius; y++) for (let x = Math.ceil(column - radius); x <= column + radius; x++) {
    if (!next.holds(y, x) || (y - row) ** 2 + (x - column) ** 2 > radius ** 2) continue;
    next.data.fill(value, (y * next.columns + x) * next.channels, (y * next.columns + x + 1) * next.channels);
  }
  network.image = next; // the next stroke goes on from here, even if this one is overtaken
  show(next);
  about.textContent = "painted";
}

const answer = make("strong", {}), about = make("span", { class: "about" }, payload.file);
const predicted = make("span", { class: "about" }, payload.answer ? ` ${payload.answer}` : ""); // of the first image alone
const scaleChoice = choice([["map", "for each map"], ["layer", "for each layer"]], scale, (value) => { scale = value; redraw(); });
const legend = make("canvas", { width: 90, height: 1 });
const bar = make("div", { class: "bar" }, make("p", {}, about, ": ", answer, predicted),
  make("span", { class: "scale" }, "negative", legend, "positive"), labelled("Colour scale", scaleChoice));
const brush = choice([["255", "white"], ["0", "black"]], "255", () => {});
const files = make("input", { type: "file", accept: "image/*", hidden: true, onchange: () => { choose(files.files[0]); files.value = ""; } });
const tools = payload.computed ? make("div", { class: "tools" }, files, button("Choose image", () => files.click()), labelled("Paint with", brush), button("Original", () => { show(network.first, payload.file); about.textContent = payload.file; })) : make("p", { class: "tools kind" }, "A large network: its maps were computed for this image, and are shown in part.");

$("title").textContent = `Inside ${payload.run}`;
try {
  network = await Network.open(payload, (blob) => $(`blob-${blob}`).textContent);
  overview = new Overview(network, { open: (step, channel) => go(step, { channel, opened: false }), byLayer, tools, paint: network.computed ? paint : null });
  said();
  drawLegend();
  for (const step of network.steps) if (!network.computed && step.op === "conv" && network.inputDepth(step) === network.image.channels) await network.load(step);
  await route(true);
  addEventListener("hashchange", () => route());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => { event.preventDefault(); choose(event.dataTransfer.files[0]); });
  document.addEventListener("paste", (event) => choose(event.clipboardData.files[0]));
  document.addEventListener("keydown", (event) => { if (event.key === "Escape" && view !== overview) location.hash = "#/"; });
  globalThis.network = network; // for the console of the curious
  document.documentElement.dataset.ready = "true";
} catch (error) {
  main.replaceChildren(make("p", { class: "bad" }, `The network cannot be shown: ${error.message}`));
  throw error;
}
