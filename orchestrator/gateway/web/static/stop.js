// Asks the gateway to stop, after a question: in order, so that the same command continues the run. Outside of what events redraw.

import { postJson } from "./ask.js";
import { el } from "./dom.js";

export function stopButton(run) {
  return el("p", {}, el("button", { class: "quiet", type: "button", id: "stop", onclick: () => ask(run) }, "Stop this run"));
}

function ask(run) {
  const problem = el("p", { class: "problem", role: "alert" });
  const stop = async (event) => {
    event.preventDefault();
    try {
      await postJson(`/api/stop/${encodeURIComponent(run)}`, {});
      dialog.close();
    } catch (error) {
      problem.textContent = error.message;
    }
  };
  const dialog = el("dialog", { class: "card", "aria-labelledby": "stop-head", onclose: () => dialog.remove() },
    el("form", { class: "note-form", onsubmit: stop },
      el("h2", { id: "stop-head" }, `Stop ${run}?`),
      el("p", {}, "The gateway ends, and this page with it. Nothing that was acknowledged is lost: the same command, given on the gateway, continues the run where it was."),
      problem,
      el("div", { class: "pager" },
        el("button", { class: "quiet", type: "submit", id: "stop-yes" }, "Stop the gateway"),
        el("button", { class: "quiet", type: "button", onclick: () => dialog.close() }, "Let it run"))));
  document.body.append(dialog);
  dialog.showModal();
}
