// The threshold: counted here from the scores, so that moving a cut shows its price at once.
"use strict";
const $ = (id) => document.getElementById(id);
const EDGE = 1e-5;  // scores are shown as log-odds: that is where decisions are made
const odds = (p) => Math.log(Math.min(Math.max(p, EDGE), 1 - EDGE) / (1 - Math.min(Math.max(p, EDGE), 1 - EDGE)));
const fromOdds = (z) => 1 / (1 + Math.exp(-z));
const END = odds(1 - EDGE);
const toSlider = (p) => Math.round(1000 * (odds(p) + END) / (2 * END));
const fromSlider = (n) => fromOdds(-END + 2 * END * n / 1000);
let data = { good: [], bad: [], bound: [] }, low = Number($("low-exact").value), high = Number($("high-exact").value);

function below(sorted, cut) {  // how many are < cut
  let a = 0, b = sorted.length;
  while (a < b) { const m = (a + b) >> 1; if (sorted[m] < cut) a = m + 1; else b = m; }
  return a;
}
const percent = (share) => !isFinite(share) ? "–" : share === 0 || share === 1 ? `${100 * share} %` : share < 1e-4 ? "<0.01 %" : `${(100 * share).toPrecision(3)} %`;
const number = (value) => value >= 1000 ? Math.round(value).toLocaleString("en") : value.toPrecision(3).replace(/\.?0+$/, "");
const given = (id) => Math.max(0, Number($(id).value) || 0);

