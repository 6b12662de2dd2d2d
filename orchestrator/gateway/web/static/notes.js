// What people wrote on a run, and the dialog to write it: outside of what events redraw, and kept until it is saved or cancelled, so that
// nothing typed is lost by an event, a reload, a login that is over or a key too many.

import { postJson } from "./ask.js";
import { el } from "./dom.js";
import { draftOf, keepDraft } from "./kept.js";

export function noteOf(run) {
  return [
    (run.tags ?? []).map((tag) => el("span", { class: "label" }, tag)),
    run.note ? el("span", { class: "muted" }, run.note) : null,
  ];
}

export function noteButton(run, redraw) {
  const text = draftOf(run.run) ? "unsaved note" : run.note || run.tags?.length ? "edit note" : "add a note";
  return el("button", { class: "link", type: "button", "aria-label": `${text} of ${run.run}`, onclick: () => ask(run, redraw) }, text);
}

function ask(run, redraw) {
  const draft = draftOf(run.run);
  const keep = () => keepDraft(run.run, { note: note.value, tags: tags.value });
  const note = el("textarea", { id: "note-text", maxlength: "500", rows: "3", oninput: keep }, draft?.note ?? run.note ?? "");
  const tags = el("input", { id: "note-tags", value: draft?.tags ?? (run.tags ?? []).join(", "), placeholder: "baseline, for the paper", oninput: keep });
  const problem = el("p", { class: "problem", role: "alert" });
  const save = async (event) => {
    event.preventDefault();
    const names = tags.value.split(",").map((tag) => tag.trim().replaceAll(/\s+/g, "-")).filter(Boolean);
    try {
      await postJson(`/api/notes/${encodeURIComponent(run.run)}`, { note: note.value, tags: names });
      end();
    } catch (error) {
      problem.textContent = error.message;
    }
  };
  const end = () => {
    keepDraft(run.run, null);
    dialog.close();
  };
  const dialog = el("dialog", { class: "card", "aria-labelledby": "note-head", onclose: () => { dialog.remove(); redraw(); } },
    el("form", { class: "note-form", onsubmit: save },
      el("h2", { id: "note-head" }, `Note on ${run.run}`),
      draft ? el("p", { class: "muted", id: "note-draft" }, "This was written before, and is not saved.") : null,
      el("label", { for: "note-text" }, "Note"), note,
      el("label", { for: "note-tags" }, "Tags, with commas between"), tags,
      problem,
      el("div", { class: "pager" },
        el("button", { class: "quiet", type: "submit" }, "Save"),
        el("button", { class: "quiet", type: "button", onclick: end }, "Cancel"))));
  document.body.append(dialog);
  dialog.showModal();
}
