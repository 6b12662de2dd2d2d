// Before the first paint: the colours chosen last time, else those of the system.
(function () {
  let chosen = null;
  try {
    chosen = localStorage.getItem("edgeward-theme");
  } catch {
    // a browser that keeps nothing: the system's
  }
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();
