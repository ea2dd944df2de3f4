// One value in numbers: the line that sums it up, and every number of it.
import { formulaOf, labelOf } from "./activations.mjs";
import { colourOf, css } from "./colour.mjs";
import { make, number, percent, plural } from "./dom.mjs";

const MOST_CELLS = 49;
const MOST_PRODUCTS = 12;
const MOST_SUMS = 16;

const capital = (text) => text[0].toUpperCase() + text.slice(1);
const strong = (value) => make("strong", { "data-value": String(value) }, number(value));

// Children of the line: how the value comes about.
export function equationOf(step, terms, value) {
  const parts = [];
  if (terms.kind === "sum") {
    const n = terms.inputs.length, sum = terms.before - terms.bias;
    parts.push(n > 1 ? `sum over ${n} maps` : "sum of products");
    if (terms.hasBias) parts.push(` ${number(sum)}`,` ${terms.bias < 0 ? "−" : "+"} bias ${number(Math.abs(terms.bias))}`);
  } else if (terms.kind === "largest") parts.push(`largest of ${terms.count} values`);
  else if (terms.kind === "mean") parts.push(`mean of ${terms.count} values`);
  else if (terms.kind === "scale") parts.push(`${number(terms.patch[0][0])} × ${number(terms.scale)} ${terms.offset < 0 ? "−" : "+"} ${number(Math.abs(terms.offset))}`);
  else if (terms.kind === "merge") parts.push(terms.parts.map((part) => number(part)).join(terms.merge === "add" ? " + " : " × "));
  else if (step.op === "flatten") parts.push(`row ${terms.from.row}, column ${terms.from.column} of map ${terms.from.channel}`);
  else if (terms.softmax) parts.push("input");
  else if (step.op !== "activation") parts.push(`row ${terms.from.row}, column ${terms.from.column} of the input`);
  const { activation } = step;
  if (!activation) return [...parts, " = ", strong(value)];
  if (parts.length) parts.push(" = ", number(terms.before));
  if (terms.softmax) return [...parts, " → softmax → ", strong(value), ` = ${percent(value)}`];
  if (parts.length) parts.push(" → ");
  return [...parts, `${labelOf(activation)}: ${formulaOf(activation, terms.before, number)} = `, strong(value)];
}

// Children of the section: every number of the value; `part` is the input map in focus.
export function numbersOf(step, terms, part, { network, channel, pick, nameOf = (input) => `map ${input}` }) {
  const found = [];
  if (terms.kind === "sum") found.push(...products(terms, part, pick, nameOf));
  else if (terms.kind === "largest" || terms.kind === "mean") found.push(...window(terms));
  else if (terms.kind === "scale") found.push(scale(step, terms));
  else if (terms.kind === "copy" && step.op === "flatten") found.push(flatten(terms, channel, network.inputs(step)[0]));
  if (terms.softmax) found.push(...shares(terms, channel, network.payload.classes));
  return found;
}

function products(terms, part, pick, nameOf) {
  const { patch, kernel, inputs } = terms, several = inputs.length > 1, cells = kernel[part].length;
  const found = [make("h3", {}, several ? `${capital(nameOf(inputs[part]))}: each value times its weight` : "Each value times its weight")];
  if (cells <= MOST_CELLS) {
    const grid = make("div", { class: "cells" });
    grid.style.gridTemplateColumns = `repeat(${terms.kernelSize[1]}, auto)`;
    const reach = Math.max(...terms.products[part].map(Math.abs));
    kernel[part].forEach((weight, cell) => grid.append(product(patch[part][cell], weight, terms.cells[cell].inside, reach)));
    found.push(grid);
  } else found.push(largestProducts(terms, part));
  if (cells > 1) found.push(make("p", { class: "equation" }, `sum of the ${plural(cells, "product")}: `, strong(terms.sums[part])));
  if (several) found.push(...sumsOf(terms, part, pick, nameOf));
  return found;
}

function product(value, weight, inside, reach) {
  const found = value * weight, colour = colourOf(found, reach);
  const box = make("div", { class: inside ? "cell" : "cell zero", title: `${value} × ${weight} = ${found}` },
    make("span", {}, inside ? number(value) : "0 (padding)"), make("span", {}, `× ${number(weight)}`), make("b", { "data-value": String(found) }, number(found)));
  if (found !== 0) box.style.borderColor = css(colour);
  return box;
}

function largestProducts({ patch, kernel, products, cells, vector }, part) {
  const order = Array.from(products[part].keys()).sort((a, b) => Math.abs(products[part][b]) - Math.abs(products[part][a]));
  const shown = order.slice(0, MOST_PRODUCTS), others = order.slice(MOST_PRODUCTS);
  const place = (cell) => (vector ? `value ${cell}` : `row ${cells[cell].row}, column ${cells[cell].column}`);
  const rows = shown.map((cell) => [place(cell), number(patch[part][cell]), number(kernel[part][cell]), number(products[part][cell])]);
  if (others.length) rows.push([`${others.length} others`, "", "", number(others.reduce((sum, cell) => sum + products[part][cell], 0))]);
  return table(["Place", "Value", "Weight", "Product"], rows, `The largest of ${cells.length} products`);
}

