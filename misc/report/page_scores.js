// ------------------------------------------------------------------------------------------------ scores, settings
// Rows of one part of the set follow each other, and the best of each part is bold.
function table({ columns: heads, rows }) {
  const best = (split, head, k) => {
    const values = rows.filter((row) => row.split === split).map((row) => row.values[k]).filter((v) => v != null);
    if (!head.better || values.length < 2) return null;
    return head.better === "low" ? Math.min(...values) : Math.max(...values);
  };
  const part = (row, k) => (row.split && row.split !== rows[k - 1]?.split
    ? [el("tr", { class: "part" }, el("th", { scope: "rowgroup", colspan: heads.length + 1 }, row.split))] : []);
  const arrows = { low: " ↓", high: " ↑" }, words = { low: "lower is better", high: "higher is better" };
  return el("div", { class: "scroll" }, el("table", {},
    el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "result"),
      ...heads.map((head) => el("th", { scope: "col", title: words[head.better] }, head.title + (arrows[head.better] || ""))))),
    el("tbody", {}, ...rows.flatMap((row, at) => [...part(row, at), el("tr", {},
      el("th", { scope: "row" }, dot(colour(row.kind), row.part), row.split ? row.title.slice(0, -row.split.length - 3) : row.title),
      ...row.values.map((v, k) => el("td", { class: v != null && v === best(row.split, heads[k], k) ? "best" : null }, digits(v))))]))));
}

function settings(title, pairs) {
  const lines = pairs.map(([key, value]) => el("div", {}, el("dt", {}, key), el("dd", {}, value)));
  return el("details", {}, el("summary", {}, title), el("dl", {}, ...lines));
}

function summary() {
  const some = data.total > images.length + (data.failed || 0);
  const number = some ? `a sample of ${images.length.toLocaleString("en")} of ${plural(data.total, "image")}` : plural(images.length, "image");
  const parts = [number, columns.slice(1).map((c) => c.title).join(", ")];
  $("subtitle").append(parts.filter(Boolean).join(" · "));
  if (data.failed) $("subtitle").append(` · ${data.failed} not shown, see `, el("a", { href: "failed.csv" }, "failed.csv"));
  if (data.unscored) $("subtitle").append(` · ${data.unscored} with labels or masks newer than their scores: run ${data.evaluate || "eval"}`);
  $("tables").append(...data.tables.map(table));
  if (data.advice) $("tables").append(el("p", { class: "note" }, data.advice));
  for (const [title, pairs] of Object.entries(data.settings)) if (pairs.length) $("settings").append(settings(title, pairs));
}

// ---------------------------------------------------------------------------------------------------------- charts
// width is set by charts(): one unit of a chart is one pixel of the page, so that its text has the size of the others
const BOX = { width: 420, height: 270, left: 44, right: 10, top: 8, bottom: 40 };

function ticks([low, high]) {
  const rough = (high - low) / 5 || 1, power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((m) => m * power >= rough - 1e-12);
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k++) found.push(Number((k * step).toPrecision(12)));
  return found;
}

// series: [{title, kind, x, y, best}], best being the index of a point to mark
function lineChart({ title, xTitle, yTitle, xDomain, yDomain, series }) {
  const { width, height, left, right, top, bottom } = BOX;
  const sx = (x) => left + ((x - xDomain[0]) / (xDomain[1] - xDomain[0] || 1)) * (width - left - right);
  const sy = (y) => height - bottom - ((y - yDomain[0]) / (yDomain[1] - yDomain[0] || 1)) * (height - top - bottom);
  const short = (v) => (Math.abs(v) >= 10000 ? `${v / 1000}k` : String(v));
  const svg = el("svg", { viewBox: `0 0 ${width} ${height}`, role: "img" },
    ...ticks(yDomain).flatMap((v) => [
      el("line", { class: "grid", x1: left, x2: width - right, y1: sy(v), y2: sy(v) }),
      el("text", { class: "axis-text", x: left - 7, y: sy(v) + 4, "text-anchor": "end" }, short(v))]),
    ...ticks(xDomain).map((v) => el("text", { class: "axis-text", x: sx(v), y: height - bottom + 17, "text-anchor": "middle" }, short(v))),
    el("text", { class: "axis-text", x: (left + width - right) / 2, y: height - 4, "text-anchor": "middle" }, xTitle));
  const cross = el("line", { class: "cross", y1: top, y2: height - bottom, visibility: "hidden" });
  const readouts = series.map((s) => {
    const style = { "--color": colour(s.kind) };
    svg.append(el("path", { class: `series part${(s.part || 0) % 2}`, style, d: s.y.map((y, i) => `${i ? "L" : "M"}${sx(s.x[i]).toFixed(1)} ${sy(y).toFixed(1)}`).join("") }));
    if (s.best != null) svg.append(el("circle", { class: "mark", style, r: 4, cx: sx(s.x[s.best]), cy: sy(s.y[s.best]) }));
    return el("span");
  });
  const rest = series.map((s) => (s.best == null ? "" : ` best ${digits(s.y[s.best])} at ${digits(s.x[s.best], 2)}`));
  const reset = () => { readouts.forEach((node, k) => { node.textContent = rest[k]; }); cross.setAttribute("visibility", "hidden"); };
  const follow = (event) => {
    const box = svg.getBoundingClientRect();
    const x = xDomain[0] + (((event.clientX - box.left) / box.width) * width - left) / (width - left - right) * (xDomain[1] - xDomain[0]);
    series.forEach((s, k) => {
      const near = s.x.reduce((found, v, i) => (Math.abs(v - x) < Math.abs(s.x[found] - x) ? i : found), 0);
      readouts[k].textContent = ` ${digits(s.y[near])} at ${digits(s.x[near], 2)}`;
    });
    const at = sx(clamp(x, ...xDomain));
    for (const [key, value] of [["x1", at], ["x2", at], ["visibility", "visible"]]) cross.setAttribute(key, value);
  };
  svg.append(cross);
  svg.addEventListener("pointermove", follow);
  svg.addEventListener("pointerleave", reset);
  svg.setAttribute("aria-label", `${title}, ${yTitle} against ${xTitle}: ${series.map((s, k) => s.title + rest[k]).join("; ")}`);
  reset();
  return el("figure", {}, el("h3", {}, title), svg,
    el("figcaption", {}, ...series.map((s, k) => el("span", {}, dot(colour(s.kind), s.part), s.title, readouts[k]))));
}

