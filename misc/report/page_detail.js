// ---------------------------------------------------------------------------------------------------------- detail
const ZOOMS = [1, 2, 4, 8];
const view = { position: 0, layer: Math.min(1, columns.length - 1), mode: "wipe", zoom: 1, x: 0, y: 0 }; // x, y: of the zoomed picture, in pixels
const detail = $("detail"), slider = $("slider");

function fullUrl(image, k) {
  return columns[k].base + image.files[k];
}

// What colours a file, and then finds its outline; gray files of a heat map are told apart by their levels alone.
function filterOf(image, k, outline) {
  const { style } = columns[k], own = image.filters?.[k] || (style === "heat" && !outline ? "heat" : "");
  const edge = outline ? (style === "classes" ? "outline-classes" : "outline") : "";
  return [own, edge].filter(Boolean).map((id) => `url(#${id})`).join(" ");
}

// The file itself; its thumbnail where the browser cannot show the file.
function picture(image, k, outline = false) {
  const img = el("img", { alt: "", draggable: "false" });
  img.style.filter = filterOf(image, k, outline);
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

// Every image has an address, #name as its thumbnail's file is called: opening one is a step that Back undoes.
const addressOf = (image) => `#${image.thumb.replace(/^report_files\//, "").replace(/\.webp$/, "")}`;

let leaving = false; // the browser has yet to go back

function openDetail(position) {
  if (leaving) { window.addEventListener("popstate", () => openDetail(position), { once: true }); return; }
  const address = addressOf(chosen[position]), first = !detail.open;
  view.position = position;
  Object.assign(view, { zoom: 1, x: 0, y: 0 });
  drawDetail();
  if (first) { detail.showModal(); detail.focus(); }
  if (location.hash === address) return;
  if (first) history.pushState({ opened: true }, "", address);
  else history.replaceState(history.state, "", address);
}

// Closed by a person: back to where it was opened, or where the page was opened at an image, to the page itself.
function leaveDetail() {
  focusCard(view.position);
  if (!location.hash) return;
  leaving = Boolean(history.state?.opened);
  if (leaving) history.back();
  else history.replaceState(null, "", location.pathname + location.search);
}

function followAddress() {
  leaving = false;
  const named = (image) => addressOf(image) === location.hash;
  if (!location.hash || location.hash === "#images") { if (detail.open) detail.close(); return; }
  let position = chosen.findIndex(named);
  if (position < 0 && images.some(named)) { // it is filtered out
    $("query").value = "";
    update(start());
    position = chosen.findIndex(named);
  }
  if (position >= 0) openDetail(position);
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
  $("sheet").replaceChildren(picture(image, 0));
  if (layers.length) {
    const over = picture(image, view.layer, view.mode === "outline");
    over.className = "over";
    over.style.setProperty("--strength", columns[view.layer].style === "heat" ? 0.62 : 1);
    $("sheet").append(over, el("div", { class: "divider" }));
  }
  const title = layers.length ? columns[view.layer].title : "";
  $("slide-right").textContent = title;
  slider.disabled = !layers.length || view.mode === "outline";
  drawButtons($("layers"), columns.slice(1).map((column, k) => toggle(column.title, view.layer === k + 1 && layers.length > 0,
    () => setLayer(k + 1), { disabled: !image.files[k + 1], title: `key ${k + 1}` })));
  drawButtons($("modes"), [["wipe", "Wipe"], ["blend", "Blend"], ["outline", "Outline"]].map(([mode, text]) => toggle(text, view.mode === mode, () => setMode(mode))));
  drawZoom();
  drawFacts(image);
  slide();
}

function setMode(mode) {
  view.mode = mode;
  drawDetail();
}

// The point (x, y) of the stage, in pixels, stays where it is.
function zoomTo(zoom, x, y) {
  const box = $("stage").getBoundingClientRect(), before = view.zoom;
  view.zoom = clamp(zoom, ZOOMS[0], ZOOMS.at(-1));
  x ??= box.width / 2;
  y ??= box.height / 2;
  pan(x - ((x - view.x) * view.zoom) / before, y - ((y - view.y) * view.zoom) / before);
}

function pan(x, y) {
  const box = $("stage").getBoundingClientRect();
  view.x = clamp(x, box.width * (1 - view.zoom), 0);
  view.y = clamp(y, box.height * (1 - view.zoom), 0);
  drawZoom();
}

function drawZoom() {
  const stage = $("stage");
  for (const [name, value] of [["--zoom", view.zoom], ["--x", `${view.x}px`], ["--y", `${view.y}px`]]) stage.style.setProperty(name, value);
  stage.classList.toggle("zoomed", view.zoom > 1);
  stage.classList.toggle("near", view.zoom >= 4);
  drawButtons($("zooms"), ZOOMS.map((zoom) => toggle(`${zoom}×`, view.zoom === zoom, () => zoomTo(zoom))));
}

const nextZoom = (step) => ZOOMS[clamp(ZOOMS.findIndex((zoom) => zoom >= view.zoom) + step, 0, ZOOMS.length - 1)];

function drawFacts(image) {
  const rows = columns.filter((c) => measures.some((m) => m.kind === c.key)).map((c) => el("tr", {}, el("th", { scope: "row" }, dot(colour(c.key)), c.title),
    ...names.map((name) => el("td", {}, digits(image.values[measures.findIndex((m) => m.kind === c.key && m.name === name)], 2)))));
  $("detail-scores").hidden = !rows.length;
  $("detail-scores").replaceChildren(el("thead", {}, el("tr", {}, el("th"), ...names.map((name) => el("th", { scope: "col" }, name)))), el("tbody", {}, ...rows));
  const part = data.parts.length > 1 && image.part ? `part: ${image.part}` : null;
  const lines = measures.map((m, k) => (m.of || image.values[k] == null ? null : `${m.name}: ${digits(image.values[k])}`));
  const named = data.classes.filter((c) => image.classes?.includes(c.id)).map((c) => c.name);
  $("detail-facts").textContent = [`${image.size[0]} × ${image.size[1]} pixels`, part, ...lines, named.length ? `classes: ${named.join(", ")}` : null].filter(Boolean).join("\n");
  $("detail-files").replaceChildren(...columns.map((c, k) => (image.files[k] ? el("a", { href: fullUrl(image, k), target: "_blank", rel: "noopener" }, c.title) : null)).filter(Boolean));
}

function slide() {
  const title = $("slide-right").textContent, wipe = view.mode === "wipe";
  $("stage").classList.toggle("blend", view.mode === "blend");
  $("stage").classList.toggle("outline", view.mode === "outline");
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
  const actions = { ArrowLeft: () => move(-1), ArrowRight: () => move(1), ArrowUp: () => next(-1), ArrowDown: () => next(1),
    o: () => setMode(view.mode === "outline" ? "wipe" : "outline"), "+": () => zoomTo(nextZoom(1)), "=": () => zoomTo(nextZoom(1)),
    "-": () => zoomTo(nextZoom(-1)), 0: () => zoomTo(1) };
  const action = actions[event.key.length === 1 ? event.key.toLowerCase() : event.key] || (/^[1-9]$/.test(event.key) && Number(event.key) < columns.length ? () => setLayer(Number(event.key)) : null);
  if (!action) return;
  event.preventDefault();
  action();
}

function makeDetail() {
  slider.addEventListener("input", slide);
  $("previous").addEventListener("click", () => move(-1));
  $("next").addEventListener("click", () => move(1));
  $("close").addEventListener("click", () => detail.close());
  detail.addEventListener("close", leaveDetail);
  window.addEventListener("popstate", followAddress);
  window.addEventListener("hashchange", followAddress);
  $("skip").addEventListener("click", (event) => { event.preventDefault(); $("images").focus(); $("images").scrollIntoView(); });
  detail.addEventListener("keydown", onDetailKey);
  let held = null; // where a zoomed picture was taken hold of
  const drag = (event) => {
    if (!event.buttons) return;
    if (view.zoom > 1) { if (held) pan(held.x + event.clientX, held.y + event.clientY); return; }
    if (slider.disabled) return;
    const box = $("stage").getBoundingClientRect();
    slider.value = clamp((100 * (event.clientX - box.left)) / box.width, 0, 100);
    slide();
  };
  $("stage").addEventListener("pointerdown", (event) => {
    $("stage").setPointerCapture(event.pointerId);
    held = { x: view.x - event.clientX, y: view.y - event.clientY };
    drag(event);
  });
  $("stage").addEventListener("wheel", (event) => {
    event.preventDefault();
    const box = $("stage").getBoundingClientRect();
    zoomTo(view.zoom * 2 ** (-event.deltaY / 240), event.clientX - box.left, event.clientY - box.top);
  }, { passive: false });
  $("stage").addEventListener("dblclick", (event) => {
    const box = $("stage").getBoundingClientRect();
    zoomTo(view.zoom > 1 ? 1 : 4, event.clientX - box.left, event.clientY - box.top);
  });
  $("stage").addEventListener("pointermove", drag);
}

// Gray files are coloured by the browser: see filters() of page.py.
function makeFilter(id, type, tables) {
  const parts = ["R", "G", "B"].map((c, k) => el(`feFunc${c}`, { type, tableValues: tables[k].map((v) => (v / 255).toFixed(3)).join(" ") }));
  $("filters").append(el("filter", { id, "color-interpolation-filters": "sRGB", x: 0, y: 0, width: 1, height: 1 }, el("feComponentTransfer", {}, ...parts)));
}

// What is at least half white, or of a class, as the ring around it: in one colour, or in that of the class.
function makeOutlines() {
  const alpha = (row) => el("feColorMatrix", { type: "matrix", values: `1 0 0 0 0  0 1 0 0 0  0 0 1 0 0  ${row}`, result: "inside" });
  const ring = (radius) => [el("feMorphology", { in: "inside", operator: "dilate", radius }), el("feComposite", { in2: "inside", operator: "out", result: "ring" })];
  const sure = (table) => el("feComponentTransfer", { result: "inside" }, el("feFuncA", { type: "discrete", tableValues: table }));
  const common = { "color-interpolation-filters": "sRGB", x: 0, y: 0, width: 1, height: 1 };
  const one = [alpha(".3333 .3334 .3333 0 0"), sure("0 1"), ...ring(2), el("feFlood", { "flood-color": "#ff2bd6" }), el("feComposite", { in2: "ring", operator: "in" })];
  const many = [alpha("255 255 255 0 0"), ...ring(3), el("feColorMatrix", { type: "matrix", values: "1.9 0 0 0 0  0 1.9 0 0 0  0 0 1.9 0 0  0 0 0 1 0" })];
  $("filters").append(el("filter", { ...common, id: "outline" }, ...one), el("filter", { ...common, id: "outline-classes" }, ...many));
}

summary();
charts();
let resized = 0;
window.addEventListener("resize", () => { cancelAnimationFrame(resized); resized = requestAnimationFrame(charts); });
for (const [id, { type, tables }] of Object.entries(data.filters)) makeFilter(id, type, tables);
makeOutlines();
makeControls();
makeDetail();
$("gallery").addEventListener("keydown", onGalleryKey);
update();
followAddress();
