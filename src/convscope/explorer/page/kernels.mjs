// Kernels by name, for any size. Rows and columns of numbers, row by row.

function filled(rows, columns, weight) {
  const middle = [(rows - 1) / 2, (columns - 1) / 2];
  return Array.from({ length: rows * columns }, (_, i) => weight(Math.floor(i / columns) - middle[0], (i % columns) - middle[1], rows * columns));
}

// Upper left one of the middle cells, where the size is even.
const isCentre = (down, across) => (down === 0 || down === -0.5) && (across === 0 || across === -0.5);

export const KERNELS = {
  blur: ["Blur", (rows, columns) => filled(rows, columns, (_, __, n) => 1 / n)],
  sharpen: ["Sharpen", (rows, columns) => filled(rows, columns, (down, across, n) => (n === 1 ? 1 : isCentre(down, across) ? 2 : -1 / (n - 1)))],
  edges: ["Edges", (rows, columns) => filled(rows, columns, (down, across, n) => (isCentre(down, across) ? n - 1 : -1))],
  vertical: ["Vertical edges", (rows, columns) => filled(rows, columns, (_, across) => Math.sign(across))],
  horizontal: ["Horizontal edges", (rows, columns) => filled(rows, columns, (down) => Math.sign(down))],
  identity: ["Identity", (rows, columns) => filled(rows, columns, (down, across) => Number(isCentre(down, across)))],
};
