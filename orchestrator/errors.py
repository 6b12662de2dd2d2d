"""Errors a user can act on. Everything else is a bug and keeps its traceback."""

import errno
from contextlib import contextmanager
from typing import Any, Iterator, Optional

ON_DISKS = {
    errno.ENOSPC: "make room on that disk, then give the same command again",
    errno.EDQUOT: "this user may write no more there: make room, then give the same command again",
    errno.EIO: "look at the disk (dmesg, smartctl), then give the same command again",
    errno.EROFS: "that disk can only be read: mount it for writing, then give the same command again",
    errno.EFBIG: "no file may be so large there",
    errno.EMFILE: "this process may open no more files: raise its limit (ulimit -n), then give the same command again",
}
"""What a person does about it."""

NO_MORE_PROCESSES = (
    "this machine starts no further process or thread for this user now: end others, or raise the limit (ulimit -u, TasksMax= "
    "of a unit), then give the same command again"
)
NO_MORE_MEMORY = "this machine has no more memory now: end other programs, then give the same command again"


def advised(error: OSError) -> str:
    """The error in words, and what to do about it."""
    advice = ON_DISKS.get(error.errno or 0, "")
    return f"{error.strerror or error}{': ' if advice else ''}{advice}"


@contextmanager
def writing(path: Any) -> Iterator[None]:
    """Names the file in an OSError that does not: one of a write or a sync that failed."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def why_not_listening(error: OSError) -> str:
    """What a person reads of a port that cannot be listened on."""
    if error.errno == errno.EADDRINUSE:
        return "another program listens there: end that one, or choose another port"
    if error.errno == errno.EADDRNOTAVAIL:
        return "that is no address of this machine"
    if error.errno == errno.EACCES:
        return "this user may not listen there: choose a port from 1024 on"
    return error.strerror or str(error)


class EdgewardError(Exception):
    """The command could not do what was asked. The message says what, where and how to fix it.

    A node sends none of these messages: only `code`, of the list in wire/refusals.py.
    """

    exit_code = 1
    """Of the command that ends with it: 2 for a GivenError, 1 for everything else. See `exit_code_of`."""
    code = "internal"

    def __init__(self, message: str = "", code: str = "") -> None:
        super().__init__(message)
        if code:
            self.code = code


class GivenError(EdgewardError):
    """What somebody gave is wrong: an argument, a file, a folder, or what is in it. Trying again does not help."""

    exit_code = 2


class UsageError(GivenError):
    """The command line or a configuration file asked for something that makes no sense."""

    code = "task"


class DataError(GivenError):
    """A data file does not fit its schema. The message names file, line and column, and stays on this machine."""

    code = "data"


class AwayError(DataError):
    """Data cannot be reached just now, and may be the next time: the message says where they were looked for."""

    exit_code = 1


class DamagedError(EdgewardError):
    """What a store holds is not what was written into it. The message names file and row."""


class WireError(EdgewardError):
    """A message could not be decoded, or does not match what was announced."""

    code = "message"


class BrokerError(EdgewardError):
    """The MQTT broker cannot be reached, or refused us."""


class NoBrokerError(BrokerError):
    """No connection to a broker came about. `reason` is why; commands that know better what to do about it say it with that."""

    def __init__(self, place: object, reason: str, remedy: str) -> None:
        super().__init__(f"no MQTT broker at {place}: {reason}. {remedy}")
        self.reason = reason


class RoundError(EdgewardError):
    """A round cannot finish: too few nodes, or the task is one they cannot serve."""


class PrivacyError(EdgewardError):
    """The declared privacy pipeline is impossible, or does not hold."""

    code = "sum"


class PeerError(PrivacyError):
    """Another party of a secure sum is not known to be who it says."""

    code = "sum.peers"


class DisclosureError(EdgewardError):
    """An answer would break its owner's rules on disclosure. The message is for the owner: it says of what, and how few."""

    code = "disclosure.cell"


class LedgerError(PrivacyError):
    """A node's ledger was changed, cut, lost or put back to an older state: what its data has spent is not known."""

    code = "ledger.lost"


class IdentityError(GivenError):
    """A key, certificate, token or signature is missing, or not what it should be."""


class EnrolmentError(IdentityError):
    """The other side of an enrolment cannot be reached, is another one, or refused."""

    exit_code = 1


class GraphError(EdgewardError):
    """A training graph is not one this node runs, or its process failed. The message is about the graph, never about data."""

    code = "graph"


_NOT_AS_GIVEN = (
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.ENOTEMPTY,
    errno.EACCES,
    errno.EPERM,
    errno.ELOOP,
    errno.ENAMETOOLONG,
)
"""Of a path that is missing, of another kind, or not this user's."""


def exit_code_of(error: BaseException) -> int:
    """2 where what was typed or given is wrong (arguments, files, their content), 1 for what failed while running.

    The one place where that is decided. A file that a disk or this machine did not let be read is no wrong file.
    """
    cause: Optional[BaseException] = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__cause__
    number = None if cause is None else cause.errno
    if isinstance(error, EdgewardError):
        return 1 if number in ON_DISKS else error.exit_code
    return 2 if number in _NOT_AS_GIVEN else 1