function count() {
  const cells = {};
  for (const [label, scores] of [[1, data.bad], [0, data.good]]) {
    const accept = below(scores, low), reject = scores.length - below(scores, high);
    cells[`${label}-accept`] = accept; cells[`${label}-reject`] = reject; cells[`${label}-review`] = scores.length - accept - reject;
  }
  return cells;
}
function update() {
  const cells = count(), bads = data.bad.length, goods = data.good.length;
  const escape = cells["1-accept"] / bads, overkill = cells["0-reject"] / goods;
  $("escapes").textContent = `${cells["1-accept"]} of ${bads}`; $("escapes-more").textContent = `escape rate ${percent(escape)}`;
  $("bound").textContent = bads ? `≤ ${percent(data.bound[cells["1-accept"]])}` : "unknown";
  $("overkill").textContent = percent(overkill); $("overkill-more").textContent = `${cells["0-reject"]} of ${goods} goods`;
  const p = Math.min(given("rate") / 100, 1), units = given("units");
  const shipped = p * escape + (1 - p) * (1 - overkill);
  const review = p * cells["1-review"] / bads + (1 - p) * cells["0-review"] / goods;
  const known = bads > 0 && goods > 0;
  $("ppm").textContent = known && shipped > 0 ? number(1e6 * p * escape / shipped) : "–";
  $("minutes").textContent = known ? `${number(units * review * given("seconds") / 60)} min` : "–";
  $("minutes-more").textContent = known ? `a day, ${percent(review)} of the units` : "";
  const cost = units * (p * escape * given("escape-price") + (1 - p) * overkill * given("overkill-price") + review * given("review-price"));
  $("cost").textContent = known ? number(cost) : "–"; $("cost-more").textContent = known ? "at the prices below" : "needs both classes";
  const lowest = data.bad.length ? data.bound[0] : NaN;
  const heldOut = ["calibration", "test", "held-out"].includes($("of").value);
  $("bound-more").textContent = heldOut ? "proven at 95 % confidence" : "only if these were a fair sample";
  $("sentence").textContent = bads && !heldOut ? `${cells["1-accept"]} escapes in ${bads} bads. This set was trained on or picked by people: it is no sample of the line and proves nothing.` : bads ? `${cells["1-accept"]} escapes in ${bads} bads certify an escape rate of at most ${percent(data.bound[cells["1-accept"]])} at 95 % confidence. With ${bads} bads nothing below ${percent(lowest)} can be proven.` : "No bad image is in this set: the escape rate is unknown.";
  document.querySelectorAll("[data-cell]").forEach((cell) => {
    const [label] = cell.dataset.cell.split("-"), all = label === "1" ? bads : goods, n = cells[cell.dataset.cell];
    cell.querySelector(".count").textContent = n; cell.querySelector(".caption").textContent = all ? percent(n / all) : "–";
  });
  draw();
}
function set(newLow, newHigh) {
  low = Math.min(Math.max(newLow, 0), 1); high = Math.min(Math.max(newHigh, 0), 1);
  $("low").value = toSlider(low); $("high").value = toSlider(high); $("low-number").value = +low.toPrecision(5); $("high-number").value = +high.toPrecision(5);
  $("low-exact").value = low; $("high-exact").value = high;  // shown rounded, sent whole
  const form = $("save");
  if (form) { form.elements.low.value = low; form.elements.high.value = high; }
  $("high").disabled = $("high-number").disabled = !$("band").checked;
  update();
}
function svg(name, values, words) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(values)) node.setAttribute(key, value);
  if (words !== undefined) node.textContent = words;
  return node;
}
const LEFT = 58, RIGHT = 20, WIDTH = 460, HEIGHT = 300;
function cuts(box, top, bottom, at) {
  const named = low === high ? [[low, "reject from"]] : [[low, "review from"], [high, "reject from"]];
  named.forEach(([value, text], row) => {
    const x = at(value);
    box.append(svg("line", { x1: x, x2: x, y1: top, y2: bottom, class: "line cut" }));
    box.append(svg("text", { x: x + (x > 300 ? -6 : 6), y: top + 12 + 16 * row, "text-anchor": x > 300 ? "end" : "start", class: "note halo" }, `${text} ${value.toPrecision(3)}`));
  });
}
function draw() {
  const box = $("histogram"), bins = 40, middle = 140, reach = 105;
  box.replaceChildren();
  const at = (p) => LEFT + (WIDTH - LEFT - RIGHT) * (odds(p) + END) / (2 * END);
  for (const mark of [0.0001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.9999]) {
    box.append(svg("line", { x1: at(mark), x2: at(mark), y1: middle - reach, y2: middle + reach, class: "grid" }));
    box.append(svg("text", { x: at(mark), y: middle + reach + 17, "text-anchor": "middle" }, `${mark}`));
  }
  const places = (scores) => { const of = new Array(bins).fill(0); scores.forEach((s) => { of[Math.min(bins - 1, Math.floor(bins * (odds(s) + END) / (2 * END)))]++; }); return of; };
  const goods = places(data.good), bads = places(data.bad), most = Math.log(1 + Math.max(...goods, ...bads, 1)), wide = (WIDTH - LEFT - RIGHT) / bins;
  goods.forEach((n, i) => { const h = reach * Math.log(1 + n) / most; if (n) box.append(svg("rect", { x: LEFT + i * wide, y: middle - h, width: wide - 0.8, height: h, class: "good right" })); });
  bads.forEach((n, i) => { const h = reach * Math.log(1 + n) / most; if (n) box.append(svg("rect", { x: LEFT + i * wide, y: middle, width: wide - 0.8, height: h, class: "bad right" })); });
  box.append(svg("path", { d: `M${LEFT},${middle} H${WIDTH - RIGHT}`, class: "axis" }));
  box.append(svg("text", { x: LEFT - 8, y: middle - reach / 2, "text-anchor": "end", class: "title" }, "good"), svg("text", { x: LEFT - 8, y: middle + reach / 2, "text-anchor": "end", class: "title" }, "bad"));
  box.append(svg("text", { x: (LEFT + WIDTH - RIGHT) / 2, y: HEIGHT - 8, "text-anchor": "middle", class: "title" }, "defect score"));
  cuts(box, middle - reach - 12, middle + reach, at);
  roc();
}
function roc() {
  const box = $("roc"), top = 22, bottom = HEIGHT - 46;
  box.replaceChildren();
  if (!data.bad.length || !data.good.length) return;
  const points = [];
  for (const cut of [Infinity, ...new Set([...data.bad].reverse())]) points.push([(data.good.length - below(data.good, cut)) / data.good.length, (data.bad.length - below(data.bad, cut)) / data.bad.length]);
  const here = [[low, "here"], [high, "mark"]].map(([cut, css]) => [(data.good.length - below(data.good, cut)) / data.good.length, (data.bad.length - below(data.bad, cut)) / data.bad.length, css]);
  const floor = Math.max(0, Math.min(0.95, Math.floor(20 * Math.min(here[0][1], here[1][1])) / 20));
  const px = (f) => LEFT + (WIDTH - LEFT - RIGHT) * f, py = (t) => bottom - (bottom - top) * (Math.max(t, floor) - floor) / (1 - floor);
  for (let i = 0; i <= 5; i++) {
    const f = i / 5, t = floor + (1 - floor) * i / 5;
    box.append(svg("line", { x1: px(f), x2: px(f), y1: top, y2: bottom, class: "grid" }), svg("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: py(t), y2: py(t), class: "grid" }));
    box.append(svg("text", { x: px(f), y: bottom + 17, "text-anchor": "middle" }, `${20 * i}%`), svg("text", { x: LEFT - 7, y: py(t) + 4, "text-anchor": "end" }, `${+(100 * t).toFixed(1)}%`));
  }
  let path = "", before = null;
  for (const [f, t] of points) { if (t >= floor) path += path ? ` L${px(f)},${py(before)} L${px(f)},${py(t)}` : `M${px(f)},${py(t)}`; before = t; }
  box.append(svg("path", { d: `${path} L${px(1)},${py(1)}`, class: "line ink" }));
  here.forEach(([f, t, css], i) => { if (i === 0 || low !== high) box.append(svg("circle", { cx: px(f), cy: py(t), r: 6, class: css })); });
  box.append(svg("text", { x: (LEFT + WIDTH - RIGHT) / 2, y: HEIGHT - 7, "text-anchor": "middle", class: "title" }, "overkill (FPR)"));
  box.append(svg("text", { transform: `translate(13,${(top + bottom) / 2}) rotate(-90)`, "text-anchor": "middle", class: "title" }, "bads caught (TPR)"));
}
async function load() {
  data = await (await fetch(`/threshold/scores?of=${encodeURIComponent($("of").value)}`)).json();
  const none = !data.good.length && !data.bad.length;
  $("nothing").hidden = !none; $("figures").hidden = none;
  set(low, $("band").checked ? high : low);
  document.body.dataset.loaded = "yes";
}
const typed = (id, now) => $(id).value === String(+now.toPrecision(5)) ? now : Number($(id).value);  // what is shown rounded was not typed
const band = () => $("band").checked;
$("low").addEventListener("input", () => { const at = fromSlider(Number($("low").value)); set(at, band() ? Math.max(at, high) : at); });
$("high").addEventListener("input", () => { const at = fromSlider(Number($("high").value)); set(Math.min(at, low), at); });
$("low-number").addEventListener("change", () => { const at = typed("low-number", low); set(at, band() ? Math.max(at, high) : at); });
$("high-number").addEventListener("change", () => { const at = typed("high-number", high); set(Math.min(at, low), at); });
$("band").addEventListener("change", () => set(low, band() ? high : low));
$("as-served").addEventListener("click", (event) => { const as = event.target.dataset; $("band").checked = as.low !== as.high; set(Number(as.low), Number(as.high)); });
$("by-budget").addEventListener("click", () => {
  const budget = given("budget") / 100;
  let most = -1;
  while (most + 1 < data.bad.length && data.bound[most + 1] <= budget) most++;
  if (most < 0) { $("sentence").textContent = `${data.bad.length} bads cannot prove ${percent(budget)}; the smallest is ${percent(data.bound[0])}.`; return; }
  set(data.bad[most], band() ? Math.max(high, data.bad[most]) : data.bad[most]);
});
["rate", "units", "seconds", "escape-price", "overkill-price", "review-price"].forEach((id) => $(id).addEventListener("input", update));
$("of").addEventListener("change", load);
$("cuts").addEventListener("submit", (event) => event.preventDefault());
load();
