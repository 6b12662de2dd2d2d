// The first view: where the run is, who takes part, what it cost, what boards say.

import { lineChart } from "./charts.js";
import { ago, bytes, card, clock, count, el, empty, epsilon, known, mib, number, seconds, table } from "./dom.js";
import { boardsCard } from "./boards.js";

const PHASES = {
  gathering: "Waiting for nodes",
  collecting: "Collecting updates",
  aggregating: "Aggregating",
  finished: "Finished",
  failed: "Failed",
};

export function drawOverview(state) {
  if (state.opening) return [empty(`Run ${state.opening}`, state.error ?? "Reading …")];
  if (!state.run) return [noRun(state), el("div", { class: "grid" }, boardsCard(state))];
  const trained = state.rounds.filter((r) => r.round > 0 && r.round <= state.live.rounds);
  return [
    heading(state),
    figures(state, trained),
    el("div", { class: "grid" },
      liveCard(state),
      privacyCard(state),
      card("Accuracy", qualityChart(trained, state.live.rounds)),
      card("Loss", lossChart(trained, state.live.rounds)),
      scoresCard(state),
      nodesCard(state),
      boardsCard(state),
      taskCard(state),
      trafficCard(trained, state)),
  ];
}

function noRun(state) {
  const text = state.gateway.running
    ? "The gateway is preparing its first run: planning the noise and exporting the training graph."
    : "Nothing has run in this folder. Start a gateway with `edgeward gateway run CONFIG --out FOLDER`.";
  return empty("No run yet", [text, ...state.activity.slice(0, 5).map((line) => el("span", { class: "muted activity-line" }, line.text))]);
}

function heading(state) {
  const later = state.runs.find((r) => r.run === state.run.run);
  const training = later && later.training > 1 ? `, training ${later.training}` : "";
  return el("div", { class: "heading" },
    el("h1", {}, state.run.name),
    el("p", { class: "muted" }, `run ${state.run.run}${training}`, " · ", el("a", { href: `/statement/${encodeURIComponent(state.run.run)}` }, "privacy statement, to print"), state.other ? [" · ", el("a", { href: "#runs" }, "all runs")] : null));
}

function figures(state, trained) {
  const last = trained[trained.length - 1] ?? {};
  const live = state.live;
  const done = Math.max(0, trained.length);
  const privacy = state.privacy;
  const online = state.nodes.filter((n) => !["away", "declined", ASKED].includes(n.state)).length;
  const boards = state.boards.boards;
  return el("dl", { class: "figures" },
    figure("Rounds", `${done}`, ` / ${live.rounds}`, PHASES[live.phase]),
    figure("Accuracy", known(last.accuracy) ? (100 * last.accuracy).toFixed(1) : "–", known(last.accuracy) ? " %" : "", known(last.auc) ? `AUC ${number(last.auc)}` : "of the gateway’s test rows"),
    privacy.state === "none"
      ? figure("Epsilon", "none", "", "trained without privacy")
      : privacy.state === "ready"
        ? figure("Epsilon spent", epsilon(privacy.spent), ` / ${epsilon(privacy.budget)}`, `per ${privacy.unit}, delta ${privacy.delta}`)
        : figure("Epsilon planned", epsilon(privacy.planned), "", `for all rounds, per ${privacy.unit}, delta ${privacy.delta}`),
    figure("Nodes", `${online}`, ` / ${live.nodes_wanted} wanted`, nodesNote(state.nodes)),
    figure("Updates", bytes(known(last.bytes_up) ? last.bytes_up / Math.max(1, last.updates) : null), "", "a node and round, up"),
    figure("Boards", `${boards.length}`, "", boards.some((b) => b.simulated) ? `${boards.filter((b) => b.simulated).length} simulated` : "reporting"));
}

function nodesNote(nodes) {
  const asked = nodes.filter((n) => n.state === ASKED).length;
  const declined = nodes.filter((n) => n.state === "declined").length;
  return `${declined} declined${asked ? `, ${asked} to be approved` : ""}`;
}

function figure(name, value, unit, note) {
  return el("div", {}, el("dt", {}, name), el("dd", {}, el("span", { class: "value" }, value), el("span", { class: "unit" }, unit), el("span", { class: "note" }, note)));
}

