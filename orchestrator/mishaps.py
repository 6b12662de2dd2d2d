"""What is said of an exception nobody expected: one line with what went wrong, where, and what to do about it."""

import errno
import logging
import os
import sys
import threading
import traceback
from pathlib import Path
from typing import Any, Optional

from orchestrator.errors import NO_MORE_MEMORY, NO_MORE_PROCESSES, ON_DISKS, EdgewardError, advised


def failure_of_machine(error: BaseException) -> Optional[str]:
    """What a person can do something about: a file or folder that cannot be used as a command needs it, or a store; else None."""
    if isinstance(error, OSError) and error.filename is not None:
        if isinstance(error, FileExistsError) and os.path.isfile(error.filename):
            return f"{error.filename}: a file; a folder is needed there"
        names = [str(name) for name in (error.filename, error.filename2) if name is not None]
        return f"{' and '.join(names)}: {advised(error)}"
    if isinstance(error, OSError) and error.errno in ON_DISKS:  # while writing, where nobody knows which file it was
        return advised(error)
    if (isinstance(error, BlockingIOError) and error.errno == errno.EAGAIN) or str(error) == "can't start new thread":
        return NO_MORE_PROCESSES  # fork(2), pthread_create(3)
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return NO_MORE_MEMORY
    sqlite3 = sys.modules.get("sqlite3")  # a command that has no store need not load it for this
    if sqlite3 is not None and type(error) in (sqlite3.DatabaseError, sqlite3.OperationalError):
        return f"a store cannot be used: {error}"
    return None


def sentence(error: BaseException) -> str:
    """For a log: what a user can act on as it is, and of a fault in Edgeward its kind and place."""
    if isinstance(error, EdgewardError):
        return str(error)
    known = failure_of_machine(error)
    if known is not None:
        return known
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{place}"


def catch_in_threads(log: logging.Logger) -> None:
    """From now on no thread of this process ends in silence, or with a traceback: one line says which one ended, and why."""

    def ended(arguments: Any) -> None:
        if arguments.exc_value is not None and not isinstance(arguments.exc_value, SystemExit):
            name = "" if arguments.thread is None else arguments.thread.name
            log.critical("the thread %r ended, start this program again: %s", name, sentence(arguments.exc_value))

    def lost(arguments: Any) -> None:
        if arguments.exc_value is not None:
            log.error("%s: %s", arguments.err_msg or "while something was put away", sentence(arguments.exc_value))

    threading.excepthook = ended
    sys.unraisablehook = lost
