"""Only addresses of this machine count as such: what goes elsewhere is encrypted, or it is warned of."""

import pytest

from orchestrator.wire.loopback import is_loopback


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1"])
def test_this_machine(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    [
        *("", "127.evil.example", "127.0.0.1.evil.example", "127.0.0.999", "127.1", "localhost.example", "1270.0.0.1"),
        *("::2", "0.0.0.0", "::", "10.0.0.1", "::ffff:10.0.0.1", "[::1]", "127.0.0.1 "),
    ],
)
def test_another_machine(host: str) -> None:
    assert not is_loopback(host)
