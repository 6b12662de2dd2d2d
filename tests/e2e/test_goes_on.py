"""Real processes: a run that stopped for want of nodes or answers is continued by the same command."""

from pathlib import Path

from harness import Harness, events, make_task


def test_nodes_that_come_too_late_are_in_the_same_run_when_its_gateway_starts_again(tmp_path: Path) -> None:
    with Harness(tmp_path, make_task(rounds=1, statistics=False, nodes=2, gather_s=1.0)) as harness:
        late = harness.gateway()
        assert list(events(late))[-1]["reason"] == "0 of 2 nodes came within 1 s"
        assert late.wait() == 1
        assert "The same command goes on from there" in harness.log("gateway")
        for name in ("a", "b"):
            harness.node(name)
        again = harness.gateway()
        while again.poll() is None and "aggregated" not in (seen := [e["event"] for e in events(again)]):
            again = harness.gateway()  # a slow machine's nodes may miss this second again
        assert seen[0] == "trying_again"
        assert again.wait() == 0
