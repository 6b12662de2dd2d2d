"""What a relay says when its region's gateway cannot go on."""

import errno
from types import SimpleNamespace

import pytest

from orchestrator.errors import EdgewardError, RoundError
from orchestrator.gateway.relay import Relay


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "region/broker.pid"),
            "region/broker.pid: .*make room on that disk",
        ),
        (OSError(errno.EIO, "Input/output error", "region/broker.pid"), "region/broker.pid: .*look at the disk"),
        (RoundError("nobody came"), "the region's gateway failed: nobody came$"),
    ],
)
def test_the_failure_is_a_sentence_with_what_to_do(failure: Exception, said: str) -> None:
    relay = SimpleNamespace(_lower=SimpleNamespace(failure=failure), _run=SimpleNamespace(id="run"))
    with pytest.raises(EdgewardError, match=said) as raised:
        Relay._look_below(relay)  # type: ignore[arg-type]
    assert "Errno" not in str(raised.value)
