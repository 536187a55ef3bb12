// The queue. The next images are loaded before they are needed; a verdict shows the next one at once and is sent behind
// the operator's back, one after the other, again and again with the same key until the record has it.
"use strict";
const $ = (id) => document.getElementById(id);
const csrf = document.querySelector('meta[name="csrf"]').content;
const writes = $("queue").dataset.writes === "yes";
const fresh = () => Array.from(crypto.getRandomValues(new Uint8Array(12)), (b) => b.toString(16).padStart(2, "0")).join("");
let tab = fresh();  // of this showing of the page: what an earlier one gives back late must not free the images of this one

let items = [];            // the one on the screen first
const sent = new Set();  // sent or on its way: the server may still name them
let chain = Promise.resolve(), pending = 0, shownAt = 0, pressedAt = 0;

async function post(path, body) {
  for (let tries = 0; ; tries++) {
    let answer;
    try {
      answer = await fetch(path, { method: "POST", headers: { "Content-Type": "application/json", "X-CSRF-Token": csrf },
        body: JSON.stringify({ tab, ...body }), keepalive: true });
    } catch (error) { answer = null; }
    if (answer && answer.status !== 503 && answer.status !== 429) {
      const body = await answer.json().catch(() => ({}));
      if (!answer.ok) throw new Error(body.error ? body.error.what : `The station answers ${answer.status}.`);
      return body;
    }
    showMessage("The station does not answer; your verdicts wait here and are sent again. Leave this window open.");
    await new Promise((done) => setTimeout(done, Math.min(500 * 2 ** tries, 8000)));
  }
}
function showMessage(words) { $("message").textContent = words; $("message").hidden = !words; }

function load(item) {
  if (item.photo) return;
  item.photo = new Image(); item.photo.alt = `Photograph of ${item.unit}`;
  item.heat = new Image(); item.heat.alt = "Map of what the recipe responds to";
  item.ready = false;
  if (item.error) return;
  item.photo.src = `/pictures/${item.id}/photo.png`;
  item.photo.decode().then(() => { item.ready = true; compare(); }).catch(() => { item.broken = true; if (items[0] === item) show(); compare(); });
}
// Maps take long to draw: one at a time, the nearest first, so that no photograph waits behind them.
let drawing = false;
async function draw() {
  const item = items.slice(0, 4).find((one) => !one.error && !one.broken && !one.asked);
  if (drawing || !item) return;
  drawing = item.asked = true;
  try {
    const answer = await fetch(`/pictures/${item.id}/heat.png`);
    if (answer.status !== 200) { item.noHeat = true; } else {
      item.region = JSON.parse(answer.headers.get("x-region") || "null");
      item.heat.src = URL.createObjectURL(await answer.blob());
      await item.heat.decode();
      item.heated = true;
    }
  } catch (error) { item.noHeat = true; }
  drawing = false;
  if (items[0] === item) view();
  draw();
}

// What to compare with comes last, in a quiet moment: it may be computed, and no photograph and no map waits for it.
let comparing = false, soon = 0;
function compare() { clearTimeout(soon); soon = setTimeout(compareNow, 100); }
async function compareNow() {
  const item = items.slice(0, 2).find((one) => !one.error && !one.near && (one.ready || one.broken));
  if (comparing || !item || items.slice(0, 4).some((one) => !one.ready && !one.broken && !one.error)) return;
  comparing = true;
  try {
    const answer = await fetch(`/queue/near/${item.id}`);
    item.near = answer.ok ? await answer.json() : { good: null, bad: null, why: "The station cannot compare now." };
    for (const word of ["good", "bad"]) {
      const other = item.near[word];
      if (!other) continue;
      other.picture = new Image(); other.picture.alt = `Nearest known ${word}: ${other.unit}`; other.picture.fetchPriority = "low";
      other.picture.src = `/pictures/${other.id}/photo.png`;
      await other.picture.decode().catch(() => { other.broken = true; });
    }
  } catch (error) { item.near = { good: null, bad: null, why: "The station does not answer." }; }
  comparing = false;
  if (items[0] === item) near();
  compare();
}
function near() {
  const answer = items[0].near;
  for (const word of ["good", "bad"]) {
    const other = answer && answer[word], name = $(`${word}-name`);
    $(`${word}-view`).replaceChildren(other && !other.broken ? other.picture : note(!answer ? (items[0].error ? "nothing" : "it comes…") : other ? "no picture" : "none"));
    name.textContent = other ? other.defect || other.unit.split("/").pop() : "";
    name.title = other ? other.unit : "";
    if (other) name.href = `/units/of/${other.id}`; else name.removeAttribute("href");
  }
  $("near-why").textContent = answer ? answer.why : ""; $("near-why").hidden = !(answer && answer.why);
  $("near").classList.toggle("nothing", Boolean(answer && !answer.good && !answer.bad));
  applyView();
}

