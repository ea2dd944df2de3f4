// Elements, and words for people.

// Element with properties (attributes where there is no such property) and children.
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (name === "class") element.className = value;
    else if (name in element && !name.startsWith("aria")) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export const button = (text, onclick, properties = {}) => make("button", { type: "button", onclick, ...properties }, text);

// A label with its control below it.
export const labelled = (text, control) => make("label", { class: "field" }, make("span", {}, text), control);

export function choice(options, value, onchange, properties = {}) {
  const select = make("select", { onchange: () => onchange(select.value), ...properties });
  for (const [key, text] of options) select.append(make("option", { value: key, selected: String(key) === String(value) }, text));
  return select;
}

// Read to people who cannot see the page.
export function announce(text) {
  document.getElementById("status").textContent = text;
}

// A number in three digits, with a true minus sign.
export function number(value, digits = 3) {
  if (value === 0 || !Number.isFinite(value)) return value === 0 ? "0" : value > 0 ? "∞" : Number.isNaN(value) ? "–" : "−∞";
  const size = Math.abs(value);
  let text;
  if (size >= 1e5 || size < 1e-4) {
    const [mantissa, power] = size.toExponential(digits - 2).split("e");
    text = `${mantissa}e${power.replace("+", "").replace("-", "−")}`;
  } else text = size >= 100 ? size.toFixed(Number.isInteger(size) ? 0 : 1) : String(Number(size.toPrecision(digits)));
  return value < 0 ? `−${text}` : text;
}

export const percent = (share) => `${(100 * share).toFixed(1)} %`;
export const count = (n) => n.toLocaleString("en");
export const times = (...sizes) => sizes.join(" × ");
export const plural = (n, word) => `${count(n)} ${word}${n === 1 ? "" : "s"}`;

// Side of a large picture in pixels; two of them stand side by side on a phone.
export function pictureSize() {
  const { clientWidth } = document.documentElement;
  return clientWidth < 700 ? Math.max(120, Math.floor((clientWidth - 44) / 2)) : 320;
}

export const lessMotion = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
export const isDark = () => matchMedia("(prefers-color-scheme: dark)").matches;