function liveCard(state) {
  const live = state.live;
  const running = state.gateway.running;
  const ended = ["finished", "failed"].includes(live.phase);
  const tag = el("span", { class: `pill ${live.phase === "failed" ? "bad" : ended ? "good" : running ? "busy" : "off"}`, id: "phase" }, PHASES[live.phase] ?? live.phase);
  const name = live.round < 0 ? "Before the first round" : live.kind === "statistics" ? "Statistics round" : live.kind === "evaluation" ? "Last evaluation" : `Round ${live.round} of ${live.rounds}`;
  const parts = [el("p", { class: "lead", id: "round" }, ended ? endedText(live, state) : name)];
  if (!running && !ended) parts.push(el("p", { class: "note-box" }, state.other ? "The gateway does not work on this run." : "The gateway is not running. The same command continues this run where it was."));
  if (live.phase === "gathering") parts.push(el("p", {}, `${live.online} of ${live.nodes_wanted} nodes are here.`));
  if (live.phase === "collecting") {
    parts.push(el("p", { class: "muted" }, `${live.arrived.length} updates here (${bytes(live.bytes_up)}), ${live.quorum} needed, announced ${live.attempt} of at most ${live.attempts} times`));
  }
  if (running && known(live.deadline_at) && !ended) {
    parts.push(el("div", { class: "deadline", "data-deadline": live.deadline_at, "data-seconds": live.deadline_s },
      el("div", { class: "bar" }, el("div", { class: "fill" })), el("span", { class: "left muted" }, "")));
  }
  if (["collecting", "aggregating"].includes(live.phase)) {
    parts.push(el("ul", { class: "chips" },
      live.arrived.map((a) => chip(a.node, "arrived", known(a.bytes) ? bytes(a.bytes) : "arrived")),
      live.awaited.map((n) => chip(n, "awaited", "awaited")),
      live.absent.map((n) => chip(n, "absent", "away"))));
  }
  if (ended && state.run.result) parts.push(resultTable(state.run.result));
  parts.push(activity(state));
  return card("Now", parts, { aside: tag, id: "now" });
}

function endedText(live, state) {
  if (live.phase === "failed") return live.reason;
  if (state.run.result) return `Model ${state.run.result.digest} is in the bundle.`;
  return state.gateway.running ? "All rounds are done; the model is being quantized." : "All rounds are done.";
}

function resultTable(result) {
  if (!result.metrics) return null;
  const rows = ["float", "int8", "tflm"].filter((k) => result.metrics[k]).map((k) => [k === "tflm" ? "TFLM" : k, number(result.metrics[k].accuracy), number(result.metrics[k].auc)]);
  return table("Accuracy of the final model", [{ name: "final model" }, { name: "accuracy", numeric: true }, { name: "AUC", numeric: true }], rows);
}

function chip(node, kind, text) {
  return el("li", { class: `chip ${kind}` }, el("span", { class: "mark", "aria-hidden": "true" }), el("span", {}, node), el("span", { class: "muted" }, text));
}

function activity(state) {
  return el("ul", { class: "activity" }, state.activity.slice(0, 5).map((line) => el("li", {}, el("span", { class: "muted when" }, clock(line.at)), el("span", {}, line.text))));
}

function privacyCard(state) {
  const privacy = state.privacy;
  if (privacy.state === "none") return card("Privacy", el("p", { class: "note-box" }, privacy.claim));
  const planned = `Planned: epsilon ${epsilon(privacy.planned)} at delta ${privacy.delta} for all rounds together, per ${privacy.unit}.`;
  if (privacy.state === "failed") return card("Privacy", [el("p", {}, planned), el("p", { class: "problem" }, privacy.reason)]);
  if (privacy.state === "computing") return card("Privacy", [el("p", {}, planned), el("p", { class: "muted" }, "How much of it each round spends is being computed.")]);
  const begun = state.live.round;
  const spent = privacy.points.filter((p) => p[0] <= Math.max(begun, 0) && begun >= 0);
  const chart = lineChart({
    title: "Epsilon spent over the rounds",
    series: [
      { name: "planned", color: 3, points: privacy.points, dashed: true },
      { name: "spent", color: 3, points: spent },
    ],
    limit: { value: privacy.budget, name: `budget ${epsilon(privacy.budget)}` },
    format: (v, tick) => (tick ? String(v) : epsilon(v)),
    from: 0,
    area: true,
  });
  const facts = [
    ["Unit", `one ${privacy.unit}: ${privacy.adjacency}`],
    ["Accountant", privacy.accountant],
    ["Sampling", privacy.sampling],
    ["Statistics", privacy.statistics],
    ["Noise", `${privacy.noise_multiplier} × clip norm ${privacy.clip_norm}`],
    ["Clipping", state.run.result?.privacy?.clipped],
  ].filter(([, text]) => text);
  return card("Epsilon spent", [
    chart,
    el("details", { id: "privacy-more" }, el("summary", {}, "What is claimed, and what is not"),
      el("dl", { class: "facts" }, facts.map(([k, v]) => [el("dt", {}, k), el("dd", {}, v)])),
      el("h3", {}, "Not covered"),
      el("ul", { class: "plain" }, privacy.not_covered.map((text) => el("li", {}, text)))),
  ], { aside: el("span", { class: "muted" }, `${epsilon(privacy.spent)} of ${epsilon(privacy.budget)} at delta ${privacy.delta}`), id: "privacy" });
}

