// Before the first paint: the colours chosen last time, else those of the system.
(function () {
  const chosen = localStorage.getItem("edgeward-theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();
