"""The verbs of `edgeward node` for the owner of the data: ledger, policy, approvals."""

import argparse
import json
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Tuple

from orchestrator.cli.state import HELP, only_state
from orchestrator.wire.plain import many

if TYPE_CHECKING:
    from orchestrator.node.ledger import Ledger
    from orchestrator.node.reservation import Reservation
    from orchestrator.node.store import NodeStore

_LEDGER_EPILOG = """examples:
  edgeward node ledger --state edgeward-node-icu           # what was promised and released, epsilon spent
  edgeward node ledger verify --state edgeward-node-icu    # the whole chain, and its end
  edgeward node ledger close RUN --state edgeward-node-icu # frees what a dead run reserved and did not use

A closed run is never served again. The owner of the files decides: run it as the user the node runs as."""


def register(verbs: Any) -> None:
    ledger = verbs.add_parser(
        "ledger",
        help="show or verify what this node's data has spent, or close a run",
        epilog=_LEDGER_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    ledger.add_argument(
        "action",
        nargs="?",
        choices=("show", "verify", "close"),
        default="show",
        help="what to do (default: %(default)s)",
    )
    ledger.add_argument("subject", nargs="?", metavar="RUN", help="the run to close")
    ledger.add_argument("--delta", type=float, default=1e-5, help="at which epsilon is counted (default: %(default)s)")
    ledger.add_argument("--identity", type=Path, metavar="DIR", help="verify: against what this folder remembers too")
    add_state(ledger, _ledger)

    policy = verbs.add_parser("policy", help="check the owner's rules").add_subparsers(
        title="verbs", metavar="VERB", required=True
    )
    check = policy.add_parser("check", help="read a policy and say what it means, for a task if one is given")
    check.add_argument("file", type=Path, help="policy.toml, see docs/policy.toml")
    check.add_argument("--task", type=Path, metavar="EDGEWARD.TOML", help="say whether its declaration would pass")
    check.add_argument("--signer", default="", metavar="HEX", help="key id of the gateway that would sign it")
    check.add_argument("--records", type=int, default=1, help="of this node (default: %(default)s)")
    check.add_argument("--json", action="store_true", help="as JSON")
    check.set_defaults(run=_check)

    approvals = verbs.add_parser("approvals", help="tasks that wait for a person, or were decided on")
    add_state(approvals, _approvals)
    for verb, done in (("approve", "let this node take part in a task"), ("deny", "keep this node out of a task")):
        decide = verbs.add_parser(verb, help=done)
        decide.add_argument("digest", help="of the request, or a beginning that fits only one")
        add_state(decide, _decide)
        decide.set_defaults(verb=verb)

    accept = verbs.add_parser("accept-data", help="let a run go on with data that changed since it was accepted")
    accept.add_argument("subject", metavar="RUN", help="the run")
    add_state(accept, _accept_data)

    forget = verbs.add_parser(
        "forget-answers", help="forget what was answered without noise, which new answers are held against"
    )
    add_state(forget, _forget_answers)


def add_state(parser: argparse.ArgumentParser, run: Any) -> None:
    """The options of a verb that reads a node's state folder, and what it does."""
    parser.add_argument("--state", type=Path, help=HELP)
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(run=run)


@contextmanager
def open_ledger(state: Path, identity: Any = None) -> Iterator[Tuple["Ledger", "NodeStore"]]:
    """The ledger of a node that has run there, checked whole, and its store. UsageError where no node has."""
    from orchestrator.errors import UsageError
    from orchestrator.node.anchor import FolderAnchor, StoreAnchor
    from orchestrator.node.ledger import LEDGER_FILE, Ledger
    from orchestrator.node.store import NodeStore

    if not (state / "node.sqlite").is_file():
        raise UsageError(f"--state {state}: no node has run there")
    with closing(NodeStore(state / "node.sqlite")) as store:
        if StoreAnchor(store).read() is None:
            raise UsageError(f"--state {state}: the node there has not run since ledgers exist; start it once")
        anchors = [StoreAnchor(store), *([FolderAnchor(identity)] if identity is not None else [])]
        with closing(Ledger(state / LEDGER_FILE, anchors)) as ledger:
            yield ledger, store


def _accept_data(arguments: argparse.Namespace) -> int:
    from orchestrator.cli.tables import report
    from orchestrator.errors import UsageError

    with open_ledger(only_state(arguments.state)) as (_, store):
        if not store.thaw(arguments.subject):
            raise UsageError(
                f"{arguments.subject}: this node accepted no such run, or its data are open to change already"
            )
    text = f"{arguments.subject}: goes on with the data it is given next; start the node again"
    report(arguments.json, {"run": arguments.subject, "accepted": True}, text)
    return 0


def _forget_answers(arguments: argparse.Namespace) -> int:
    from orchestrator.cli.tables import report

    with open_ledger(only_state(arguments.state)) as (_, store):
        gone = store.forget_answered()
    text = f"answers of {many(gone, 'set')} of records are forgotten: those that come are not held against them"
    report(arguments.json, {"forgotten": gone}, text)
    return 0


def _ledger(arguments: argparse.Namespace) -> int:
    from orchestrator.cli.tables import say
    from orchestrator.errors import UsageError

    if (arguments.action == "close") != (arguments.subject is not None):
        raise UsageError("node ledger: `close` needs a RUN, and only `close` takes one")
    if not 0 < arguments.delta < 1:
        raise UsageError(f"--delta {arguments.delta}: expected a number between 0 and 1")
    with open_ledger(only_state(arguments.state), arguments.identity) as (ledger, _):
        if arguments.action == "close":
            closed = ledger.close_run(arguments.subject)
            used = ", ".join(f"{kind} {count}" for kind, count in sorted(closed.used.items())) or "nothing"
            say(
                json.dumps({"closed": closed.run, "used": closed.used})
                if arguments.json
                else f"{closed.run}: used {used}"
            )
        elif arguments.action == "verify":
            head = ledger.head
            whole = f"{ledger.path}: whole, {many(head.entries, 'entry', 'entries')}, the last is {head.hash}"
            print(json.dumps({"whole": True, **head._asdict()}) if arguments.json else whole)
        else:
            found = _shown(ledger, arguments.delta)
            if arguments.json:
                print(json.dumps(found, indent=1))
            else:
                say(_page(found))
    return 0


def _shown(ledger: "Ledger", delta: float) -> Dict[str, Any]:
    """Runs and epsilon by privacy unit and in all; epsilon is null where nothing bounds it, or nothing here can count it."""
    import math

    from orchestrator.node.accountant import INSTALL, available, epsilons_apart

    reservations = ledger.reservations()
    private = [r for r in reservations if r.unit != "none"]
    units = sorted({r.unit for r in private})
    found: Dict[str, Any] = {
        "entries": ledger.head.entries,
        "head": ledger.head.hash,
        "delta": delta,
        "runs": [_run(r) for r in reservations],
        "without_privacy": [r.run for r in reservations if r.unit == "none"],
        "spent": {},
        "searches": _searches(ledger),
        "note": "",
    }
    if private and not available():
        found["note"] = f"dp-accounting is not installed here, so epsilon cannot be counted: {INSTALL}"
    elif private:
        sets: List[List[Reservation]] = [[r for r in private if r.unit == unit] for unit in units]
        epsilons = epsilons_apart([*sets, private], delta)
        found["spent"] = {name: e if math.isfinite(e) else None for name, e in zip([*units, "all"], epsilons)}
    return found


def _searches(ledger: "Ledger") -> List[Dict[str, Any]]:
    """For how many patients each querier has asked (`edgeward similar`)."""
    from orchestrator.node.searches import SEARCH

    asked: Dict[str, Dict[str, int]] = {}
    for entry in ledger.entries():
        if entry["kind"] == SEARCH:
            by_question = asked.setdefault(entry["digest"], {})
            by_question[entry["question"]] = by_question.get(entry["question"], 0) + entry["patients"]
    return [{"querier": key, "questions": len(each), "patients": sum(each.values())} for key, each in asked.items()]


def _run(reservation: "Reservation") -> Dict[str, Any]:
    from orchestrator.rounds.stages import FIRST_ROUND

    return {
        "run": reservation.run,
        "task": reservation.task,
        "digest": reservation.digest,
        "unit": reservation.unit,
        "closed": reservation.closed,
        "rounds": sum(number >= FIRST_ROUND for number in reservation.rounds),
        "releases": [
            {**charge.to_dict(), "used": reservation.used.get(charge.kind, 0)} for charge in reservation.charges
        ],
    }


def _page(found: Dict[str, Any]) -> str:
    from orchestrator.cli.tables import number, table

    rows: List[Tuple[str, ...]] = [("run", "task", "unit", "release", "reserved", "used", "noise", "sampled", "state")]
    for run in found["runs"]:
        state = "closed" if run["closed"] else "reserved"
        for release in run["releases"] or [{"kind": "rounds", "count": "-", "used": run["rounds"]}]:
            figures = (str(release["count"]), str(release["used"]))
            noise = (number(release.get("noise_multiplier")), number(release.get("sampling_rate")))
            rows.append((run["run"], run["task"], run["unit"], release["kind"], *figures, *noise, state))
    lines = [f"{many(found['entries'], 'entry', 'entries')}, the last is {found['head']}", ""]
    lines += [table(rows), ""] if found["runs"] else ["no run was ever accepted", ""]
    for unit, epsilon in found["spent"].items():
        bound = "without bound" if epsilon is None else f"{epsilon:.3g}"
        lines.append(
            f"epsilon {bound} at delta {found['delta']:g}: {'all runs with privacy' if unit == 'all' else f'per {unit}'}"
        )
    if found["without_privacy"]:
        lines.append(f"without privacy, so not bounded by any epsilon: {', '.join(found['without_privacy'])}")
    for search in found["searches"]:
        asked = f"{many(search['questions'], 'question')} about {many(search['patients'], 'patient')}"
        lines.append(f"searches for similar patients, of no epsilon above: {asked} by {search['querier']}")
    return "\n".join([*lines, *([found["note"]] if found["note"] else [])]).rstrip()


def _check(arguments: argparse.Namespace) -> int:
    from orchestrator.cli.tables import say
    from orchestrator.node.policy import Refusal, load_policy
    from orchestrator.node.policy_words import describe

    policy, digest = load_policy(arguments.file)
    found: Dict[str, Any] = {"policy": digest, "rules": describe(policy)}
    if arguments.task is not None:
        from orchestrator.gateway.config import load_config

        task = load_config(arguments.task).task
        refusal = policy.objection(task, arguments.signer)
        too_large = policy.objection_to_size(task, arguments.records if task.privacy.within_node else 1)
        if refusal is None and too_large:
            refusal = Refusal("data", too_large)
        found["refusal"] = None if refusal is None else refusal._asdict()
    if arguments.json:
        print(json.dumps(found, indent=1))
    else:
        print("\n".join(found["rules"]))
        if found.get("refusal"):
            say(f"would decline {task.name}: {found['refusal']['reason']}")
        elif arguments.task is not None:
            say(
                f"would take {task.name}, if its epsilon is within the budget left and a person approves where one must"
            )
    return 1 if found.get("refusal") else 0


def _approvals(arguments: argparse.Namespace) -> int:
    from orchestrator.cli.tables import moment, say
    from orchestrator.node.approval import Approvals
    from orchestrator.wire.plain import plain

    with open_ledger(only_state(arguments.state)) as (ledger, _):
        found = [
            {
                **request._asdict(),
                "decision": ledger.decision(request.digest, request.reading),
                "waits": request.waits(ledger),
            }
            for request in Approvals(only_state(arguments.state)).requests()
        ]
    if arguments.json:
        print(json.dumps(found, indent=1))
        return 0
    for request in found:
        decision = request["decision"] or ""
        state = " ".join(
            filter(None, [decision, decision and request["waits"] and "before,", request["waits"] and "WAITS"])
        )
        say(f"{request['digest'][:16]}  {state}  {moment(request['at'])}  run {request['run']}")
        for line in [*request["summary"], *request["peers"]]:
            say(f"    {plain(line, 4000)}")  # a request may be older than the rule that its texts are printable
    if not found:
        print("no task ever had to be approved here")
    return 0


def _decide(arguments: argparse.Namespace) -> int:
    from orchestrator.cli.tables import say
    from orchestrator.node.approval import Approvals
    from orchestrator.node.ledger import APPROVED, DENIED

    state, decision = only_state(arguments.state), APPROVED if arguments.verb == "approve" else DENIED
    with open_ledger(state) as (ledger, _):
        request = Approvals(state).find(arguments.digest, whole=arguments.verb == "approve")
        ledger.decide(request.digest, decision, request.reading)
    if arguments.json:
        print(json.dumps({"digest": request.digest, "decision": decision}))
    else:
        say(
            "\n".join([f"{decision} {request.digest}", *(f"    {line}" for line in [*request.summary, *request.peers])])
        )
    return 0
