"""The states the pages are looked at in: of each a store, a clock, and the place where it is seen."""

import json
import math
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional

import numpy as np
from copies import copy_runs
from fleet_records import PLACE, marked
from remembered import accountant_remembered
from stage import Scene, Stage, gateway_at_work

from orchestrator.boards.fleet_file import Fleet
from orchestrator.boards.fleet_journal import Journal
from orchestrator.boards.fleet_owner import FleetOwner
from orchestrator.boards.rollout import BoardResult, Outcome, Rollout
from orchestrator.gateway.figures import ANSWERS
from orchestrator.gateway.store import Store
from orchestrator.gateway.web.listener import Listener
from orchestrator.rounds.events import Aggregated, Arrived, Declined, Joined, Left, Started, Ticked
from orchestrator.wire.board_records import GONE
from orchestrator.wire.link import Message
from orchestrator.wire.protection import Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Rounds, Task, task_to_dict
from orchestrator.wire.training import Training

RUN = "sepsis-0123abcd"
WARDS = {"cardiac": 190, "medical": 230, "neuro": 270, "surgical": 310}
DIGEST = "5f0e1c2b9d3a4f68"
STATEMENT = json.loads((Path(__file__).resolve().parents[2] / "golden" / "tasks.json").read_text())["bands"][
    "statement"
]
PRIVACY = Privacy(
    epsilon=8.0, delta=1e-3, noise_multiplier=1.5, statistics_noise_multiplier=5.0, statistics_clip_norm=0.5
)
ROUND_S = 12.0


def ward_task(rounds: int) -> Task:
    features = (Feature("age", 0, 110), Feature("lactate", 0, 30), Feature("map", 20, 180))
    schema = Schema("table", "sepsis", ("no", "yes"), {"0": 0, "1": 1}, features)
    rules = Rounds(nodes=4, quorum=3, deadline_s=300.0)
    training = Training(rounds=rounds, local_steps=4, learning_rate=0.5)
    model = {"kind": "mlp", "hidden": [64, 32]}
    return Task("sepsis", schema, model, training, PRIVACY, rules)


class Ward:
    """A run of four wards of a hospital; a fifth declined. `at`: when its gateway began."""

    def __init__(self, out: Path, rounds: int = 24, run: str = RUN, at: Optional[float] = None) -> None:
        self.at = time.time() - 100 * ROUND_S if at is None else at
        self._store, self._run, self._rounds = Store(out / "gateway.sqlite"), run, rounds
        self._store.create_run(run, task_to_dict(ward_task(rounds)), b"graph", np.zeros(5, np.float32))
        self.happens(Started)

    def happens(self, event: Callable[..., Any], *given: Any, after: float = 1.0) -> None:
        self.at += after
        self._store.append(self._run, event(self.at, *given))

    def joins(self, wards: Dict[str, int]) -> None:
        for ward, records in wards.items():
            self.happens(Joined, ward, records)

    def declines(self) -> None:
        self.happens(Declined, "emergency", "delta 0.001 is more than 1 / 1,200 records: budget.delta")

    def goes_to(self, begun: int, arrived: int = 2) -> None:
        """Up to round `begun`, in which so many wards have answered."""
        for number in range(begun):
            self._answers(number, len(WARDS))
            self._store.put_result(self._run, number, result_of(number))
            self.happens(Aggregated, number, after=0.5)
        self._answers(begun, arrived)

    def _answers(self, number: int, many: int) -> None:
        for ward in list(WARDS)[:many]:
            self.happens(Arrived, ward, number, "d", float(WARDS[ward]), after=ROUND_S / len(WARDS))
            self._store.put_update(self._run, number, ward, b"x" * 5312)

    def finishes(self) -> None:
        self.goes_to(self._rounds, len(WARDS))
        self._store.put_result(self._run, self._rounds, result_of(self._rounds))
        self.happens(Aggregated, self._rounds, True)
        metrics = {
            "float": {"accuracy": 0.874, "auc": 0.921},
            "int8": {"accuracy": 0.871, "auc": 0.92},
            "tflm": {"accuracy": 0.871, "auc": 0.92},
        }
        report = {"digest": DIGEST, "bundle": "bundle", "metrics": metrics, "privacy": STATEMENT}
        self._store.put_report(self._run, self.at + 3, report)

    def close(self) -> None:
        self._store.close()


def result_of(number: int) -> Dict[str, Any]:
    """What a gateway keeps of a round: figures that get better with every round, and not smoothly."""
    wards = list(WARDS)
    slow = {
        ward: [1.5 + n + (6.0 if ward == "neuro" else 0.2 * math.sin(number)), 5312] for n, ward in enumerate(wards)
    }
    kept = {"round": number, "updates": 4, "bytes_up": 21_248, "bytes_down": 42_100, "seconds": 11.4, "nodes": wards}
    kept.update({"codec_error": 0.0041, ANSWERS: slow})
    if not number:
        return kept
    gain = 1 - math.exp(-number / 6)
    figures = {"accuracy": 0.55 + 0.32 * gain + 0.01 * math.sin(2.3 * number), "auc": 0.52 + 0.4 * gain}
    figures["loss"] = 0.7 - 0.38 * gain + 0.01 * math.cos(1.7 * number)
    wards_ = {ward: {name: value - 0.02 * n for name, value in figures.items()} for n, ward in enumerate(wards)}
    return {**kept, **figures, "federated": {"accuracy": figures["accuracy"], "per_node": wards_}}


