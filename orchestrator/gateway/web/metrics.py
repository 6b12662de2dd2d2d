"""The gateway's /metrics page. Names end in their unit, counters in _total, as Prometheus' naming rules have it."""

from typing import Any, Dict, List, Optional

from orchestrator.exposition import Page
from orchestrator.gateway.web.fleet import HERE, LEFT, UNHEARD, UNKNOWN
from orchestrator.gateway.web.fleet_order import newest_of
from orchestrator.gateway.web.listener import LISTENING
from orchestrator.gateway.web.standing import ENDS, IDLE, INTERRUPTED, PREPARING, STARTING, WORKING
from orchestrator.rounds.state import AGGREGATING, COLLECTING, FAILED, FINISHED, GATHERING, WAITING

_AT_WORK = (GATHERING, COLLECTING, AGGREGATING, WAITING)
"""States of a run in which somebody sees which nodes are there."""
_PHASES = (*_AT_WORK, FINISHED, FAILED, INTERRUPTED, STARTING)
_STANDINGS = (PREPARING, WORKING, *ENDS, INTERRUPTED, IDLE)
_ROLLOUTS = ("running", "finished", "halted", "failed", "lost")
"""States of a roll-out, as boards/fleet_journal.py has them."""
_MIB = float(1 << 20)


def render(
    sections: Dict[str, Any],
    counts: Dict[str, int],
    heard_at: Optional[float] = None,
    fleet: Optional[Dict[str, Any]] = None,
) -> str:
    """`sections` of DashboardModel, `counts` of the gateway's progress events since it began (empty when not its child).

    heard_at: DashboardModel.heard_at, Unix seconds. fleet: DashboardModel.fleet.
    """
    page = Page()
    gateway = sections["gateway"]
    page.add("edgeward_gateway_up", "gauge", "1 while a gateway works on this folder", {}, int(gateway["running"]))
    for state in _STANDINGS:
        about = "1 for how the gateway of this folder stands"
        page.add("edgeward_gateway_state", "gauge", about, {"state": state}, int(gateway["state"] == state))
    if heard_at is not None:
        about = "When the gateway at work last showed that it runs: one that stands still is up all the same"
        page.add("edgeward_gateway_heard_timestamp_seconds", "gauge", about, {}, heard_at)
    about = "Resident memory of a process"
    for process, value in (("gateway", gateway["memory_mib"]), ("dashboard", gateway["dashboard_memory_mib"])):
        if value:
            page.add("edgeward_process_resident_memory_bytes", "gauge", about, {"process": process}, value * _MIB)
    for kind, name, help_text in (
        ("refused", "edgeward_messages_refused_total", "Messages of nodes the gateway refused since it began"),
        ("broker_restarted", "edgeward_broker_restarts_total", "Times the gateway started its own broker again"),
        ("broker_lost", "edgeward_broker_disconnects_total", "Times the gateway lost its broker"),
    ):
        page.add(name, "counter", help_text, {}, counts.get(kind, 0))
    if sections["run"] is not None:
        _add_run(page, sections)
    listening = int(sections["boards"]["state"] == LISTENING)
    page.add("edgeward_boards_listening", "gauge", "1 while records of boards would be heard", {}, listening)
    _add_boards(page, sections["boards"]["boards"], sections["boards"]["now"])
    if fleet is not None and fleet["checked"]:
        _add_fleet(page, fleet)
    return page.text()


def _add_run(page: Page, sections: Dict[str, Any]) -> None:
    live, done = sections["live"], sections["live"]["totals"]["rounds"]
    run = {"run": sections["run"]["run"]}
    info = {**run, "task": sections["run"]["name"], "federation": sections["gateway"]["federation"]}
    page.add("edgeward_run_info", "gauge", "The run this page is about", info, 1)
    for phase in _PHASES:
        labels = {**run, "phase": phase}
        page.add("edgeward_run_phase", "gauge", "1 for the phase the run is in", labels, int(live["state"] == phase))
    page.add("edgeward_round", "gauge", "The open round; 0 is statistics, -1 is before", run, live["round"])
    page.add("edgeward_rounds_planned", "gauge", "Training rounds of the run", run, live["rounds"])
    page.add("edgeward_rounds_completed_total", "counter", "Training rounds aggregated", run, done)
    states = [row["state"] for row in sections["nodes"]]
    if live["state"] in _AT_WORK:  # else nobody has looked since
        page.add("edgeward_nodes_online", "gauge", "Nodes that hold task and data", run, live["online"])
    page.add("edgeward_nodes_declined", "gauge", "Nodes that declined the run", run, states.count("declined"))
    if not sections["run"]["secret_sample"]:
        _add_participation(page, sections, run)
    for name, suffix in (("accuracy", "_ratio"), ("auc", "_ratio"), ("loss", "")):
        measured = [row[name] for row in _trained(sections) if row.get(name) is not None]
        if measured:
            about = f"{name} of the newest training round that has it"
            page.add(f"edgeward_{name}{suffix}", "gauge", about, run, measured[-1])
    privacy = sections["privacy"]
    if privacy["state"] != "none":
        labels = {**run, "unit": privacy["unit"], "delta": f"{privacy['delta']:g}"}
        page.add("edgeward_privacy_epsilon_budget", "gauge", "Epsilon the task may spend", labels, privacy["budget"])
        if privacy["state"] == "ready":
            page.add("edgeward_privacy_epsilon_spent", "gauge", "Epsilon spent so far", labels, privacy["spent"])


