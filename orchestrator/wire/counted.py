"""Of how much a node says that its data, or its answer, are: the same two fields of its `ready` and of its answers."""

from typing import Any, Mapping, NamedTuple

from orchestrator.wire.body import require


class Counted(NamedTuple):
    """As stated: with privacy on, noised numbers."""

    records: int
    units: int
    """Of privacy; as many as records where a message leaves them out."""

    @classmethod
    def read(cls, header: Mapping[str, Any]) -> "Counted":
        """WireError for what are no whole numbers. Which of them make sense depends on the run."""
        records = require(header, "records", int)
        return cls(records, require({"units": records, **header}, "units", int))
