"""SIGTERM as a service manager sends it: leave the way an error would, and call it success."""

import signal
from contextlib import contextmanager
from typing import Any, Iterator


class Stopped(BaseException):
    """The process was asked to stop. No Exception: nothing on the way may take it for a failure and carry on."""


@contextmanager
def stop_on_sigterm() -> Iterator[None]:
    """Raises Stopped in the main thread at SIGTERM, once: a second one does not disturb the closing."""

    def stop(*_: Any) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise Stopped

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
