from pathlib import Path
from typing import Any, Dict

import pytest

from orchestrator.errors import WireError
from orchestrator.gateway.ledgers import LedgerWatch
from orchestrator.gateway.store import Store


def presence(entries: int, last: str = "", process: str = "p", n: int = 1) -> Dict[str, Any]:
    return {"ledger": {"entries": entries, "hash": (last or str(entries % 10)) * 64, "process": process, "n": n}}


@pytest.fixture
def watch(tmp_path: Path) -> LedgerWatch:
    """Has heard of `a` with five entries, from process p and then q."""
    watch = LedgerWatch(Store(tmp_path / "gateway.sqlite"))
    assert watch.objection("a", presence(3)) == ""
    assert watch.objection("a", presence(5, n=2)) == ""
    assert watch.objection("a", presence(5, process="q")) == ""
    return watch


def test_a_ledger_that_grows_is_fine(watch: LedgerWatch) -> None:
    assert watch.objection("a", presence(9, process="r")) == ""
    assert watch.objection("b", presence(1)) == ""
    assert "lost 1 of 9 entries" in watch.objection("a", presence(8, process="s"))


def test_one_that_shrank_was_begun_anew_or_is_not_spoken_of_is_not(watch: LedgerWatch, tmp_path: Path) -> None:
    for watcher in (watch, LedgerWatch(Store(tmp_path / "gateway.sqlite"))):  # also after the gateway's restart
        assert "lost 4 of 5 entries" in watcher.objection("a", presence(1, process="r"))
        assert "begun again" in watcher.objection("a", presence(5, last="f", process="r"))
        assert "says nothing of its ledger, which had 5 entries" in watcher.objection("a", {})
        assert watcher.objection("never-had-one", {}) == ""
    assert watch.objection("a", presence(5, process="r")) == ""  # restarted, nothing lost


def test_messages_that_come_twice_or_late_are_no_loss(watch: LedgerWatch) -> None:
    """QoS 1: a presence may come again after a newer one, of this process of the node or of the one before."""
    assert watch.objection("a", presence(6, process="q", n=2)) == ""
    assert watch.objection("a", presence(5, process="q", n=1)) == ""
    assert watch.objection("a", presence(3, process="p", n=1)) == ""
    assert "lost 1 of 6 entries" in watch.objection("a", presence(5, process="q", n=3))


@pytest.mark.parametrize(
    "ledger", [{}, {"entries": "1"}, {"entries": -1}, {"hash": "00"}, {"process": "p" * 65}, {"n": None}]
)
def test_what_cannot_be_is_refused(watch: LedgerWatch, ledger: Dict[str, Any]) -> None:
    said = {**presence(7)["ledger"], **ledger} if ledger else []
    with pytest.raises(WireError):
        watch.objection("a", {"ledger": said})