function take(answer) {
  const known = new Set(items.map((item) => item.id));
  for (const item of answer.items) if (!known.has(item.id) && !sent.has(item.id)) items.push(item);
  items.forEach(load);
  draw();
  if (answer.counts) $("waiting").textContent = answer.counts.waiting - pending;
  if (answer.today !== undefined) $("today").textContent = answer.today;
}

function show() {
  const item = items[0];
  $("item").hidden = !item; $("empty").hidden = Boolean(item);
  if (!item) return;
  $("unit").textContent = item.unit;
  const about = [item.reason || "", item.error ? `cannot be read: ${item.error}` :
    `score ${item.defect_score.toPrecision(3)}, ${item.decision} (accept below ${item.accept_below.toPrecision(3)}, reject from ${item.reject_from.toPrecision(3)})`,
    item.lot ? `lot ${item.lot}` : "", item.machine ? `machine ${item.machine}` : ""];
  $("about").textContent = about.filter(Boolean).join(" · ");
  reset(); view(); draw(); compare();
  shownAt = performance.now();
  if (pressedAt) {
    const from = pressedAt, wanted = item; pressedAt = 0;
    const waitUntilShown = () => requestAnimationFrame(() => {
      if (items[0] !== wanted) return;
      if (wanted.ready || wanted.error || wanted.broken) document.body.dataset.milliseconds = (performance.now() - from).toFixed(1); else waitUntilShown();
    });
    waitUntilShown();
  }
}
function view() {
  const item = items[0];
  $("photo-view").replaceChildren(item.error || item.broken ? note("no picture") : item.photo);
  $("heat-view").replaceChildren(item.heated ? item.heat : note(item.error || item.noHeat ? "no map" : "the map comes…"));
  near();
}
function note(words) { const p = document.createElement("p"); p.className = "muted"; p.textContent = words; return p; }

function send(path, body, then) {
  pending++; $("saving").hidden = false;
  chain = chain.then(() => post(path, body)).then((answer) => { pending--; showMessage(""); take(answer); if (then) then(answer); })
    .catch((error) => { pending--; showMessage(error.message); return refill(); })
    .finally(() => { $("saving").hidden = pending === 0; document.body.dataset.pending = pending; if (!$("item").hidden === !items.length) show(); });
  document.body.dataset.pending = pending;
}
async function refill() { const answer = await post("/queue/next", {}); take(answer); if (answer.items.length && $("item").hidden) show(); }

function verdict(word, defect) {
  const item = items[0];
  if (!item || !writes) return;
  pressedAt = performance.now();
  const seconds = Math.min(86400, (pressedAt - shownAt) / 1000);
  items.shift(); sent.add(item.id);
  show();
  send("/queue/verdict", { inspection: item.id, verdict: word, defect: defect || null, region: item.region || null, key: fresh(), seconds });
  $("waiting").textContent = Math.max(0, Number($("waiting").textContent) - 1);
}
function skip() {
  const item = items.shift();
  if (!item || !writes) return;
  sent.add(item.id);
  show();
  send("/queue/skip", { inspection: item.id }, () => sent.delete(item.id));
}
function undo() {
  if (!writes) return;
  send("/queue/undo", { key: fresh() }, (answer) => {
    if (!answer.undone) { showMessage("There is nothing of yours to take back."); return; }
    sent.delete(answer.undone.id);
    items = [answer.undone, ...items.filter((item) => item.id !== answer.undone.id)];
    load(items[0]); show();
  });
}

