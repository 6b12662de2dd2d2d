"""Attack: weights sent as changes that lead elsewhere than they say, or take a node's memory. Promise: a node trains on the
weights the message names by digest or on none, asks for them once a message, and holds no more than a run's weights take."""

from contextlib import suppress
from typing import Any, Dict, List, Tuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inside import INPUTS, PARAMETERS, make_task
from malicious import Attack, Victim

from orchestrator.data.dataset import Dataset
from orchestrator.errors import WireError
from orchestrator.node.held_weights import MOST_AT_REST_BYTES, HeldWeights
from orchestrator.node.intake import most_unpacked
from orchestrator.node.open_runs import OpenRuns
from orchestrator.node.run import Run
from orchestrator.wire.body import decode_body, encode_body
from orchestrator.wire.protection import Privacy
from orchestrator.wire.training import Training
from orchestrator.wire.weight_step import LEVELS, MODEL, SCALES, SINCE, digest_of_weights, step_towards, stepped

Said = Tuple[Dict[str, Any], Dict[str, np.ndarray]]
PLAIN = make_task(privacy=Privacy(unit="none"), training=Training("fedavg", rounds=9, parameters=PARAMETERS))
UNSTATED = make_task(privacy=Privacy(unit="none"), training=Training("fedavg", rounds=9))
TABLE = "x0,x1,x2,y,who\n" + "0.1,0.2,0.3,0,1\n0.3,-0.2,0.1,1,2\n" * 5
MODELS = [np.full(4, value, np.float32) for value in (0.0, -0.0, 1.0, np.nan, np.inf, 3e38, 1e-45)]
LEVELS_OF = [np.full(4, level, np.int8) for level in (0, 1, 127, -128)]
SCALES_OF = [np.full(1, scale, np.float32) for scale in (0.0, 1.0, 3e38, np.nan, np.inf)]
DIGESTS = st.one_of(st.sampled_from([digest_of_weights(model) for model in MODELS]), st.text("0f", max_size=3))


@st.composite
def messages(draw: st.DrawFn) -> Said:
    """A round that says what it likes of its weights."""
    header: Dict[str, Any] = {MODEL: draw(DIGESTS)}
    tensors: Dict[str, np.ndarray] = {}
    if draw(st.booleans()):
        shape = draw(st.sampled_from([(4,), (4, 1), (2, 2), (1, 4), (4, 1, 1)]))
        tensors["weights"] = draw(st.sampled_from(MODELS)).reshape(shape)
    if draw(st.booleans()):
        header[SINCE] = draw(DIGESTS)
    if draw(st.booleans()):
        tensors[LEVELS], tensors[SCALES] = draw(st.sampled_from(LEVELS_OF)), draw(st.sampled_from(SCALES_OF))
        with np.errstate(all="ignore"), suppress(WireError):
            header[MODEL] = digest_of_weights(stepped(draw(st.sampled_from(MODELS)), tensors))
    return header, tensors


@settings(max_examples=300, deadline=None)
@given(said=st.lists(messages(), max_size=8))
def test_whatever_was_said_before_weights_are_those_the_message_names(said: List[Said]) -> None:
    """So all nodes of a sum that were shown one digest have one model, which their masks are mixed with."""
    held = HeldWeights()
    for header, tensors in said:
        try:
            with np.errstate(all="ignore"):
                found = held.whole(header, tensors)
        except WireError:
            continue
        if found is not None:
            assert digest_of_weights(found["weights"]) == header[MODEL]
            assert found["weights"].ndim == 1


def test_weights_of_another_shape_are_refused_before_a_change_makes_their_square_of_them() -> None:
    square = np.zeros((3000, 1), np.float32)
    with pytest.raises(WireError, match="other weights"):
        HeldWeights().whole(announced(1, square), {"weights": square})


def test_a_node_that_lacks_the_weights_asks_once_and_answers_for_those_it_gets(
    victim: Victim, linear_graph: bytes
) -> None:
    attack = victim(TABLE)
    gateway, name = attack.gateway, attack.node.name
    offered(attack, linear_graph)
    first = np.zeros(PARAMETERS, np.float32)
    step, second, _ = step_towards(first, first + np.float32(0.25), np.zeros_like(first))
    change = {**announced(2, second), SINCE: step.since}, {**step.tensors, **scales()}
    assert gateway.provoke(name, *change)["kind"] == "whole"
    asked = len(gateway.transfers)
    gateway.round(name, "run", 3, {"weights": first, **scales()}, model=digest_of_weights(first))
    assert [t.header["kind"] for t in gateway.transfers[asked:]] == ["update"], "it does not ask until it is answered"
    assert gateway.round(name, "run", 4, change[1], **{MODEL: step.to, SINCE: step.since}).header["kind"] == "update"
    lied = gateway.round(name, "run", 5, change[1], **{MODEL: digest_of_weights(first + 9), SINCE: step.to})
    assert lied.header["kind"] == "whole", "a change that leads elsewhere is not trained on"


def test_what_a_message_has_beside_its_weights_is_not_held() -> None:
    """A view of the weights would hold on to a message that is many times as long, for as long as the run is open."""
    held, weights = HeldWeights(), np.zeros(4, np.float32)
    beside: Dict[str, np.ndarray] = {"weights": weights, "beside": np.zeros(1 << 20, np.uint8)}
    _, tensors = decode_body(encode_body(announced(1, weights), beside), 1 << 24)
    held.whole(announced(1, weights), tensors)
    digest = digest_of_weights(weights)
    again = held.whole({**announced(1, weights), MODEL: digest, SINCE: digest}, {})
    assert again is not None
    assert again["weights"].base is None


@pytest.mark.parametrize(("size", "kept"), [(8, True), (MOST_AT_REST_BYTES // 4 + 1, False)])
def test_of_a_run_that_is_not_at_hand_large_weights_are_forgotten(size: int, kept: bool) -> None:
    """Runs begun one after another fill no memory."""
    runs, weights = OpenRuns(), np.zeros(size, np.float32)
    for name in ("first", "second"):
        runs.begin(run_of(name))
        runs.at.weights.whole(announced(1, weights), {"weights": weights})
    runs.turn_to("first")
    assert (runs.at.weights.whole({MODEL: digest_of_weights(weights), SINCE: "else"}, {}) is not None) == kept


def test_a_task_that_leaves_out_its_parameters_gets_no_longer_messages(linear_graph: bytes) -> None:
    run = run_of("run", linear_graph)
    assert run.parameters == PARAMETERS
    declared = most_unpacked({"kind": "round", "run": "run"}, "run", PLAIN)
    assert most_unpacked({"kind": "round", "run": "run"}, "run", UNSTATED, run.parameters) == declared


# What an attack says


def run_of(name: str, graph: bytes = b"") -> Run:
    nothing = Dataset(np.zeros((0, INPUTS), np.float32), np.zeros(0, np.int32))
    return Run(name, "digest", UNSTATED, graph, nothing, nothing)


def offered(attack: Attack, graph: bytes) -> None:
    said = attack.gateway.offer(attack.node.name, "run", PLAIN, graph)
    assert said["kind"] == "ready", said


def announced(number: int, weights: np.ndarray) -> Dict[str, Any]:
    return {"kind": "round", "run": "run", "round": number, MODEL: digest_of_weights(weights)}


def scales() -> Dict[str, np.ndarray]:
    return {"mean": np.zeros(INPUTS, np.float32), "std": np.ones(INPUTS, np.float32)}
