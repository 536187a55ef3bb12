// The map: all marks on one canvas, so that 10,000 stay quick; the picture of one comes when it is looked at.
"use strict";
const $ = (id) => document.getElementById(id);
const canvas = $("map"), MARGIN = 14;
let data = null, places = [], visible = [], here = -1, order = 0;

function colours() {
  const style = getComputedStyle(document.documentElement), of = (name) => style.getPropertyValue(name).trim();
  return { good: of("--good"), bad: of("--bad"), ink: of("--ink"), paper: of("--paper"), rule: of("--rule") };
}
function place() {  // marks to pixels of the canvas
  const width = canvas.clientWidth, height = canvas.clientHeight, sharp = devicePixelRatio || 1;
  canvas.width = Math.round(width * sharp); canvas.height = Math.round(height * sharp);
  const ends = (values) => { let low = Infinity, high = -Infinity; for (const v of values) { if (v < low) low = v; if (v > high) high = v; } return [low, high - low || 1]; };
  const [left, wide] = ends(data.x), [bottom, tall] = ends(data.y);
  places = data.x.map((x, n) => [MARGIN + (width - 2 * MARGIN) * (x - left) / wide, height - MARGIN - (height - 2 * MARGIN) * (data.y[n] - bottom) / tall]);
  draw();
}
function mark(brush, n, size) {
  const [x, y] = places[n];
  if (data.label[n]) { brush.moveTo(x, y - 1.4 * size); brush.lineTo(x + 1.3 * size, y + size); brush.lineTo(x - 1.3 * size, y + size); brush.closePath(); }
  else { brush.moveTo(x + size, y); brush.arc(x, y, size, 0, 7); }
}
function draw() {
  const brush = canvas.getContext("2d"), sharp = devicePixelRatio || 1, colour = colours(), size = visible.length > 2000 ? 2.4 : 3.6;
  brush.setTransform(sharp, 0, 0, sharp, 0, 0);
  brush.clearRect(0, 0, canvas.width, canvas.height);
  for (const [label, fill] of [[0, colour.good], [1, colour.bad]]) {  // bad ones lie above: they are fewer
    brush.beginPath();
    for (const n of visible) if (data.label[n] === label) mark(brush, n, size);
    brush.globalAlpha = 0.75; brush.fillStyle = fill; brush.fill();
    brush.globalAlpha = 1; brush.strokeStyle = colour.paper; brush.lineWidth = 0.5; brush.stroke();
  }
  if (here >= 0) {
    brush.beginPath(); mark(brush, here, 2 * size); brush.fillStyle = data.label[here] ? colour.bad : colour.good; brush.fill();
    brush.lineWidth = 2.5; brush.strokeStyle = colour.ink; brush.stroke();
  }
}
function nearest(x, y, allowed) {
  let best = -1, least = Infinity;
  for (const n of visible) {
    const dx = places[n][0] - x, dy = places[n][1] - y, far = allowed ? allowed(dx, dy) : dx * dx + dy * dy;
    if (far < least) { least = far; best = n; }
  }
  return [best, least];
}
function look(n) {
  if (n === here) return;
  here = n; draw();
  document.body.dataset.here = n < 0 ? "" : data.id[n];
  $("card").hidden = n < 0;
  if (n < 0) return;
  const turn = ++order, label = data.label[n] ? (data.defects[data.defect[n]] || "bad") : "good";
  $("here").textContent = `${label}: ${data.image[n]}`;
  const image = new Image();  // a picture that comes late must not stand beside another name
  image.src = `/pictures/${data.id[n]}/small.jpg`;
  $("picture").removeAttribute("src");
  image.decode().then(() => { if (turn === order) { $("picture").src = image.src; $("picture").alt = `Photograph ${data.image[n]}`; } }).catch(() => {});
  const [x, y] = places[n], card = $("card");
  card.style.left = `${Math.max(0, Math.min(canvas.clientWidth - card.offsetWidth, x + 14))}px`;
  card.style.top = `${y + 16 + card.offsetHeight < canvas.clientHeight ? y + 16 : Math.max(0, y - 16 - card.offsetHeight)}px`;
}
function open() { if (here >= 0) location.href = `/units/of/${data.id[here]}`; }

function choose() {
  const which = $("which").value, defect = $("defect").value;
  visible = data.x.map((_, n) => n).filter((n) => (which === "" || data.label[n] === Number(which)) && (defect === "" || data.defect[n] === Number(defect)));
  $("goods").textContent = visible.filter((n) => !data.label[n]).length;
  $("bads").textContent = visible.filter((n) => data.label[n]).length;
  look(-1); draw();
}
canvas.addEventListener("pointermove", (event) => {
  const [n, far] = nearest(event.offsetX, event.offsetY);
  look(far < 400 ? n : -1);
});
canvas.addEventListener("pointerdown", (event) => { const [n, far] = nearest(event.offsetX, event.offsetY); if (far < 900) { if (event.pointerType === "mouse" || n === here) { look(n); open(); } else look(n); } });
canvas.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse" && document.activeElement !== canvas) look(-1); });
canvas.addEventListener("focus", () => { if (here < 0 && visible.length && canvas.matches(":focus-visible")) look(nearest(canvas.clientWidth / 2, canvas.clientHeight / 2)[0]); });
canvas.addEventListener("blur", () => look(-1));
const ways = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] };
canvas.addEventListener("keydown", (event) => {
  if (event.key === "Enter") { open(); return; }
  if (event.key === "Escape") { look(-1); return; }
  const way = ways[event.key];
  if (!way || !visible.length) return;
  event.preventDefault();
  if (here < 0) { look(visible[0]); return; }
  const from = here;  // the nearest mark within 45 degrees of the arrow, sideways steps counted double
  const [n, far] = nearest(...places[from], (dx, dy) => {
    const ahead = dx * way[0] + dy * way[1], aside = Math.abs(dx * way[1]) + Math.abs(dy * way[0]);
    return ahead > 0.01 && ahead >= aside ? ahead + 2 * aside : Infinity;
  });
  if (far < Infinity) look(n);
});
$("choice").addEventListener("submit", (event) => event.preventDefault());
for (const id of ["which", "defect"]) $(id).addEventListener("change", choose);
addEventListener("resize", place);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);

async function load() {
  data = await (await fetch("/data/map/points")).json();
  data.defects.forEach((name, n) => $("defect").append(new Option(name, n)));
  const [first, second] = data.explained.map((share) => `${(100 * share).toFixed(1)} %`);
  $("axes").textContent = `Across: first component, ${first} of the variance; upwards: second, ${second}. Two components show only this much: what lies together here may be apart in the others.`;
  place(); choose();
  document.body.dataset.loaded = data.x.length;
}
if (canvas) load();
