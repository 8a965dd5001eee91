// ---------------------------------------------------------------------------------------- which images, which order
// sort: an index of measures, or -1 for the name. ranges: measure -> [low, high], open where null. shown: columns.
// grouped: whether the first EACH of every class follow each other.
const EACH = 4;
const start = () => ({ query: "", sort: -1, descending: false, ranges: new Map(), label: null, part: null, grouped: false, page: 0 });
const state = { ...start(), tile: 1, shown: new Set(columns.keys()) };
let chosen = []; // the images that pass, in order
let groups = new Map(); // position -> the class that begins there
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
  && (state.label == null || image.classes?.includes(state.label)) && (state.part == null || image.part === state.part);

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
  groups = new Map();
  if (state.grouped) {
    const found = data.classes.map((c) => ({ ...c, all: chosen.filter((image) => image.classes?.includes(c.id)) })).filter((c) => c.all.length);
    chosen = [];
    for (const c of found) {
      groups.set(chosen.length, c);
      chosen.push(...c.all.slice(0, EACH));
    }
  }
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
  $("grouping").hidden = data.classes.length < 2;
  drawButtons($("group"), [toggle("by class", state.grouped, group)]);
  $("parts").hidden = data.parts.length < 2;
  drawButtons($("part"), data.parts.map((part) => toggle(`${part} ${images.filter((image) => image.part === part).length.toLocaleString("en")}`,
    state.part === part, () => update({ part: state.part === part ? null : part }))));
  $("classes").hidden = !data.classes.length;
  drawButtons($("classes"), data.classes.map(({ id, name, color, count }) => {
    const button = toggle("", state.label === id, () => update({ label: state.label === id ? null : id }));
    button.append(dot(color), `${name} ${count}`);
    return button;
  }));
}

// The most doubtful of each class come first, where nothing else was chosen.
function group() {
  const doubt = measures.findIndex((m) => m.key === "doubt"), grouped = !state.grouped;
  const sort = grouped && state.sort < 0 && doubt >= 0 ? { sort: doubt, descending: true } : {};
  update({ grouped, label: null, ...sort });
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
const whole = measures.findIndex((m) => !m.of); // a measure of the image: doubt, else disagreement
const mark = measures[whole]?.key === "doubt" ? "?" : "≠";
const names = [...new Set([...measures].sort((a, b) => !a.better - !b.better).filter((m) => m.of).map((m) => m.name))]; // scores first
const caption = () => (measures[state.sort]?.of ? measures[state.sort].name : names[0]);

function tile(image, k, name) {
  const img = el("img", { alt: "", loading: "lazy", decoding: "async", class: image.tile[0] / image.tile[1] >= cellRatio ? "wide" : "tall" });
  img.style.aspectRatio = image.tile.join(" / ");
  sprite(img, image, k);
  const measure = measures.findIndex((m) => m.kind === columns[k].key && m.name === name);
  const value = measure >= 0 ? image.values[measure] : null;
  return el("span", { class: "tile" }, el("span", { class: image.files[k] ? "cell" : "cell missing" }, image.files[k] ? img : null),
    el("span", { class: "caption" }, el("span", { title: columns[k].title }, columns[k].title), value == null ? null : el("span", { class: "number", title: name }, digits(value, 2))));
}

function card(image, position) {
  const differ = whole >= 0 ? image.values[whole] : null;
  const sorted = measures[state.sort];
  const say = sorted ? `, ${measureTitle(sorted)} ${digits(image.values[state.sort])}` : "";
  return el("li", {}, el("button", { type: "button", class: "card", tabindex: -1, "aria-label": image.name + say, "data-position": position, onclick: () => openDetail(position) },
    el("span", { class: "card-head" }, el("span", { class: "name", title: image.name }, image.name),
      data.parts.length > 1 ? el("span", { class: "badge" }, image.part) : null,
      differ == null ? null : el("span", { class: "differ", title: measures[whole].name }, `${mark} ${digits(differ, 2)}`)),
    el("span", { class: "tiles" }, ...[...state.shown].sort((a, b) => a - b).map((k) => tile(image, k, caption())))));
}

function heading(position) {
  const c = groups.get(position);
  if (!c) return [];
  const all = el("button", { type: "button", onclick: () => update({ grouped: false, label: c.id }) }, `all ${c.all.length.toLocaleString("en")}`);
  return [el("li", { class: "group" }, el("h3", {}, dot(c.color), c.name), all)];
}

function drawPage() {
  const first = state.page * PAGE, here = chosen.slice(first, first + PAGE);
  const gallery = $("gallery");
  gallery.style.setProperty("--shown", state.shown.size);
  gallery.style.setProperty("--cell-ratio", cellRatio);
  gallery.style.setProperty("--tile", ["calc(var(--base-tile) * .68)", "var(--base-tile)", "calc(var(--base-tile) * 1.8)"][state.tile]);
  gallery.replaceChildren(...here.flatMap((image, k) => [...heading(first + k), card(image, first + k)]));
  if (here.length) cards()[0].tabIndex = 0;
  $("none").hidden = here.length > 0;
  const filtered = state.grouped ? `, up to ${EACH} of each class` : chosen.length < images.length ? ` (all: ${images.length.toLocaleString("en")})` : "";
  $("status").textContent = here.length ? `${first + 1}–${first + here.length} of ${plural(chosen.length, "image")}${filtered}` : `no image${filtered}`;
  $("key").textContent = [caption() && `under the pictures: ${caption()}`, whole >= 0 && `${mark} ${measures[whole].name}`].filter(Boolean).join(" · ");
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
