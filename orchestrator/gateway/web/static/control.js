// Asks the gateway to stop, or starts it again once it is gone; each after a question. Outside of what events redraw.

import { postJson } from "./ask.js";
import { el } from "./dom.js";

export function stopButton(run) {
  return button("stop", "Stop this run", {
    head: `Stop ${run}?`,
    text: "The gateway ends. Nothing that was acknowledged is lost: it can be started again from this page while the page stays, or by the same command, and continues the run where it was.",
    yes: "Stop the gateway", no: "Let it run", path: `/api/stop/${encodeURIComponent(run)}`,
  });
}

export function startButton(run) {
  return button("start", "Start the gateway again", {
    head: `Go on with ${run}?`,
    text: "The gateway is started by the command it was started by before, on its machine. It prints to restarted.log in its output folder, and this page becomes that of its dashboard: you may have to log in again.",
    yes: "Start it", no: "Not now", path: `/api/start/${encodeURIComponent(run)}`,
  });
}

function button(id, text, question) {
  return el("p", {}, el("button", { class: "quiet", type: "button", id, onclick: () => ask(id, question) }, text));
}

function ask(id, { head, text, yes, no, path }) {
  const problem = el("p", { class: "problem", role: "alert" });
  const submit = async (event) => {
    event.preventDefault();
    try {
      await postJson(path, {});
      dialog.close();
    } catch (error) {
      problem.textContent = error.message;
    }
  };
  const dialog = el("dialog", { class: "card", "aria-labelledby": `${id}-head`, onclose: () => dialog.remove() },
    el("form", { class: "note-form", onsubmit: submit },
      el("h2", { id: `${id}-head` }, head),
      el("p", {}, text),
      problem,
      el("div", { class: "pager" },
        el("button", { class: "quiet", type: "submit", id: `${id}-yes` }, yes),
        el("button", { class: "quiet", type: "button", onclick: () => dialog.close() }, no))));
  document.body.append(dialog);
  dialog.showModal();
}