@contextmanager
def ward(out: Path, **given: Any) -> Iterator[Ward]:
    found = Ward(out, **given)
    found.joins(WARDS)
    found.declines()
    yield found
    found.close()


def write_audit(out: Path) -> None:
    kinds: List[Dict[str, Any]] = [
        {"event": "planned", "run": RUN, "noise_multiplier": 1.5, "epsilon": 6.95},
        {"event": "joined", "run": RUN, "node": "cardiac", "records": 190},
        {"event": "declined", "run": RUN, "node": "emergency", "code": "budget.delta", "reason": "delta 0.001"},
        {"event": "update", "run": RUN, "node": "neuro", "round": 1, "bytes": 5312, "digest": "9f21c0"},
        {"event": "aggregated", "run": RUN, "round": 1, "nodes": list(WARDS), "updates": 4},
        {"event": "bundle", "run": RUN, "digest": DIGEST, "signed_by": "release-2026"},
    ]
    lines = [json.dumps({"n": n, "at": 1.79e9 + 7 * n, **kinds[n % len(kinds)]}) for n in range(420)]
    (out / "audit.jsonl").write_text("\n".join(lines) + "\n")


Make = Callable[[ExitStack, Path], float]
"""Makes a store in a folder, and what has to be there while it is looked at. Gives by how much the clock is ahead, in seconds."""


def _working(prepare: Callable[[Ward], None]) -> Make:
    def state(held: ExitStack, out: Path) -> float:
        held.enter_context(gateway_at_work(out))
        with ward(out, at=time.time()) as run:  # the gateway's lock is older
            prepare(run)
        return run.at - time.time() + 4.0

    return state


def _left(prepare: Callable[[Ward], None]) -> Make:
    def state(held: ExitStack, out: Path) -> float:
        with ward(out) as run:
            prepare(run)
        write_audit(out)
        return 0.0

    return state


def _nothing(held: ExitStack, out: Path) -> float:
    return 0.0


def _gathering(held: ExitStack, out: Path) -> float:
    held.enter_context(gateway_at_work(out))
    run = Ward(out, at=time.time())
    run.joins({"cardiac": 190, "neuro": 270})
    run.close()
    return run.at - time.time() + 4.0


def _training(run: Ward) -> None:
    run.goes_to(13)


def _lacking(run: Ward) -> None:
    run.goes_to(13, 1)
    for name in ("neuro", "surgical"):
        run.happens(Left, name)


def _failed(run: Ward) -> None:
    run.goes_to(3, 1)
    for _ in range(3):
        run.happens(Ticked, after=301.0)


def _finished(run: Ward) -> None:
    run.finishes()


def _compared(held: ExitStack, out: Path) -> float:
    _left(_finished)(held, out)
    copy_runs(out, "sepsis-4567cdef", of=RUN, rounds=True, learning_rate=0.25)
    copy_runs(out, "sepsis-89ab0123", of=RUN, local_steps=8)
    return 0.0


def _boards(scene: Scene) -> None:
    scene.listener.state = "listening"
    for turn in range(20):
        at = scene.now() - 20 + turn
        latency = {"latency_p50_us": 900 + 7 * turn, "latency_p99_us": 1300 + 31 * (turn % 5)}
        scene.board_says("ttyusb0", "metrics", at, **latency, inferences=128 * turn, arena_used_bytes=14_320)
        scene.board_says("ttyusb0", "drift", at, psi=0.02 * turn)
    scene.board_says("ttyusb0", "info", simulated=True, engine="direct", chip="host")
    scene.board_says("ttyacm1", "info", scene.now() - 60, simulated=False, engine="tflm", chip="esp32s3")
    scene.board_says("ttyusb2", "metrics", inferences=0)