function sumsOf(terms, part, pick, nameOf) {
  const order = terms.inputs.map((_, i) => i).sort((a, b) => Math.abs(terms.sums[b]) - Math.abs(terms.sums[a]));
  const shown = order.slice(0, MOST_SUMS), others = order.slice(MOST_SUMS);
  const chips = shown.map((i) => make("button", { type: "button", class: i === part ? "chip chosen" : "chip", "aria-pressed": String(i === part), onclick: () => pick(terms.inputs[i]) }, `${nameOf(terms.inputs[i])}: ${number(terms.sums[i])}`));
  const rest = others.reduce((sum, i) => sum + terms.sums[i], 0), total = terms.before - terms.bias;
  return [
    make("h3", {}, "The sum of each input map"),
    make("div", { class: "chips" }, ...chips, others.length ? make("span", { class: "chip rest" }, `${others.length} others: ${number(rest)}`) : null),
    make("p", { class: "equation" }, "together ", ...(terms.hasBias ? [number(total), ` ${terms.bias < 0 ? "−" : "+"} bias ${number(Math.abs(terms.bias))} = `] : []), strong(terms.before)),
  ];
}

function window(terms) {
  const values = terms.patch[0], grid = make("div", { class: "cells" });
  if (values.length > MOST_CELLS) return [make("p", {}, terms.kind === "largest" ? `The largest is in row ${terms.cells[terms.winner].row}, column ${terms.cells[terms.winner].column}.` : `The sum of ${terms.count} values is ${number(terms.before * terms.count)}; divided by ${terms.count}: ${number(terms.before)}.`)];
  grid.style.gridTemplateColumns = `repeat(${terms.kernelSize[1]}, auto)`;
  values.forEach((value, cell) => grid.append(make("div", { class: cell === terms.winner ? "cell winner" : "cell" }, make("b", { "data-value": String(value) }, Number.isNaN(value) ? "outside" : number(value)))));
  const sum = values.filter((value) => !Number.isNaN(value)).reduce((a, b) => a + b, 0);
  return [grid, make("p", {}, terms.kind === "largest" ? "The largest value wins; the others are dropped." : `sum ${number(sum)} / ${terms.count} = ${number(terms.before)}`)];
}

function scale(step, terms) {
  if (step.op === "rescale") return make("p", {}, `value × ${number(terms.scale)} + ${number(terms.offset)}`);
  const deviation = `√(${number(terms.variance)} + ${number(step.settings.epsilon)})`;
  return make("p", { class: "equation" }, `(${number(terms.patch[0][0])} − mean ${number(terms.mean)}) / ${deviation} × gamma ${number(terms.gamma)} + beta ${number(terms.beta)} = `, strong(terms.before));
}

function flatten({ from }, channel, x) {
  return make("p", { class: "equation" }, `(row ${from.row} × ${x.columns} columns + column ${from.column}) × ${x.channels} maps + map ${from.channel} = value ${channel}`);
}

function shares({ softmax, logits }, channel, classes) {
  const order = Array.from(softmax.shares.keys()).sort((a, b) => softmax.shares[b] - softmax.shares[a]);
  const shown = order.slice(0, 10);
  if (!shown.includes(channel)) shown.push(channel);
  const rows = shown.map((i) => [classes[i] ?? String(i), number(logits[i]), number(logits[i] - softmax.largest), number(softmax.powers[i]), percent(softmax.shares[i])]);
  const others = order.filter((i) => !shown.includes(i));
  if (others.length) rows.push([`${others.length} others`, "", "", number(others.reduce((sum, i) => sum + softmax.powers[i], 0)), percent(others.reduce((sum, i) => sum + softmax.shares[i], 0))]);
  rows.push(["sum", "", "", number(softmax.sum), "100 %"]);
  return [
    make("h3", {}, "Softmax: exponentials, divided by their sum"),
    table(["Class", "Value x", "x − largest", "exp", "Share"], rows, "The largest value is subtracted first, so that no exponential is too large; the shares stay the same", shown.indexOf(channel)),
    make("p", { class: "equation" }, `${number(softmax.powers[channel])} / ${number(softmax.sum)} = `, strong(softmax.shares[channel])),
  ];
}

function table(columns, rows, caption, chosen = -1) {
  const head = make("tr", {}, ...columns.map((name) => make("th", { scope: "col" }, name)));
  const body = rows.map((row, index) => make("tr", { class: index === chosen ? "chosen" : undefined }, make("th", { scope: "row" }, row[0]), ...row.slice(1).map((cell) => make("td", {}, cell))));
  return make("div", { class: "wide", tabIndex: 0, role: "region", "aria-label": caption }, make("table", {}, make("caption", {}, caption), make("thead", {}, head), make("tbody", {}, ...body)));
}
