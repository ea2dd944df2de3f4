// Opens the network of an explorer's page without a browser, and writes what it computes as JSON: for
// each step its name, its output (null where the page has it in part), whether it is explained, the
// number of explained values, and the largest error of their terms as a share of the largest value.
import { readFileSync } from "node:fs";
import { Network } from "../../../src/convscope/explorer/page/network.mjs";

const text = readFileSync(process.argv[2], "utf-8");
const payload = JSON.parse(text.match(/id="payload">(.*?)<\/script>/s)[1]);
const blobs = [...text.matchAll(/id="blob-\d+">(.*?)<\/script>/gs)].map((match) => match[1]);
const network = await Network.open(payload, (blob) => blobs[blob]);
const found = [];
for (const step of network.steps) {
  if (!network.computed) await network.loadAround(step);
  const output = network.output(step), { top, left, rows, columns } = network.windowOf(step);
  const channels = network.channelsOf(step) ?? Array.from({ length: output.channels }, (_, i) => i);
  const largest = Math.max(...output.range().map(Math.abs)) || 1;
  let n = 0, worst = 0;
  // Eight maps stand for the others: one arithmetic makes all of a step.
  for (const channel of step.explained ? channels.slice(0, 8) : []) for (let row = top; row < top + rows; row++) for (let column = left; column < left + columns; column++) {
    const error = Math.abs(network.terms(step, row, column, channel).value - output.at(row, column, channel)) / largest;
    if (!(error <= worst)) worst = Number.isNaN(error) ? 9 : error;
    n++;
  }
  found.push([step.name, network.computed || output.vector ? Array.from(output.data) : null, step.explained, n, worst]);
}
console.log(JSON.stringify(found));
