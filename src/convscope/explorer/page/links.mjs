// Links between maps: which maps of its inputs a map is made from, and how strongly.

// Links {input, channel, share, sign} of a map: the nth input of its step, the map there, the size of
// the kernel between them as a share of the largest, and the sign of the kernel's sum.
export function linksOf(step, channel, network) {
  const inputs = network.inputs(step), channels = network.channelsOf(step);
  if (!step.explained) return step.sources.map((_, input) => ({ input, channel, share: 1, sign: 1 }));
  if (channels && ["conv", "dense"].includes(step.op)) channel = channels.indexOf(channel);
  if (channel < 0) return [];
  if (step.op === "conv") {
    const { data, shape: [rows, columns, depth, filters] } = step.weights.kernel;
    const first = Math.floor(channel / (filters / (inputs[0].channels / depth))) * depth;
    const links = Array.from({ length: depth }, (_, index) => {
      let size = 0, sum = 0;
      for (let cell = 0; cell < rows * columns; cell++) {
        const weight = data[(cell * depth + index) * filters + channel];
        size += Math.abs(weight);
        sum += weight;
      }
      return { input: 0, channel: first + index, size, sign: Math.sign(sum) || 1 };
    });
    const largest = Math.max(...links.map((link) => link.size)) || 1;
    return links.map(({ size, ...link }) => ({ ...link, share: size / largest }));
  }
  if (step.op === "dense") return denseLinks(step, channel, inputs[0]);
  if (step.op === "flatten") {
    if (!inputs[0]) return [];
    return [{ input: 0, channel: channel % inputs[0].channels, share: 1, sign: 1 }];
  }
  if (step.op === "depthwise") return [{ input: 0, channel: Math.floor((channel * network.inputDepth(step)) / step.shape[2]), share: 1, sign: 1 }];
  if (step.op === "concatenate") {
    let input = 0, at = channel;
    while (at >= inputs[input].channels) at -= inputs[input++].channels;
    return [{ input, channel: at, share: 1, sign: 1 }];
  }
  return inputs.map((_, input) => ({ input, channel, share: 1, sign: 1 }));
}

// A dense layer takes everything: one link, of the sign of the weights' sum over what is active.
function denseLinks(step, unit, x) {
  const { data, shape: [n, units] } = step.weights.kernel;
  let sum = 0;
  for (let i = 0; i < n; i++) sum += data[i * units + unit] * x.data[i];
  return [{ input: 0, channel: 0, share: 1, sign: Math.sign(sum) || 1 }];
}
