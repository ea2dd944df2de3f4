// Activation functions, by Keras' names. Softmax, which looks at all values at once, is apart.

const sigmoid = (x) => (x >= 0 ? 1 / (1 + Math.exp(-x)) : Math.exp(x) / (1 + Math.exp(x)));
const hardSigmoid = (x) => Math.min(Math.max(x / 6 + 0.5, 0), 1);

// Error function: Taylor's series near 0, a continued fraction beyond; exact to 1e-12.
function erf(x) {
  const a = Math.abs(x);
  let found;
  if (a < 2.5) {
    let term = a, sum = a;
    for (let n = 1; n < 60; n++) { term *= (-a * a) / n; sum += term / (2 * n + 1); }
    found = (2 / Math.sqrt(Math.PI)) * sum;
  } else {
    let fraction = 0;
    for (let n = 60; n > 0; n--) fraction = n / 2 / (a + fraction);
    found = 1 - Math.exp(-a * a) / (Math.sqrt(Math.PI) * (a + fraction));
  }
  return Math.sign(x) * found;
}

function relu(x, { max = null, slope = 0, threshold = 0 } = {}) {
  if (x < threshold) return slope * (x - threshold);
  return max === null ? x : Math.min(x, max);
}

const FUNCTIONS = {
  linear: (x) => x,
  relu,
  relu6: (x) => relu(x, { max: 6 }),
  silu: (x) => x * sigmoid(x),
  sigmoid,
  tanh: Math.tanh,
  gelu: (x) => 0.5 * x * (1 + erf(x / Math.SQRT2)),
  elu: (x) => (x > 0 ? x : Math.expm1(x)),
  hard_sigmoid: hardSigmoid,
  hard_silu: (x) => x * hardSigmoid(x),
  softplus: (x) => Math.log1p(Math.exp(-Math.abs(x))) + Math.max(x, 0),
};

// Function of {name, ...parameters}; null is the identity.
export function activationOf(activation) {
  if (activation === null) return (x) => x;
  const found = FUNCTIONS[activation.name];
  return (x) => found(x, activation);
}

// Shares {shares, powers, sum, largest} of logits: exp(x - largest) / sum of all of them.
export function softmax(logits) {
  const largest = Math.max(...logits), powers = Array.from(logits, (x) => Math.exp(x - largest));
  const sum = powers.reduce((a, b) => a + b, 0);
  return { shares: powers.map((power) => power / sum), powers, sum, largest };
}

const LABELS = { relu: "ReLU", relu6: "ReLU6", silu: "SiLU", gelu: "GELU", elu: "ELU", tanh: "tanh", sigmoid: "sigmoid", hard_sigmoid: "hard sigmoid", hard_silu: "hard SiLU", softplus: "softplus", softmax: "softmax" };
export const labelOf = (activation) => (activation.name === "relu" && activation.max === 6 ? "ReLU6" : LABELS[activation.name] ?? activation.name);

// Formula of an activation function with a number in it.
export function formulaOf(activation, x, number) {
  const n = number(x);
  switch (activation.name) {
    case "relu": case "relu6": {
      const max = activation.name === "relu6" ? 6 : activation.max ?? null;
      if (activation.slope) return `${n} if positive, else ${number(activation.slope)} × ${n}`;
      return max === null ? `max(0, ${n})` : `min(${max}, max(0, ${n}))`;
    }
    case "silu": return `${n} / (1 + exp(${number(-x)}))`;
    case "sigmoid": return `1 / (1 + exp(${number(-x)}))`;
    case "gelu": return `½ × ${n} × (1 + erf(${n} / √2))`;
    default: return `${labelOf(activation)}(${n})`;
  }
}
