"""SIGTERM as a service manager sends it, SIGHUP of a terminal that closes: leave the way an error would, and call it success."""

import os
import signal
import sys
import threading
from contextlib import contextmanager
from typing import Any, Iterator, Tuple

AGAIN_S = 0.5
"""How soon the main thread is asked again. Stopped may be lost in `__del__`, or in a callback that a C library makes; and where
another thread got the signal, or it came just before a call that waits, no handler runs until that call ends."""


class Stopped(BaseException):
    """The process was asked to stop. No Exception: nothing on the way may take it for a failure and carry on."""


@contextmanager
def stop_on_sigterm() -> Iterator[None]:
    """Raises Stopped in the main thread at SIGTERM until it leaves this block; a second SIGTERM does not disturb the closing.

    SIGHUP does the same, unless the program that started this process (nohup) has it ignored. RuntimeError in any other thread.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("signals are for the main thread: enter stop_on_sigterm there")
    over = threading.Event()
    asks = {signal.SIGTERM, *hang_up()}
    heard, says = os.pipe()  # the number of each signal, as soon as the process has it
    os.set_blocking(says, False)

    def stop(*_: Any) -> None:
        if not over.is_set() and not _on_its_way():
            raise Stopped

    def remind() -> None:
        while number := os.read(heard, 1):
            while number[0] in asks and not over.wait(AGAIN_S):
                signal.pthread_kill(main, signal.SIGTERM)  # a call that waits there ends with it

    main = threading.get_ident()
    reminder = threading.Thread(target=remind, name="stopping", daemon=True)
    reminder.start()
    before = {number: signal.signal(number, stop) for number in asks}
    said_before = signal.set_wakeup_fd(says, warn_on_full_buffer=False)
    try:
        yield
    finally:
        over.set()
        signal.set_wakeup_fd(said_before)
        os.close(says)
        reminder.join()  # what it asked for last is heard by this handler, and not by the one of before
        os.close(heard)
        for number, handler in before.items():
            signal.signal(number, handler)


def hang_up() -> Tuple[signal.Signals, ...]:
    """SIGHUP, unless the program that started this process has it ignored."""
    return (signal.SIGHUP,) if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL else ()


def _on_its_way() -> bool:
    """Whether the main thread is leaving because of Stopped, and puts things away just now."""
    error = sys.exc_info()[1]
    while error is not None:
        if isinstance(error, Stopped):
            return True
        error = error.__context__
    return False
