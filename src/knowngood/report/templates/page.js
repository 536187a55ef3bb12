// A link to a folded block unfolds it; printing unfolds all. Without scripts the blocks open by a click.
function unfold() {
  const block = location.hash && document.getElementById(location.hash.slice(1));
  if (block && block.tagName === "DETAILS") { block.open = true; block.scrollIntoView(); }
}
addEventListener("hashchange", unfold);
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((d) => { d.open = true; }));
document.querySelectorAll('a[href^="#"]').forEach((a) => a.addEventListener("click", () => setTimeout(unfold)));
unfold();