// A row per class, a column per result: its value, and a bar below it.
function barChart({ title, kinds, rows }) {
  const cell = (v, { kind, part }) => el("td", {}, v == null ? "absent" : (100 * v).toFixed(1),
    el("div", { class: `bar part${part % 2}`, style: { "--color": colour(kind), width: `${100 * (v || 0)}%` } }));
  const lines = rows.map(({ name, values }) => el("tr", {}, el("th", { scope: "row" }, name), ...values.map((v, k) => cell(v, kinds[k]))));
  const heads = kinds.map((k) => el("th", { scope: "col", title: k.title, "aria-label": k.title }, dot(colour(k.kind), k.part)));
  return el("figure", {}, el("h3", {}, title),
    el("div", { class: "bars", tabindex: 0, role: "region", "aria-label": title },
      el("table", {}, el("thead", {}, el("tr", {}, el("th"), ...heads)), el("tbody", {}, ...lines))),
    el("figcaption", {}, ...kinds.map((k) => el("span", {}, dot(colour(k.kind), k.part), k.title))));
}

const argmax = (values) => values.reduce((best, v, i) => (v > values[best] ? i : best), 0);
const topOf = (series) => Math.max(...series.flatMap((s) => s.y));

function charts() {
  const figures = [], { curves, sweeps, bars, losses } = data;
  fitCharts(2 * !!curves.length + !!sweeps.length + losses.length + bars.length);
  if (curves.length) {
    const common = { yDomain: [0, 1] };
    figures.push(
      lineChart({ ...common, title: "Precision and recall", xTitle: "recall", yTitle: "precision", xDomain: [0, 1],
        series: curves.map((c) => ({ ...c, x: c.recall, y: c.precision })) }),
      lineChart({ ...common, title: "F-measure", xTitle: "threshold", yTitle: "F", xDomain: [0, 255],
        series: curves.map((c) => ({ ...c, x: data.thresholds, y: c.f, best: argmax(c.f) })) }));
  }
  if (sweeps.length) {
    const series = sweeps.map((s) => ({ ...s, best: argmax(s.y) }));
    figures.push(lineChart({ title: "Background threshold", xTitle: "threshold", yTitle: "mIoU", series,
      xDomain: [0, Math.max(...series.map((s) => s.x.at(-1)))], yDomain: [0, Math.min(1, topOf(series) * 1.12)] }));
  }
  for (const { title, ...loss } of losses) {
    figures.push(lineChart({ title, xTitle: "step", yTitle: "loss", series: [{ title: "loss", kind: data.kinds[0], ...loss }],
      xDomain: [loss.x[0], loss.x.at(-1)], yDomain: [Math.min(0, ...loss.y), Math.max(...loss.y) * 1.05 || 1] }));
  }
  figures.push(...bars.map(barChart));
  $("figures").replaceChildren(...figures);
}

function fitCharts(count) {
  const gap = 16, least = 340, inside = 34;
  $("charts").hidden = !count;
  const width = $("figures").clientWidth, across = clamp(Math.floor((width + gap) / (least + gap)), 1, count || 1);
  BOX.width = Math.max(220, (width - gap * (across - 1)) / across - inside);
}
