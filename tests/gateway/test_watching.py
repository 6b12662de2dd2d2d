"""A gateway that waits for drift is here: monitors and nodes that look for it are not told that there is none."""

import json
import logging
import threading
import time
from typing import Any, Callable, Dict, List

import pytest

from orchestrator.boards.forward import MqttForward
from orchestrator.boards.protocol import Record
from orchestrator.gateway.broker import OwnBroker
from orchestrator.gateway.retraining import wait_for_drift
from orchestrator.node.search import GatewaySearch

DIGEST = "0123456789abcdef"


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 600
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_who_looks_for_a_gateway_sees_that_it_watches(broker: OwnBroker, caplog: pytest.LogCaptureFixture) -> None:
    seen: List[Dict[str, Any]] = []
    watch = threading.Thread(
        target=wait_for_drift, args=(broker.address, "icu", DIGEST, 0.2, seen.append, 30.0), daemon=True
    )
    watch.start()
    search = GatewaySearch(broker.address, "icu", "n-1", "n-1", identity=False)
    forward = MqttForward(broker.address, "icu", ["/dev/ttyUSB0"])
    with caplog.at_level(logging.WARNING):
        until(lambda: search.step() is not None and "it waits for boards to report drift" in caplog.text)
        forward.close()
    search.close()
    assert "no gateway of federation" not in caplog.text
    assert "was there to read" not in forward.summary()
    again = MqttForward(broker.address, "icu", ["/dev/ttyUSB0"])

    def ended() -> bool:
        again.write("/dev/ttyUSB0", 1.0, drift())
        return not watch.is_alive()

    until(ended)
    again.close()
    assert [event["event"] for event in seen] == ["drift"]
    late = MqttForward(broker.address, "icu", ["/dev/ttyUSB0"])
    late.close()
    assert "no gateway of federation 'icu'" in caplog.text, json.dumps(caplog.messages)


def drift() -> Record:
    return Record("00c0ffee", 7, DIGEST, 5, "drift", 1, {"psi": 0.5})
