// What all pages share: the word that proves that a change comes from this page goes with every htmx request.
document.addEventListener("htmx:config:request", (event) => {
  const context = event.detail && event.detail.ctx;
  if (context && context.request && context.request.headers) {
    context.request.headers["X-CSRF-Token"] = document.querySelector('meta[name="csrf"]').content;
    context.request.headers["HX-Request"] = "true";
  }
});
