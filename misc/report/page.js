"use strict";
// Everything is drawn from the JSON in #data. Text enters the page as text nodes only: names may hold any character.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const PAGE = 60, BINS = 28;
  const { columns, measures, images } = data;
  const $ = (id) => document.getElementById(id);
  const SVG_TAGS = new Set(["svg", "g", "path", "line", "rect", "circle", "text", "filter", "feComponentTransfer", "feFuncR", "feFuncG", "feFuncB"]);

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
  const dot = (color) => el("span", { class: "dot", style: { "--color": color } });

  // ------------------------------------------------------------------------------------------------ scores, settings
  function table({ columns: heads, rows }) {
    const best = heads.map((head, k) => {
      const values = rows.map((row) => row.values[k]).filter((v) => v != null);
      if (!head.better || values.length < 2) return null;
      return head.better === "low" ? Math.min(...values) : Math.max(...values);
    });
    const arrows = { low: " ↓", high: " ↑" }, words = { low: "lower is better", high: "higher is better" };
    return el("div", { class: "scroll" }, el("table", {},
      el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "result"),
        ...heads.map((head) => el("th", { scope: "col", title: words[head.better] }, head.title + (arrows[head.better] || ""))))),
      el("tbody", {}, ...rows.map((row) => el("tr", {}, el("th", { scope: "row" }, dot(colour(row.kind)), row.title),
        ...row.values.map((v, k) => el("td", { class: v != null && v === best[k] ? "best" : null }, digits(v))))))));
  }

  function settings(title, pairs) {
    const lines = pairs.map(([key, value]) => el("div", {}, el("dt", {}, key), el("dd", {}, value)));
    return el("details", {}, el("summary", {}, title), el("dl", {}, ...lines));
  }

  function summary() {
    const parts = [plural(images.length, "image"), columns.slice(1).map((c) => c.title).join(", ")];
    $("subtitle").append(parts.filter(Boolean).join(" · "));
    if (data.failed) $("subtitle").append(` · ${data.failed} not shown, see `, el("a", { href: "failed.csv" }, "failed.csv"));
    if (data.unscored) $("subtitle").append(` · ${data.unscored} with labels or masks newer than their scores: run eval`);
    $("tables").append(...data.tables.map(table));
    if (!data.tables.length) $("tables").append(el("p", { class: "note" }, "No masks, so no scores: sort the images by disagreement to find the labels worth a look."));
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
      svg.append(el("path", { class: "series", style, d: s.y.map((y, i) => `${i ? "L" : "M"}${sx(s.x[i]).toFixed(1)} ${sy(y).toFixed(1)}`).join("") }));
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
      el("figcaption", {}, ...series.map((s, k) => el("span", {}, dot(colour(s.kind)), s.title, readouts[k]))));
  }

  function barChart({ title, kinds, rows }) {
    const lines = rows.map(({ name, values }) => el("tr", {}, el("th", { scope: "row" }, name),
      el("td", {}, ...values.map((v, k) => el("div", { class: "bar", style: { "--color": colour(kinds[k].kind), width: `${100 * (v || 0)}%` } }))),
      el("td", {}, values.map((v) => (v == null ? "absent" : (100 * v).toFixed(1))).join(" / "))));
    return el("figure", {}, el("h3", {}, title),
      el("div", { class: "bars", tabindex: 0, role: "region", "aria-label": title }, el("table", {}, el("tbody", {}, ...lines))),
      el("figcaption", {}, ...kinds.map((k) => el("span", {}, dot(colour(k.kind)), k.title))));
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

  // ---------------------------------------------------------------------------------------- which images, which order
  // sort: an index of measures, or -1 for the name. ranges: measure -> [low, high], open where null. shown: columns.
  const start = () => ({ query: "", sort: -1, descending: false, ranges: new Map(), label: null, page: 0 });
  const state = { ...start(), tile: 1, shown: new Set(columns.keys()) };
  let chosen = []; // the images that pass, in order
  const lower = images.map((image) => image.name.toLowerCase());
  images.forEach((image, k) => { image.order = k; });

  function inRange(image, but = -1) {
    for (const [k, [low, high]] of state.ranges) {
      const v = image.values[k];
      if (k !== but && (v == null || (low != null && v < low) || (high != null && v > high))) return false;
    }
    return true;
  }
  const passes = (image) => lower[image.order].includes(state.query) && inRange(image)
    && (state.label == null || image.classes?.includes(state.label));

  function compare(a, b) {
    const sign = state.descending ? -1 : 1;
    if (state.sort >= 0) {
      const x = a.values[state.sort], y = b.values[state.sort];
      if (x == null || y == null) { if ((x == null) !== (y == null)) return x == null ? 1 : -1; } // without a value: last
      else if (x !== y) return sign * (x - y);
      return a.order - b.order;
    }
    return sign * (a.order - b.order);
  }

  function update(changes = {}) {
    Object.assign(state, { page: 0 }, changes);
    chosen = images.filter(passes).sort(compare);
    state.page = clamp(state.page, 0, pages() - 1);
    drawControls();
    drawPage();
  }
  const pages = () => Math.max(1, Math.ceil(chosen.length / PAGE));
  const measureTitle = (m) => (m.of ? `${m.name} of ${m.of}` : m.name);

  // -------------------------------------------------------------------------------------------------------- controls
  const toggle = (text, pressed, onclick, more = {}) => el("button", { type: "button", "aria-pressed": String(pressed), onclick, ...more }, text);

  // Draws a row of buttons; the one in focus stays in focus.
  function drawButtons(parent, buttons) {
    const at = [...parent.children].indexOf(document.activeElement);
    parent.replaceChildren(...buttons);
    if (at >= 0) parent.children[Math.min(at, parent.children.length - 1)]?.focus();
  }

  function makeControls() {
    const groups = new Map();
    measures.forEach((m, k) => {
      if (!groups.has(m.of)) groups.set(m.of, []);
      groups.get(m.of).push(el("option", { value: k }, measureTitle(m)));
    });
    $("sort").append(el("option", { value: -1 }, "name"));
    for (const [of, options] of groups) $("sort").append(...(of ? [el("optgroup", { label: of }, ...options)] : options));
    $("query").addEventListener("input", () => update({ query: $("query").value.toLowerCase() }));
    $("sort").addEventListener("change", () => {
      const sort = Number($("sort").value), better = measures[sort]?.better; // the worst come first
      update({ sort, descending: sort >= 0 && better !== "high" });
    });
    $("order").addEventListener("click", () => update({ descending: !state.descending }));
    for (const id of ["from", "to"]) $(id).addEventListener("input", () => setRange(state.sort, ["from", "to"].map((i) => ($(i).value === "" ? null : $(i).valueAsNumber))));
    $("save").addEventListener("click", saveList);
    $("reset").addEventListener("click", () => { $("query").value = ""; update(start()); $("query").focus(); });
    $("controls").addEventListener("submit", (event) => event.preventDefault());
    for (const nav of document.querySelectorAll(".pager")) makePager(nav);
  }

  function setRange(k, [low, high]) {
    if (low == null && high == null) state.ranges.delete(k);
    else state.ranges.set(k, [low, high]);
    update();
  }

  function drawControls() {
    const measure = measures[state.sort];
    $("sort").value = state.sort;
    $("order").textContent = state.descending ? "↓" : "↑";
    $("order").title = state.descending ? "highest first" : "lowest first";
    $("order").setAttribute("aria-label", `Order: ${$("order").title}`);
    drawButtons($("columns"), columns.map((column, k) => toggle(column.title, state.shown.has(k), () => showColumn(k))));
    drawButtons($("sizes"), ["S", "M", "L"].map((text, k) => toggle(text, state.tile === k, () => update({ tile: k, page: state.page }))));
    $("range").hidden = !measure;
    if (measure) drawRange(measure);
    drawButtons($("chips"), [...state.ranges].map(([k, [low, high]]) => {
      const text = `${low == null ? "" : `${low} ≤ `}${measureTitle(measures[k])}${high == null ? "" : ` ≤ ${high}`}`;
      return el("button", { type: "button", "aria-label": `Remove the filter ${text}`, onclick: () => setRange(k, [null, null]) }, `${text} ✕`);
    }));
    $("classes").hidden = !data.classes.length;
    drawButtons($("classes"), data.classes.map(({ id, name, color, count }) => {
      const button = toggle("", state.label === id, () => update({ label: state.label === id ? null : id }));
      button.append(dot(color), `${name} ${count}`);
      return button;
    }));
  }

  function showColumn(k) {
    const shown = new Set(state.shown);
    if (!shown.delete(k)) shown.add(k);
    if (shown.size) update({ shown, page: state.page });
  }

  function drawRange(measure) {
    const values = images.filter((image) => inRange(image, state.sort)).map((image) => image.values[state.sort]).filter((v) => v != null);
    const [low, high] = state.ranges.get(state.sort) || [null, null];
    const least = values.reduce((a, b) => Math.min(a, b), Infinity), most = values.reduce((a, b) => Math.max(a, b), -Infinity);
    $("range-title").textContent = `Only ${measureTitle(measure)}`;
    for (const [id, bound, end] of [["from", low, least], ["to", high, most]]) {
      $(id).placeholder = values.length ? digits(end, 2) : "";
      if (document.activeElement !== $(id)) $(id).value = bound ?? "";
    }
    const bins = new Array(BINS).fill(0), width = 168 / BINS;
    const step = (most - least) / BINS || 1;
    for (const v of values) bins[Math.min(BINS - 1, Math.floor((v - least) / step))]++;
    const tallest = Math.max(1, ...bins);
    $("histogram").replaceChildren(...bins.map((n, k) => {
      const height = n ? Math.max(1.5, (n / tallest) * 33) : 0;
      const out = (low != null && least + (k + 1) * step < low) || (high != null && least + k * step > high);
      return el("rect", { class: out ? "out" : null, x: k * width + 0.5, width: width - 1, y: 34 - height, height });
    }));
  }

  function saveList() {
    const url = URL.createObjectURL(new Blob([chosen.map((image) => `${image.name}\n`).join("")], { type: "text/plain" }));
    el("a", { href: url, download: "images.txt" }).click();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
  }

  function turn(page, focus = false) {
    state.page = clamp(page, 0, pages() - 1);
    drawPage();
    if (!focus && $("bar").getBoundingClientRect().top <= 0) $("bar").scrollIntoView();
  }

  function makePager(nav) {
    const button = (text, name, step) => el("button", { type: "button", "aria-label": name, class: name.split(" ")[0].toLowerCase(), onclick: () => turn(state.page + step) }, text);
    const input = el("input", { type: "number", min: 1, "aria-label": "Page", onchange: () => turn((input.valueAsNumber || 1) - 1) });
    nav.append(button("‹", "Previous page", -1), input, el("span"), button("›", "Next page", 1));
  }

  // --------------------------------------------------------------------------------------------------------- gallery
  // All thumbnails of an image lie side by side in one file: a tile is that file, shifted.
  function sprite(img, image, column) {
    img.src = image.thumb;
    img.style.objectPosition = `${columns.length > 1 ? (100 * column) / (columns.length - 1) : 0}% 50%`;
  }

  const ratios = images.map((image) => image.tile[0] / image.tile[1]).sort((a, b) => a - b);
  const cellRatio = clamp(ratios[ratios.length >> 1] || 1, 0.75, 1.6); // that of the middle image
  const whole = measures.findIndex((m) => !m.of); // a measure of the image: disagreement
  const names = [...new Set([...measures].sort((a, b) => !a.better - !b.better).filter((m) => m.of).map((m) => m.name))]; // scores first
  const caption = () => (measures[state.sort]?.of ? measures[state.sort].name : names[0]);

  function tile(image, k, name) {
    const img = el("img", { alt: "", loading: "lazy", decoding: "async", class: image.tile[0] / image.tile[1] >= cellRatio ? "wide" : "tall" });
    img.style.aspectRatio = image.tile.join(" / ");
    sprite(img, image, k);
    const measure = measures.findIndex((m) => m.kind === columns[k].key && m.name === name);
    const value = measure >= 0 ? image.values[measure] : null;
    return el("span", { class: "tile" }, el("span", { class: image.files[k] ? "cell" : "cell missing" }, image.files[k] ? img : null),
      el("span", { class: "caption" }, el("span", { title: columns[k].title }, columns[k].title), value == null ? null : el("span", { title: name }, digits(value, 2))));
  }

  function card(image, position) {
    const differ = whole >= 0 ? image.values[whole] : null;
    const sorted = measures[state.sort];
    const say = sorted ? `, ${measureTitle(sorted)} ${digits(image.values[state.sort])}` : "";
    return el("li", {}, el("button", { type: "button", class: "card", tabindex: -1, "aria-label": image.name + say, "data-position": position, onclick: () => openDetail(position) },
      el("span", { class: "card-head" }, el("span", { class: "name", title: image.name }, image.name),
        differ == null ? null : el("span", { class: "differ", title: measures[whole].name }, `≠ ${digits(differ, 2)}`)),
      el("span", { class: "tiles" }, ...[...state.shown].sort((a, b) => a - b).map((k) => tile(image, k, caption())))));
  }

  function drawPage() {
    const first = state.page * PAGE, here = chosen.slice(first, first + PAGE);
    const gallery = $("gallery");
    gallery.style.setProperty("--shown", state.shown.size);
    gallery.style.setProperty("--cell-ratio", cellRatio);
    gallery.style.setProperty("--tile", ["calc(var(--base-tile) * .68)", "var(--base-tile)", "calc(var(--base-tile) * 1.8)"][state.tile]);
    gallery.replaceChildren(...here.map((image, k) => card(image, first + k)));
    if (here.length) cards()[0].tabIndex = 0;
    $("none").hidden = here.length > 0;
    const filtered = chosen.length < images.length ? ` (all: ${images.length.toLocaleString("en")})` : "";
    $("status").textContent = here.length ? `${first + 1}–${first + here.length} of ${plural(chosen.length, "image")}${filtered}` : `no image${filtered}`;
    $("key").textContent = [caption() && `under the pictures: ${caption()}`, whole >= 0 && `≠ ${measures[whole].name}`].filter(Boolean).join(" · ");
    for (const nav of document.querySelectorAll(".pager")) {
      const [previous, input, text, next] = nav.children;
      nav.hidden = pages() === 1;
      previous.disabled = state.page === 0;
      next.disabled = state.page === pages() - 1;
      input.value = state.page + 1;
      input.max = pages();
      text.textContent = `of ${pages()}`;
    }
  }
  const cards = () => [...document.querySelectorAll(".card")];

  // Puts the focus on an image, turning to its page. Only one card is in the tab order: the arrows reach the others.
  function focusCard(position) {
    position = clamp(position, 0, chosen.length - 1);
    if (position < 0) return;
    if (Math.floor(position / PAGE) !== state.page) turn(Math.floor(position / PAGE), true);
    for (const node of cards()) node.tabIndex = Number(node.dataset.position) === position ? 0 : -1;
    document.querySelector(".card[tabindex='0']").focus();
  }

  function onGalleryKey(event) {
    const at = Number(event.target.closest?.(".card")?.dataset.position ?? NaN);
    if (Number.isNaN(at) || event.ctrlKey || event.altKey || event.metaKey) return;
    const across = getComputedStyle($("gallery")).gridTemplateColumns.split(" ").length;
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -across, ArrowDown: across, Home: -(at % PAGE), End: PAGE - 1 - (at % PAGE) }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    if (at + step >= 0 && (at + step < chosen.length || event.key === "End")) focusCard(at + step);
  }

  // ---------------------------------------------------------------------------------------------------------- detail
  const view = { position: 0, layer: Math.min(1, columns.length - 1), mode: "wipe" };
  const detail = $("detail"), slider = $("slider");

  function fullUrl(image, k) {
    return columns[k].base + image.files[k];
  }

  // The file itself; its thumbnail where the browser cannot show the file.
  function picture(image, k) {
    const img = el("img", { alt: "", draggable: "false" });
    const filter = image.filters?.[k] || (columns[k].style === "heat" ? "heat" : "");
    img.style.filter = filter && `url(#${filter})`;
    img.addEventListener("error", () => {
      img.style.filter = "";
      img.classList.add("sprite");
      img.style.setProperty("--strength", 1);
      sprite(img, image, k);
      $("detail-note").textContent = "A file is not where it was, or of a kind that browsers do not show: its thumbnail stands in.";
      $("detail-note").hidden = false;
    }, { once: true });
    img.src = fullUrl(image, k);
    return img;
  }

  function openDetail(position) {
    view.position = position;
    drawDetail();
    if (!detail.open) { detail.showModal(); detail.focus(); }
  }

  function drawDetail() {
    const image = chosen[view.position], stage = $("stage");
    const layers = columns.map((_, k) => k).slice(1).filter((k) => image.files[k]);
    if (!layers.includes(view.layer) && layers.length) view.layer = layers[0];
    $("detail-title").textContent = image.name;
    $("detail-place").textContent = `${(view.position + 1).toLocaleString("en")} of ${chosen.length.toLocaleString("en")}`;
    $("previous").disabled = view.position === 0;
    $("next").disabled = view.position === chosen.length - 1;
    $("detail-note").hidden = true;
    stage.style.setProperty("--ratio", image.size[0] / image.size[1]);
    stage.replaceChildren(picture(image, 0));
    if (layers.length) {
      const over = picture(image, view.layer);
      over.className = "over";
      over.style.setProperty("--strength", columns[view.layer].style === "heat" ? 0.62 : 1);
      stage.append(over, el("div", { class: "divider" }));
    }
    const title = layers.length ? columns[view.layer].title : "";
    $("slide-right").textContent = title;
    slider.disabled = !layers.length;
    drawButtons($("layers"), columns.slice(1).map((column, k) => toggle(column.title, view.layer === k + 1 && layers.length > 0,
      () => setLayer(k + 1), { disabled: !image.files[k + 1], title: `key ${k + 1}` })));
    drawButtons($("modes"), [["wipe", "Wipe"], ["blend", "Blend"]].map(([mode, text]) => toggle(text, view.mode === mode, () => { view.mode = mode; drawDetail(); })));
    drawFacts(image);
    slide();
  }

  function drawFacts(image) {
    const rows = columns.filter((c) => measures.some((m) => m.kind === c.key)).map((c) => el("tr", {}, el("th", { scope: "row" }, dot(colour(c.key)), c.title),
      ...names.map((name) => el("td", {}, digits(image.values[measures.findIndex((m) => m.kind === c.key && m.name === name)], 2)))));
    $("detail-scores").hidden = !rows.length;
    $("detail-scores").replaceChildren(el("thead", {}, el("tr", {}, el("th"), ...names.map((name) => el("th", { scope: "col" }, name)))), el("tbody", {}, ...rows));
    const lines = measures.map((m, k) => (m.of || image.values[k] == null ? null : `${m.name}: ${digits(image.values[k])}`));
    const named = data.classes.filter((c) => image.classes?.includes(c.id)).map((c) => c.name);
    $("detail-facts").textContent = [`${image.size[0]} × ${image.size[1]} pixels`, ...lines, named.length ? `classes: ${named.join(", ")}` : null].filter(Boolean).join("\n");
    $("detail-files").replaceChildren(...columns.map((c, k) => (image.files[k] ? el("a", { href: fullUrl(image, k), target: "_blank", rel: "noopener" }, c.title) : null)).filter(Boolean));
  }

  function slide() {
    const title = $("slide-right").textContent, wipe = view.mode === "wipe";
    $("stage").classList.toggle("blend", !wipe);
    $("stage").style.setProperty("--at", `${slider.value}%`);
    $("stage").style.setProperty("--blend", slider.value / 100);
    slider.setAttribute("aria-label", wipe ? `Image on the left, ${title} on the right` : `From image to ${title}`);
    slider.setAttribute("aria-valuetext", `${slider.value} % ${wipe ? "image" : title}`);
  }

  function setLayer(k) {
    if (!chosen[view.position].files[k]) return;
    view.layer = k;
    drawDetail();
  }

  function move(step) {
    const position = clamp(view.position + step, 0, chosen.length - 1);
    if (position !== view.position) openDetail(position);
  }

  function onDetailKey(event) {
    if (event.ctrlKey || event.altKey || event.metaKey || event.target === slider) return; // the slider has its own
    const layers = columns.map((_, k) => k).slice(1).filter((k) => chosen[view.position].files[k]);
    const next = (step) => setLayer(layers.at((layers.indexOf(view.layer) + step) % layers.length));
    const actions = { ArrowLeft: () => move(-1), ArrowRight: () => move(1), ArrowUp: () => next(-1), ArrowDown: () => next(1) };
    const action = actions[event.key] || (/^[1-9]$/.test(event.key) && Number(event.key) < columns.length ? () => setLayer(Number(event.key)) : null);
    if (!action) return;
    event.preventDefault();
    action();
  }

  function makeDetail() {
    slider.addEventListener("input", slide);
    $("previous").addEventListener("click", () => move(-1));
    $("next").addEventListener("click", () => move(1));
    $("close").addEventListener("click", () => detail.close());
    detail.addEventListener("close", () => focusCard(view.position));
    detail.addEventListener("keydown", onDetailKey);
    const drag = (event) => {
      if (!event.buttons || slider.disabled) return;
      const box = $("stage").getBoundingClientRect();
      slider.value = clamp((100 * (event.clientX - box.left)) / box.width, 0, 100);
      slide();
    };
    $("stage").addEventListener("pointerdown", (event) => { $("stage").setPointerCapture(event.pointerId); drag(event); });
    $("stage").addEventListener("pointermove", drag);
  }

  // Gray files are coloured by the browser: see filters() of page.py.
  function makeFilter(id, type, tables) {
    const parts = ["R", "G", "B"].map((c, k) => el(`feFunc${c}`, { type, tableValues: tables[k].map((v) => (v / 255).toFixed(3)).join(" ") }));
    $("filters").append(el("filter", { id, "color-interpolation-filters": "sRGB", x: 0, y: 0, width: 1, height: 1 }, el("feComponentTransfer", {}, ...parts)));
  }

  summary();
  charts();
  let resized = 0;
  window.addEventListener("resize", () => { cancelAnimationFrame(resized); resized = requestAnimationFrame(charts); });
  for (const [id, { type, tables }] of Object.entries(data.filters)) makeFilter(id, type, tables);
  makeControls();
  makeDetail();
  $("gallery").addEventListener("keydown", onGalleryKey);
  update();
})();
