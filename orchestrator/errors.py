"""Errors a user can act on. Everything else is a bug and keeps its traceback."""


class EdgewardError(Exception):
    """The command could not do what was asked. The message says what, where and how to fix it.

    A node sends none of these messages: only `code`, of the list in wire/refusals.py.
    """

    exit_code = 1
    code = "internal"

    def __init__(self, message: str = "", code: str = "") -> None:
        super().__init__(message)
        if code:
            self.code = code


class UsageError(EdgewardError):
    """The command line or a configuration file asked for something that makes no sense."""

    exit_code = 2
    code = "task"


class DataError(EdgewardError):
    """A data file does not fit its schema. The message names file, line and column, and stays on this machine."""

    code = "data"


class DamagedError(EdgewardError):
    """What a store holds is not what was written into it. The message names file and row."""


class WireError(EdgewardError):
    """A message could not be decoded, or does not match what was announced."""

    code = "message"


class BrokerError(EdgewardError):
    """The MQTT broker cannot be reached, or refused us."""


class RoundError(EdgewardError):
    """A round cannot finish: too few nodes, or the task is one they cannot serve."""


class PrivacyError(EdgewardError):
    """The declared privacy pipeline is impossible, or does not hold."""

    code = "sum"


class PeerError(PrivacyError):
    """Another party of a secure sum is not known to be who it says."""

    code = "sum.peers"


class LedgerError(PrivacyError):
    """A node's ledger was changed, cut, lost or put back to an older state: what its data has spent is not known."""

    code = "ledger.lost"


class IdentityError(EdgewardError):
    """A key, certificate, token or signature is missing, refused or not what it should be."""


class GraphError(EdgewardError):
    """A training graph is not one this node runs, or its process failed. The message is about the graph, never about data."""

    code = "graph"
