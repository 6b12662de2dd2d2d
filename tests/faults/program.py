"""`edgeward` as it is, with three things a test needs: what is acknowledged is noted, rounds are not too fast, and no TensorFlow.

python program.py WORDS...     as `edgeward WORDS...`; EDGEWARD_FAULTS_NOTES names a folder for notes and the file `pace`
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any, Dict

NOTES = Path(os.environ["EDGEWARD_FAULTS_NOTES"])
PACE = NOTES / "pace"


def note(name: str, **fields: Any) -> None:
    with (NOTES / f"{name}.jsonl").open("a") as file:
        file.write(json.dumps(fields) + "\n")


def watch_answers() -> None:
    """Notes every answer to a round that a node sends, and that its gateway acknowledges."""
    from orchestrator.node.agent import NodeAgent
    from orchestrator.wire.body import decode_body
    from orchestrator.wire.frames import Ack
    from orchestrator.wire.transfer import transfer_id

    begin = NodeAgent.__init__

    def begun(self: NodeAgent, broker: Any, federation: str, name: str, *rest: Any, **more: Any) -> None:
        begin(self, broker, federation, name, *rest, **more)
        outbox, answers = self.outbox, {}
        send, acknowledged = outbox.send, outbox.acknowledged

        def sending(body: bytes, topic: str, receivers: Dict[str, str], now: float) -> None:
            header, _ = decode_body(body, 1 << 24)
            about = {key: header[key] for key in ("kind", "run", "round", "attempt", "step") if key in header}
            answers[transfer_id(body)] = about
            note(name, what="sent", id=transfer_id(body).hex(), **about)
            send(body, topic, receivers, now)

        def heard(receiver: str, frame: Ack) -> bool:
            first = acknowledged(receiver, frame)
            if first and frame.id in answers:
                note(name, what="acknowledged", id=frame.id.hex(), **answers[frame.id])
            return first

        outbox.send, outbox.acknowledged = sending, heard  # type: ignore[method-assign]

    NodeAgent.__init__ = begun  # type: ignore[method-assign]


def slow_down() -> None:
    """A round takes at least so many seconds as the file `pace` says."""
    from orchestrator.node.trainer import GradientTrainer

    train = GradientTrainer.train

    def slowly(self: GradientTrainer, *arguments: Any, **more: Any) -> Any:
        time.sleep(float(PACE.read_text()))
        return train(self, *arguments, **more)

    GradientTrainer.train = slowly  # type: ignore[method-assign]


def leave_out_the_bundle() -> None:
    """A finished run ends with its report: TensorFlow would take ten seconds for a model that nobody looks at."""
    from orchestrator.gateway import federation

    vars(federation)["quantize"] = lambda *_, **__: {"bundle": None, "digest": "", "no_bundle": "left out"}


def main() -> int:
    from orchestrator.cli.main import main as edgeward

    words = sys.argv[1:]
    if words[:2] == ["gateway", "run"]:
        leave_out_the_bundle()
    elif words[0] in ("node", "keyholder") or words[:2] == ["gateway", "relay"]:
        watch_answers()
        slow_down()
    return edgeward(words)


if __name__ == "__main__":
    sys.exit(main())