function qualityChart(rounds, planned) {
  const points = (name) => rounds.map((r) => [r.round, r[name]]);
  return lineChart({ title: "Accuracy and AUC over the rounds", series: [{ name: "accuracy", color: 1, points: points("accuracy") }, { name: "AUC", color: 2, points: points("auc") }], format: (v, tick) => (tick ? String(v) : number(v)), xMin: 1, xMax: planned, to: 1 });
}

function lossChart(rounds, planned) {
  return lineChart({ title: "Loss over the rounds", series: [{ name: "loss", color: 4, points: rounds.map((r) => [r.round, r.loss]) }], format: (v, tick) => (tick ? String(v) : number(v)), xMin: 1, xMax: planned, area: true });
}

function scoresCard(state) {
  const scores = state.scores;
  if (!scores) return null;
  const grid = (caption, [heads, ...rows]) => table(caption, heads.map((name, i) => ({ name: name || "figure", numeric: i > 0 })), rows);
  return card("How good the model is", [
    scores.warnings.map((text) => el("p", { class: "note-box", role: "status" }, text)),
    grid("Figures of the model", scores.rows),
    scores.sites.map((site) => [el("h3", {}, `By site: ${site.title}`), grid(`Figures by site: ${site.title}`, site.rows)]),
    el("p", { class: "muted" }, "Intervals are of 95 %. Thresholds were chosen on the records they are shown for."),
  ], { wide: true, id: "scores" });
}

const ASKED = "waits for its owner";
const STATES = { [ASKED]: "warn", arrived: "good", training: "busy", waiting: "", done: "good", away: "off", declined: "bad", "passed over": "warn" };

function nodesCard(state) {
  if (!state.nodes.length) return card("Nodes", empty("No nodes yet", "Start one beside its data: edgeward node run --broker mqtt://GATEWAY --name NAME --data FILE"), { wide: true });
  const extra = state.nodes.some((n) => Object.keys(n.labels).length || Object.keys(n.health).length);
  const columns = [{ name: "node" }, { name: "state" }, { name: "records", numeric: true }, { name: "updates", numeric: true }, { name: "last seen", numeric: true }, { name: "memory", numeric: true }, { name: "sent", numeric: true }, { name: "received", numeric: true }, ...(extra ? [{ name: "about" }] : [])];
  const rows = state.nodes.map((n) => [
    el("strong", {}, n.node),
    [el("span", { class: `pill ${STATES[n.state] ?? ""}` }, n.state), n.reason ? el("p", { class: "reason" }, n.reason) : null],
    count(n.records), count(n.updates), ago(n.seen_at), mib(n.memory_mib), bytes(n.bytes_sent), bytes(n.bytes_received),
    ...(extra ? [about(n)] : []),
  ]);
  return card("Nodes", table("Nodes of the run", columns, rows), { wide: true, id: "nodes", aside: el("span", { class: "muted" }, `${state.nodes.length} known`) });
}

const HEALTH = { battery: (v) => `battery ${Math.round(v)} %`, temperature_c: (v) => `${Math.round(v)} °C`, free_memory_mib: (v) => `${Math.round(v).toLocaleString("en")} MiB free` };

function about(node) {
  const labels = Object.entries(node.labels).map(([k, v]) => el("span", { class: "label" }, `${k}=${v}`));
  const health = Object.entries(node.health).map(([k, v]) => (HEALTH[k] ? HEALTH[k](v) : `${k.replaceAll("_", " ")} ${v}`)).join(", ");
  return el("div", { class: "about" }, labels, el("span", { class: "muted" }, health));
}

function taskCard(state) {
  return card("Task", el("dl", { class: "facts" }, state.run.words.map((w) => [el("dt", {}, w.term), el("dd", {}, w.text)])));
}

function trafficCard(rounds, state) {
  const last = rounds.slice(-8).reverse();
  if (!last.length) return card("Rounds", el("p", { class: "muted" }, "None is done yet."));
  const columns = [{ name: "round", numeric: true }, { name: "updates", numeric: true }, { name: "time", numeric: true }, { name: "up", numeric: true }, { name: "down", numeric: true }, { name: "codec error", numeric: true }];
  const rows = last.map((r) => [r.round, r.updates, seconds(r.seconds), bytes(r.bytes_up), bytes(r.bytes_down), number(r.codec_error)]);
  const memory = state.gateway.running ? `gateway ${mib(state.gateway.memory_mib)}, dashboard ${mib(state.gateway.dashboard_memory_mib)}` : "";
  return card("Last rounds", table("The last rounds", columns, rows), { aside: el("span", { class: "muted" }, memory) });
}