def _fleet(scene: Scene) -> None:
    """Eight boards of an owner, two of which left, a stranger, and a roll-out that ended with one that failed."""
    names = [f"ward-{number}" for number in range(1, 9)]
    fleet = Fleet(scene.out / "fleet", "test", {name: name.encode().ljust(32) for name in names})
    fleet.write()
    rollout = Rollout("7d3a90c4e1b2f856", stages=(25, 100), watch_s=0)
    bad = rollout.order(names)[1]
    why = {bad: "known_answers_differ: row 3 of 8"}

    def update(name: str) -> BoardResult:
        return BoardResult(name, Outcome.FAILED if name == bad else Outcome.UPDATED, why.get(name, "slot b"))

    with Journal(fleet.folder, "test", "model", rollout, names) as journal:
        journal.end(rollout.run(names, journal.noting(update), lambda name: "", journal.note), asked=False)
    scene.listener = Listener(None, "test", FleetOwner(fleet.folder, "test"))
    scene.listener.state = "listening"
    about = {"kind": "info", "firmware": "0.2.0", "chip": "esp32c3", "name": "ecg-beats", "signature": "verified"}
    for number, name in enumerate(names):
        secret, at = fleet.secrets[name], scene.now() - 90 + number
        info = marked(secret, 1, model=DIGEST, state="ready", program="0a1b2c3d4e5f6071", **about)
        scene.listener.take(Message(f"{PLACE}/{name}/presence", info, number > 5), at)
        measured = marked(
            secret, 2, model=DIGEST, kind="metrics", t_us=86_400_000_000, inferences=3200 * number, errors=0
        )
        if number < 6:
            scene.listener.take(Message(f"{PLACE}/{name}/record", measured), at + 60)
    scene.listener.take(Message(f"{PLACE}/ward-2/record", marked(b"another", 9, **about)), scene.now())
    for name in ("ward-4", "ward-7"):
        scene.listener.take(Message(f"{PLACE}/{name}/presence", GONE), scene.now() - 25)
    scene.listener.take(Message(f"{PLACE}/bed-12/presence", marked(b"another", 1, **about)), scene.now())


class State(NamedTuple):
    """name: of the picture. path: of the page. ready: an expression that holds once it is drawn."""

    name: str
    make: Make
    path: str
    ready: str
    words: str
    scene: Callable[[Scene], None] = lambda scene: None
    passed_s: float = 0.0
    """For the page so much time passes without news."""

    @contextmanager
    def shown(self, stage: Stage, out: Path) -> Iterator[None]:
        """Made, and ready to be opened by `open_state`."""
        with ExitStack() as held:
            held.enter_context(accountant_remembered(stage.kept))
            ahead = self.make(held, out)
            with stage.showing(out) as scene:
                scene.skipped = ahead
                self.scene(scene)
                yield


def open_state(stage: Stage, state: State, width: int, dark: bool = False, height: int = 900) -> None:
    """The page of a state that is on the stage, whole."""
    browser = stage.browser
    browser.open("about:blank")
    browser.dark(dark)
    browser.size(width, height, mobile=width < 600)
    browser.open(stage.url.rstrip("/") + state.path)
    browser.wait(f"document.readyState === 'complete' && {state.ready}", 120)
    if state.passed_s:
        stage.skip(state.passed_s)
        browser.wait("document.querySelector('#standing')?.innerText.startsWith('No news since')", 120)
    browser.wait(
        "(() => { const now = document.body.innerText; const same = now === window.last; window.last = now;"
        " return same; })()",
        120,
    )


_CHARTS = "document.querySelectorAll('#accuracy svg[role], #loss svg[role]').length === 2"
_SPENT = "document.querySelector('#privacy .line.dashed') && " + _CHARTS
STATES: List[State] = [
    State("no-run", _nothing, "/#", "document.querySelector('#no-run')", "a folder without a run"),
    State(
        "gathering",
        _gathering,
        "/#",
        "document.querySelector('#phase')?.innerText === 'Waiting for nodes'",
        "nodes are waited for",
    ),
    State(
        "training",
        _working(_training),
        "/#",
        f"{_SPENT} && document.querySelectorAll('#boards .chart svg[role]').length === 2",
        "an open round",
        _boards,
    ),
    State(
        "lacking",
        _working(_lacking),
        "/#",
        f"document.querySelector('#stuck') && {_SPENT}",
        "a round that cannot succeed",
    ),
    State(
        "finished",
        _left(_finished),
        "/#",
        f"document.querySelector('#phase')?.innerText === 'Finished' && {_SPENT}",
        "a finished run",
    ),
    State("failed", _left(_failed), "/#", "document.querySelector('#phase')?.innerText === 'Failed'", "a failed run"),
    State(
        "interrupted",
        _left(_training),
        "/#",
        f"document.querySelector('#phase')?.innerText === 'Interrupted' && {_SPENT}",
        "a run whose gateway is gone",
    ),
    State("no-news", _working(_training), "/#", _SPENT, "a page that hears nothing any more", passed_s=60.0),
    State(
        "node",
        _left(_finished),
        f"/node/{RUN}/neuro",
        "document.querySelectorAll('#node .chart svg[role]').length === 4",
        "one node over its rounds",
    ),
    State(
        "runs",
        _compared,
        f"/#runs?choose={RUN},sepsis-4567cdef",
        "['accuracy', 'auc', 'loss', 'epsilon'].every((of) => document.querySelectorAll(`#compare-${of} .line`).length > 1)",
        "runs beside each other",
    ),
    State("fleet", _nothing, "/fleet", "document.querySelector('#fleet-boards table')", "the fleet of boards", _fleet),
    State("log", _left(_finished), "/#log", "document.querySelectorAll('#audit li').length === 200", "the log"),
    State(
        "statement",
        _left(_finished),
        f"/statement/{RUN}",
        "document.querySelector('#statement .identity')",
        "the page for a data protection officer",
    ),
    State("login", _nothing, "/static/login.html", "document.activeElement?.id === 'password'", "the login"),
]
