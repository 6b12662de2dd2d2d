"""Owners' rules on disclosure from end to end: of a masked sum one node stays out, one leaves a part out, and both are said."""

from pathlib import Path

import pytest
from test_analyses import Federation, events, tables

from orchestrator.node.peers import Peers
from orchestrator.node.store import NodeStore

TASK = """
[task.analysis]
kind = "statistics"
bins = 2
[task.privacy]
unit = "none"
[task.aggregation]
method = "masked"
"""
OPEN = '[require]\nunits = ["none"]\nstages = []\nsteady = false\n'
RULES = {
    "a": OPEN + "[disclosure]\nminimum_patients = 500\n",
    "b": OPEN + '[disclosure]\nminimum_cell = 30\nsmall_cells = "leave-out"\n',
    "c": OPEN,
    "d": OPEN,
}


def fingerprint(state: Path, name: str) -> str:
    """Of the key that the node will have."""
    state.mkdir()
    store = NodeStore(state / "node.sqlite")
    try:
        return Peers(name, store).fingerprint
    finally:
        store.close()


def test_a_run_goes_on_without_who_refuses_and_says_what_is_left_out(tmp_path: Path) -> None:
    pytest.importorskip("amqtt", reason="amqtt comes with the gateway, not on a node")
    with Federation(tmp_path, TASK) as federation:
        config = tmp_path / "edgeward.toml"
        config.write_text(config.read_text().replace("nodes = 3", "nodes = 4"))
        few = (tmp_path / "b.csv").read_text().replace(",m", ",f").replace(",f", ",m", 20)
        (tmp_path / "b.csv").write_text(few)
        (tmp_path / "d.csv").write_text((tmp_path / "c.csv").read_text())
        gateway = federation.gateway()
        keys = {name: fingerprint(tmp_path / f"state-{name}", name) for name in RULES}
        for name, rules in RULES.items():
            confirmed = [f'{other} = "{key}"' for other, key in keys.items() if other != name]
            (tmp_path / f"{name}.toml").write_text("\n".join([rules, "[require.peers]", *confirmed]))
            federation.party("node", name, "--data", f"{name}.csv", "--once", "--policy", f"{name}.toml")
        seen = list(events(gateway))
        assert gateway.wait() == 0, federation.log()
        report = seen[-1]
        found = tables(report)
        of_c = (tmp_path / "c.csv").read_text()
        assert dict(map(tuple, found["levels sex"])) == {
            "f": 2 * of_c.count(",f"),
            "m": 2 * of_c.count(",m"),
            "(missing)": 200,
        }
        (sex,) = [row for row in found["columns"] if row[0] == "sex"]
        assert sex[1:3] == [500, 200], "of b, c and d, and a is in no sum"
        assert any("1 node left out 1 column or crosstab" in note for note in report["analysis"]["notes"])
        assert any(event.get("code") == "disclosure.patients" for event in seen), "why a is not in it"
        assert "500" in (tmp_path / "a.txt").read_text()
