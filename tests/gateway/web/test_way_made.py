"""The address of a dashboard is free as soon as the one before has gone, at whatever moment that is."""

import socket

import pytest

from orchestrator.errors import UsageError
from orchestrator.gateway.broker import free_port
from orchestrator.gateway.web import child
from orchestrator.gateway.web.settings import WebSettings


def test_one_that_goes_before_it_can_be_asked_has_made_way(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = WebSettings("127.0.0.1", free_port())
    before = child.listen(settings)

    def gone(port: int) -> bool:
        before.close()
        return False

    monkeypatch.setattr(child, "ask_to_leave", gone)
    child.listen(settings).close()


def test_another_program_at_the_address_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        settings = WebSettings("127.0.0.1", other.getsockname()[1])
        with pytest.raises(UsageError, match="another program listens there"):
            child.listen(settings)
