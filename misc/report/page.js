// Everything is drawn from the JSON in #data. Text enters the page as text nodes only: names may hold any character.
const data = JSON.parse(document.getElementById("data").textContent);
const PAGE = 60, BINS = 28;
const { columns, measures, images } = data;
const $ = (id) => document.getElementById(id);
const SVG_TAGS = new Set(["svg", "g", "path", "line", "rect", "circle", "text", "filter", "feComponentTransfer", "feFuncR", "feFuncG", "feFuncB", "feFuncA", "feColorMatrix", "feMorphology", "feComposite", "feFlood"]);

function el(tag, attributes = {}, ...children) {
  const node = SVG_TAGS.has(tag) ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key === "style") for (const [name, v] of Object.entries(value)) node.style.setProperty(name, v);
    else if (value === true) node.setAttribute(key, "");
    else if (value !== false && value != null) node.setAttribute(key, value);
  }
  node.append(...children.filter((child) => child != null));
  return node;
}
const digits = (v, n = 3) => (v == null ? "–" : Number.isInteger(v) ? String(v) : v.toFixed(n));
const clamp = (v, low, high) => Math.min(high, Math.max(low, v));
const plural = (n, word) => `${n.toLocaleString("en")} ${word}${n === 1 ? "" : "s"}`;
const colour = (kind) => `var(--s${Math.max(0, data.kinds.indexOf(kind)) % 6})`;
const dot = (color, part = 0) => el("span", { class: `dot part${part % 2}`, style: { "--color": color } });