// All pictures share zoom, brightness and place.
let zoom = 1, light = 1, x = 0, y = 0;
function applyView() {
  const width = $("photo-view").clientWidth || 1;
  for (const image of document.querySelectorAll(".view img")) {
    const place = image.parentElement, share = place.clientWidth / width;  // smaller pictures move less
    image.style.transform = `translate(${x * share}px, ${y * share}px) scale(${zoom})`;
    image.style.filter = place.id !== "heat-view" && light !== 1 ? `brightness(${light})` : "";
  }
  $("zoom").value = zoom; $("light").value = light;
}
function reset() { zoom = 1; light = 1; x = 0; y = 0; applyView(); }
function zoomTo(value) { zoom = Math.min(8, Math.max(1, value)); if (zoom === 1) { x = 0; y = 0; } applyView(); }
function lightTo(value) { light = Math.min(3, Math.max(0.4, value)); applyView(); }
$("zoom").addEventListener("input", () => zoomTo(Number($("zoom").value)));
$("light").addEventListener("input", () => lightTo(Number($("light").value)));
$("reset").addEventListener("click", reset);
for (const place of document.querySelectorAll(".view")) {
  place.addEventListener("wheel", (event) => { event.preventDefault(); zoomTo(zoom * (event.deltaY < 0 ? 1.25 : 0.8)); }, { passive: false });
  place.addEventListener("pointerdown", (event) => { if (zoom > 1) { place.setPointerCapture(event.pointerId); event.preventDefault(); } });
  place.addEventListener("pointermove", (event) => { if (place.hasPointerCapture(event.pointerId)) { const share = $("photo-view").clientWidth / (place.clientWidth || 1); x += event.movementX * share; y += event.movementY * share; applyView(); } });
}

const types = [...document.querySelectorAll("[data-defect]")].map((button) => button.dataset.defect);
document.querySelectorAll("[data-verdict]").forEach((button) => button.addEventListener("click", () => { button.blur(); verdict(button.dataset.verdict, button.dataset.defect); }));
$("skip").addEventListener("click", skip); $("undo").addEventListener("click", undo); $("undo-empty").addEventListener("click", undo);
const keys = { g: () => verdict("good"), b: () => verdict("bad"), c: () => verdict("unsure"), d: () => verdict("drop"), s: skip, u: undo,
  0: reset, "+": () => zoomTo(zoom * 1.25), "=": () => zoomTo(zoom * 1.25), "-": () => zoomTo(zoom * 0.8), "[": () => lightTo(light - 0.1), "]": () => lightTo(light + 0.1) };
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName) && event.target.type !== "range") return;
  const key = event.key.toLowerCase();
  if (keys[key]) { event.preventDefault(); keys[key](); }
  else if (/^[1-9]$/.test(key) && types[Number(key) - 1]) { event.preventDefault(); verdict("bad", types[Number(key) - 1]); }
});

async function begin() {
  if (!writes) { showMessage("An auditor looks on: images are handed to operators and engineers."); return; }
  try { take(await post("/queue/next", {})); show(); } catch (error) { showMessage(error.message); }
}
setInterval(() => { if (writes && items.length) post("/queue/keep", {}).catch(() => {}); }, 30000);
setInterval(() => { if (writes && !items.length && !pending) refill().catch(() => {}); }, 4000);
addEventListener("pagehide", () => { if (writes) navigator.sendBeacon("/queue/release", new URLSearchParams({ tab, csrf })); });
addEventListener("pageshow", (event) => { if (event.persisted) { tab = fresh(); items = []; begin(); } });
addEventListener("beforeunload", (event) => { if (pending) event.preventDefault(); });
begin();