def _trained(sections: Dict[str, Any]) -> List[Dict[str, Any]]:
    """Rows of training rounds, as the page's curves have them: no release before, and no evaluation after them."""
    return [row for row in sections["rounds"] if 0 < row["round"] <= sections["live"]["rounds"]]


def _add_participation(page: Page, sections: Dict[str, Any], run: Dict[str, str]) -> None:
    """What shows how many nodes a round asked and heard: not where the claim counts on that being secret."""
    live = sections["live"]
    totals = live["totals"]
    if live["state"] in _AT_WORK:
        page.add("edgeward_nodes_awaited", "gauge", "Nodes whose update the round waits for", run, len(live["awaited"]))
        about = "Nodes the open round is short of even if all that are here answer; 0 while it can succeed"
        page.add("edgeward_round_nodes_lacking", "gauge", about, run, (live["lacking"] or {"nodes": 0})["nodes"])
    page.add("edgeward_updates_total", "counter", "Updates aggregated", run, totals["updates"])
    about = "Bytes of message bodies of aggregated rounds, by direction as the gateway sees it"
    for direction, name in (("received", "bytes_up"), ("sent", "bytes_down")):
        total = totals[name] + totals["others"][name]
        page.add("edgeward_round_bytes_total", "counter", about, {**run, "direction": direction}, total)
    about = "Time from announcing a round to its result"
    page.add("edgeward_rounds_seconds_total", "counter", about, run, totals["seconds"])
    trained = _trained(sections)
    if trained:
        about = "Time the newest training round took"
        page.add("edgeward_last_round_seconds", "gauge", about, run, trained[-1]["seconds"])


def _add_boards(page: Page, boards: Any, now: float) -> None:
    for board in boards:
        name = {"board": board["board"]}
        page.add("edgeward_records_total", "counter", "Records that reached the gateway", name, board["received"])
        page.add("edgeward_records_lost_total", "counter", "Sequence numbers never received", name, board["lost"])
        page.add("edgeward_board_last_seen_timestamp_seconds", "gauge", "When the last came", name, board["seen_at"])
        simulated = {None: "unknown", True: "true", False: "false"}[board["simulated"]]
        labels = {**name, "simulated": simulated}
        reports = now - board["seen_at"] <= board["silent_s"]
        page.add("edgeward_board_reporting", "gauge", "0 for a board that has become silent", labels, int(reports))
        if reports:  # what a silent board said last is not how it is now
            _add_measures(page, board, labels)


def _add_fleet(page: Page, fleet: Dict[str, Any]) -> None:
    """Of boards in the owner's file alone: a broker can make up any number of others."""
    presences = [board["presence"] for board in fleet["boards"] if board["of_fleet"]]
    for presence in (HERE, LEFT, UNHEARD, UNKNOWN):
        about, labels = "Boards of the fleet by whether they are connected", {"presence": presence}
        page.add("edgeward_fleet_boards", "gauge", about, labels, presences.count(presence))
    newest = newest_of(fleet["rollouts"])
    if newest is None:
        return
    for state in _ROLLOUTS:
        about, labels = "1 for how the newest roll-out stands", {"kind": newest["kind"], "state": state}
        page.add("edgeward_rollout_state", "gauge", about, labels, int(newest["state"] == state))
    for outcome, count in newest["counts"].items():
        about, labels = "Boards of the newest roll-out by what became of them", {"outcome": outcome}
        page.add("edgeward_rollout_boards", "gauge", about, labels, count)


def _add_measures(page: Page, board: Dict[str, Any], labels: Dict[str, str]) -> None:
    metrics, psi = board["metrics"], board["drift"].get("psi")
    for statistic in ("p50", "p95", "p99", "max"):
        value = metrics.get(f"latency_{statistic}_us")
        if type(value) in (int, float):
            about, of = "Time of an inference on the board's own clock", {**labels, "statistic": statistic}
            page.add("edgeward_board_latency_seconds", "gauge", about, of, value / 1e6)
    if type(metrics.get("inferences")) is int:
        about = "Inferences since the board or its model began"
        page.add("edgeward_inferences_total", "counter", about, labels, metrics["inferences"])
    if type(psi) in (int, float):
        about = "Population stability index of the inputs"
        page.add("edgeward_board_drift_psi", "gauge", about, {"board": board["board"]}, psi)
