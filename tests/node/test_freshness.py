from pathlib import Path
from typing import Any, Dict

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from orchestrator.errors import WireError
from orchestrator.node.freshness import Guard
from orchestrator.node.store import NodeStore
from orchestrator.wire.envelope import Opener


def guard(folder: Path) -> Guard:
    return Guard(Opener(Ed25519PrivateKey.generate().public_key(), "icu", "a"), NodeStore(folder / "node.sqlite"))


def message(kind: str, run: str, **more: Any) -> Dict[str, Any]:
    return {"kind": kind, "run": run, **more}


def test_runs_and_rounds_go_forward_only_also_after_a_restart(tmp_path: Path) -> None:
    first = guard(tmp_path)
    first.admit(message("task", "one"), 10)
    first.admit(message("task", "one"), 10)  # a gateway that came back sends it again
    first.admit(message("round", "one", round=1), 10)
    first.admit(message("round", "one", round=2), 10)
    first.admit(message("round", "one", round=2), 10)  # announced again: answered with the same bytes
    again = guard(tmp_path)
    with pytest.raises(WireError, match="stale round 1: round 2 of run one has begun"):
        again.admit(message("round", "one", round=1), 10)
    with pytest.raises(WireError, match="stale round: run one has serial 10, this one says 11"):
        again.admit(message("round", "one", round=3), 11)
    again.admit(message("finished", "one"), 10)
    again.admit(message("finished", "one"), 10)
    for kind in ("task", "round"):
        with pytest.raises(WireError, match=f"replayed {kind}: run one is over"):
            again.admit(message(kind, "one", round=9), 10)
    again.admit(message("task", "two"), 20)
    with pytest.raises(WireError, match="replayed task: run zero has serial 5, .* with 20"):
        again.admit(message("task", "zero"), 5)
    with pytest.raises(WireError, match="replayed task"):
        again.admit(message("task", "twin"), 20)
