// One stop of the Tab key for the whole lot; arrows go on from there, over empty places too.
"use strict";
const tray = document.querySelector(".tray"), cells = [...tray.querySelectorAll("a")];
cells.forEach((cell, n) => { cell.tabIndex = n ? -1 : 0; });
function go(cell) {
  for (const one of cells) one.tabIndex = -1;
  cell.tabIndex = 0; cell.focus();
}
const middle = (cell) => { const box = cell.getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2]; };
function beside(cell, [right, down]) {  // the nearest unit in the same line or column, as they lie on the screen
  const [x, y] = middle(cell);
  let best = null, least = Infinity;
  for (const one of cells) {
    const [ox, oy] = middle(one), ahead = (ox - x) * right + (oy - y) * down, aside = Math.abs((ox - x) * down) + Math.abs((oy - y) * right);
    if (ahead > 1 && aside < 4 && ahead < least) { best = one; least = ahead; }
  }
  return best;
}
const ways = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] };
tray.addEventListener("keydown", (event) => {
  const cell = event.target.closest("a"), way = ways[event.key], end = { Home: cells[0], End: cells[cells.length - 1] }[event.key];
  if (!cell || !(way || end)) return;
  event.preventDefault();
  const next = end || beside(cell, way);
  if (next) go(next);
});
for (const kind of ["focusin", "pointerover"]) tray.addEventListener(kind, (event) => { const cell = event.target.closest("a"); if (cell) document.getElementById("unit-here").textContent = cell.title; });
