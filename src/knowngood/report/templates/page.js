// A link to a folded block unfolds it; printing unfolds all. Without scripts the blocks open by a click.
function unfold() {
  const block = location.hash && document.getElementById(location.hash.slice(1));
  if (block && block.tagName === "DETAILS") { block.open = true; block.scrollIntoView(); }
}
addEventListener("hashchange", unfold);
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((d) => { d.open = true; }));
document.querySelectorAll('a[href^="#"]').forEach((a) => a.addEventListener("click", () => setTimeout(unfold)));
unfold();
// A point of a scatter shows its photograph while the pointer is on it.
const card = document.createElement("figure"), photo = document.createElement("img"), words = document.createElement("figcaption");
card.className = "card"; card.hidden = true; photo.alt = ""; card.append(photo, words); document.body.append(card);
document.querySelectorAll("[data-picture] > title").forEach((t) => t.remove());
document.addEventListener("pointerover", (event) => {
  const point = event.target.closest && event.target.closest("[data-picture]");
  card.hidden = !point;
  if (!point) return;
  photo.hidden = !point.dataset.picture;
  if (point.dataset.picture) photo.src = point.dataset.picture;
  words.textContent = point.dataset.caption;
  const right = event.clientX + 24 + card.offsetWidth > innerWidth, low = event.clientY + 24 + card.offsetHeight > innerHeight;
  card.style.left = `${event.clientX + (right ? -14 - card.offsetWidth : 14)}px`;
  card.style.top = `${event.clientY + (low ? -14 - card.offsetHeight : 14)}px`;
});
