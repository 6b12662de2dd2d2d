"""The closed loop: boards report drift, the federation trains again, within the budget it declared for that."""

import queue
from pathlib import Path
from typing import Any, Dict, Sequence

from orchestrator.errors import UsageError
from orchestrator.gateway.federation import Orchestrator
from orchestrator.gateway.progress import Progress
from orchestrator.gateway.settings import Config
from orchestrator.wire.address import client_id
from orchestrator.wire.board_records import read_forwarded
from orchestrator.wire.body import encode_body
from orchestrator.wire.link import Broker, Connected, Disconnected, Message
from orchestrator.wire.presence import WATCHING
from orchestrator.wire.topics import Topics

_MOST_RECORD_BYTES = 64 << 10


def run_and_watch(
    config: Config,
    base: Path,
    out: Path,
    progress: Progress,
    connect_timeout_s: float,
    drift_above: float,
    again: Sequence[str] = (),
) -> Dict[str, Any]:
    """Trains, then waits for a board running that very model to report a drift index above `drift_above`; again and again.

    Ends with the last training that `privacy.runs` allows and returns its report; without privacy it does not end.
    A gateway that was killed continues with the training it was at. Raises UsageError where no budget is declared for a
    second training. again: see run_federation.
    """
    privacy = config.task.privacy
    if not config.task.trains:
        raise UsageError("watching for drift needs a model on a board, and an analysis makes none")
    if config.task.training.personal != "none":
        raise UsageError("watching for drift needs a bundle of the gateway's, and with training.personal it makes none")
    if privacy.on and privacy.runs < 2:
        raise UsageError(
            "watching for drift needs a budget for retraining: set runs = 2 or more in [task.privacy]; the noise is then "
            "planned so that all of them together spend epsilon"
        )
    if config.task.schema.kind == "signal" and not config.calibration_public:
        raise UsageError(
            "watching for drift of signals needs a distribution in the bundle: name calibration rows that may be known to "
            "anyone who has a bundle, and set calibration_public = true"
        )
    with Orchestrator(config, base, out, progress, connect_timeout_s, again=again) as orchestrator:
        number = max(1, orchestrator.trained())
        while True:
            report = orchestrator.train(number)
            if privacy.on and number >= privacy.runs:
                return report
            orchestrator.progress(
                {"event": "watching", "training": number, "digest": report["digest"], **_plain(report)}
            )
            wait_for_drift(
                orchestrator.address,
                config.gateway.federation,
                report["digest"],
                drift_above,
                orchestrator.progress,
                connect_timeout_s,
                identity=bool(config.gateway.identity),
            )
            number += 1


def _plain(report: Dict[str, Any]) -> Dict[str, Any]:
    return {"bundle": report["bundle"], "epsilon": report["privacy"]["epsilon"]}


def wait_for_drift(
    address: Broker,
    federation: str,
    digest: str,
    drift_above: float,
    progress: Progress,
    timeout_s: float,
    identity: bool = False,
) -> None:
    """Returns when a board's `drift` record about the model `digest` has a psi above `drift_above`.

    Records come as `edgeward monitor --forward` sends them. Those about another model, and what is no record, are
    passed over. Monitors and nodes that look for the gateway meanwhile see that it is here, and watches.
    """
    topics = Topics(federation)
    here = encode_body({"kind": WATCHING, "identity": identity})
    gone = encode_body({"kind": "gone"})
    link = address.link(client_id(f"{federation}-watch"), [topics.every_board], will=(topics.gateway_presence, gone))
    link.open(timeout_s)
    try:
        while True:
            try:
                event = link.events.get(timeout=1.0)
            except queue.Empty:
                continue
            if isinstance(event, Connected):
                link.publish(topics.gateway_presence, here, retain=True)
            if isinstance(event, Disconnected):
                progress({"event": "broker_lost", "reason": event.reason})
            if not isinstance(event, Message):
                continue
            board, record = topics.board(event.topic), _record(event.payload)
            if board is None or record.get("kind") != "drift" or record.get("model") != digest:
                continue
            psi = record.get("psi")
            if psi is None:
                continue
            progress({"event": "drift", "board": board, "psi": psi, "above": drift_above})
            if psi > drift_above:
                return
    finally:
        link.publish(topics.gateway_presence, gone, retain=True)
        link.flush(5.0)
        link.close()


def _record(payload: bytes) -> Dict[str, Any]:
    return read_forwarded(payload, _MOST_RECORD_BYTES) or {}
