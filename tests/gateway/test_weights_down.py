"""Who is sent the weights whole, and who their change: by what each acknowledged, whatever anybody asks for."""

from typing import Any, Dict, List, Optional, Tuple

import numpy as np
import pytest

from orchestrator.gateway.announcer import Announcer
from orchestrator.rounds.events import Announce
from orchestrator.wire.body import decode_body
from orchestrator.wire.frames import Ack
from orchestrator.wire.topics import Topics
from orchestrator.wire.transfer import transfer_id
from orchestrator.wire.weight_step import MODEL, SINCE, WeightStep, digest_of_weights, step_towards

FIRST = np.arange(8, dtype=np.float32)
STEP, SECOND, _ = step_towards(FIRST, FIRST + 1, np.zeros_like(FIRST))
NODES = ("a", "b", "c")


class Quiet:
    """Signer and figures of a gateway without an identity that nobody watches."""

    def say(self, body: bytes, addressee: str) -> bytes:
        return body

    def sent(self, size: int, nodes: int) -> None:
        pass

    def round_began(self, number: int) -> None:
        pass


class Said:
    """An announcer, and what it says: (topic, receivers, header, names of tensors) of each transfer."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        quiet: Any = Quiet()
        self.announcer = Announcer("run", None, b"", Topics("test"), quiet, quiet, [])  # type: ignore[arg-type]
        self.all: List[Tuple[str, List[str], Dict[str, Any], List[str]]] = []
        self.ids: List[bytes] = []
        send = self.announcer.outbox.send

        def noted(message: bytes, topic: str, receivers: Dict[str, Any], now: float) -> None:
            header, tensors = decode_body(message, 1 << 20)
            self.all.append((topic.rpartition("/")[2], sorted(receivers), header, sorted(tensors)))
            self.ids.append(transfer_id(message))
            send(message, topic, receivers, now)

        monkeypatch.setattr(self.announcer.outbox, "send", noted)

    def round(self, number: int, weights: np.ndarray, step: Optional[WeightStep] = None, everyone: bool = True) -> None:
        header = {"kind": "round", "run": "run", "round": number}
        action = Announce(number, NODES, attempt=1)
        message = header, {"weights": weights}
        self.announcer.round(action, lambda: message, everyone, digest_of_weights(weights), step)

    def acknowledge(self, *nodes: str) -> None:
        for node in nodes:
            for number in self.ids:
                self.announcer.acknowledged(node, Ack(number))


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Said:
    made = Said(monkeypatch)
    made.round(1, FIRST)
    assert [receivers for _, receivers, _, _ in made.all] == [list(NODES)]
    assert made.all[0][3] == ["weights"]
    return made


def forms(said: Said) -> Dict[str, List[str]]:
    found: Dict[str, List[str]] = {}
    for _, receivers, header, _ in said.all:
        found.setdefault("change" if SINCE in header else "whole", []).extend(receivers)
        assert MODEL in header
    return {form: sorted(nodes) for form, nodes in found.items()}


def next_round(said: Said, everyone: bool = True) -> Dict[str, List[str]]:
    said.announcer.close_round()
    said.all.clear()
    said.ids.clear()
    said.round(2, SECOND, STEP, everyone)
    return forms(said)


@pytest.mark.parametrize("everyone", [True, False])
def test_who_acknowledged_the_weights_before_gets_their_change(said: Said, everyone: bool) -> None:
    said.acknowledge("a", "c")
    assert next_round(said, everyone) == {"change": ["a", "c"], "whole": ["b"]}


def test_with_all_of_them_it_is_one_message(said: Said) -> None:
    said.acknowledge(*NODES)
    assert next_round(said) == {"change": list(NODES)}
    assert len(said.all) == 1


def test_who_left_gets_them_whole(said: Said) -> None:
    said.acknowledge(*NODES)
    said.announcer.forget("b")
    assert next_round(said) == {"change": ["a", "c"], "whole": ["b"]}


def test_asking_for_the_weights_helps_once_a_round_and_only_who_was_sent_a_change(said: Said) -> None:
    said.acknowledge("a", "b")
    next_round(said)
    said.all.clear()
    for _ in range(5):
        said.announcer.whole("a", 2)
        said.announcer.whole("a", 1)
        said.announcer.whole("c", 2)
        said.announcer.whole("stranger", 2)
    assert [(topic, receivers) for topic, receivers, _, _ in said.all] == [("a", ["a"])] or forms(said) == {
        "whole": ["a"]
    }
    assert forms(said) == {"whole": ["a"]}


def test_a_round_announced_again_is_said_in_the_same_words(said: Said) -> None:
    said.acknowledge(*NODES)
    next_round(said)
    said.acknowledge("a")
    said.round(2, SECOND, STEP)
    assert forms(said) == {"change": sorted([*NODES, *NODES])}
