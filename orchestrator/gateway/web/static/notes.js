// What people wrote on a run, and the dialog to write it: outside of what events redraw, so nothing typed is lost.

import { postJson } from "./ask.js";
import { el } from "./dom.js";

export function noteOf(run) {
  return [
    (run.tags ?? []).map((tag) => el("span", { class: "label" }, tag)),
    run.note ? el("span", { class: "muted" }, run.note) : null,
  ];
}

export function noteButton(run) {
  const text = run.note || run.tags?.length ? "edit note" : "add a note";
  return el("button", { class: "link", type: "button", "aria-label": `${text} of ${run.run}`, onclick: () => ask(run) }, text);
}

function ask(run) {
  const note = el("textarea", { id: "note-text", maxlength: "500", rows: "3" }, run.note ?? "");
  const tags = el("input", { id: "note-tags", value: (run.tags ?? []).join(", "), placeholder: "baseline, for the paper" });
  const problem = el("p", { class: "problem", role: "alert" });
  const save = async (event) => {
    event.preventDefault();
    const names = tags.value.split(",").map((tag) => tag.trim().replaceAll(/\s+/g, "-")).filter(Boolean);
    try {
      await postJson(`/api/notes/${encodeURIComponent(run.run)}`, { note: note.value, tags: names });
      dialog.close();
    } catch (error) {
      problem.textContent = error.message;
    }
  };
  const dialog = el("dialog", { class: "card", "aria-labelledby": "note-head", onclose: () => dialog.remove() },
    el("form", { class: "note-form", onsubmit: save },
      el("h2", { id: "note-head" }, `Note on ${run.run}`),
      el("label", { for: "note-text" }, "Note"), note,
      el("label", { for: "note-tags" }, "Tags, with commas between"), tags,
      problem,
      el("div", { class: "pager" },
        el("button", { class: "quiet", type: "submit" }, "Save"),
        el("button", { class: "quiet", type: "button", onclick: () => dialog.close() }, "Cancel"))));
  document.body.append(dialog);
  dialog.showModal();
}
