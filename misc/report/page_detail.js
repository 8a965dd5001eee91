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
