"""Messages of enrolment: what is read is what was written, in the order older versions wrote it; all else is refused."""

import json
from typing import Any, Dict, List

import pytest

from orchestrator.errors import IdentityError
from orchestrator.wire.enrolling import GatewayAnswer, GatewayRequest, NodeAnswer, NodeRequest

KINDS: List[Any] = [NodeRequest, NodeAnswer, GatewayRequest, GatewayAnswer]
WRITTEN: Dict[Any, str] = {
    NodeRequest: '{"name": "a", "secret": "s", "request": "pem"}',
    NodeAnswer: '{"certificate": "c", "ca": "d", "signing": "e", "federation": "f", "name": "a", "broker": ""}',
    GatewayRequest: '{"federation": "f", "hosts": ["h"], "request": "pem", "signing": "e"}',
    GatewayAnswer: '{"certificate": "c", "ca": "d", "hosts": ["h"], "federation": "f", "log": [], "crl": "r"}',
}
WRONG: List[Any] = [None, True, 1, 1.5, [], {}, ["x"], {"x": "y"}]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_read_is_written_to_the_byte(kind: Any) -> None:
    assert json.dumps(kind.read(json.loads(WRITTEN[kind])).written()) == WRITTEN[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_is_needed_and_of_its_type(kind: Any) -> None:
    whole = json.loads(WRITTEN[kind])
    for name in set(whole) - {"log", "broker"}:
        for wrong in [each for each in WRONG if not (name == "hosts" and isinstance(each, list))]:
            with pytest.raises(IdentityError):
                kind.read({**whole, name: wrong})
        with pytest.raises(IdentityError):
            kind.read({key: value for key, value in whole.items() if key != name})
    for wrong in (*WRONG, "text"):
        with pytest.raises(IdentityError):
            kind.read(wrong)


def test_a_broker_is_a_text_or_left_out() -> None:
    whole = json.loads(WRITTEN[NodeAnswer])
    without = {key: value for key, value in whole.items() if key != "broker"}
    assert NodeAnswer.read(without).written() == NodeAnswer.read({**without, "broker": None}).written() == without
    brokers: List[Any] = [1, True, ["mqtt://h"], {}]
    for wrong in brokers:
        with pytest.raises(IdentityError, match="broker that is not a text"):
            NodeAnswer.read({**whole, "broker": wrong})


@pytest.mark.parametrize("field", ["name", "secret", "request"])
def test_a_nodes_request_is_plain_ascii(field: str) -> None:
    whole = json.loads(WRITTEN[NodeRequest])
    with pytest.raises(IdentityError, match="plain ASCII"):
        NodeRequest.read({**whole, field: "\u00e9"})
    if field != "request":
        with pytest.raises(IdentityError, match="plain ASCII"):
            NodeRequest.read({**whole, field: "a\n"})
