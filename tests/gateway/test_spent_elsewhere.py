"""A statement says what other runs of its gateway spent on the same records."""

from pathlib import Path

from stored_runs import finish_run, write_run

from orchestrator.gateway.spent_elsewhere import spent_elsewhere
from orchestrator.gateway.store import Store
from orchestrator.privacy.statement_page import markdown
from orchestrator.wire.protection import Privacy


def test_other_runs_over_the_same_nodes_are_listed(tmp_path: Path) -> None:
    store = Store(tmp_path / "gateway.sqlite")
    private = Privacy(noise_multiplier=2.0, epsilon=8.0, delta=1e-3)
    for run in ("ward-00000000", "ward-00000000-2", "stroke-11111111", "stroke-22222222"):
        write_run(store, run, privacy=private)
    finish_run(store, "stroke-11111111")  # its statement says 3.5
    write_run(store, "open-33333333", privacy=Privacy(unit="none"))
    said = spent_elsewhere(store, "ward-00000000-2", ["icu"])
    assert [(s["run"], s["nodes"], s["epsilon"], s["finished"]) for s in said] == [
        ("stroke-11111111", 1, 3.5, True),
        ("stroke-22222222", 1, 8.0, False),
        ("open-33333333", 1, None, False),
    ], "the training before this one is part of its own statement"
    assert spent_elsewhere(store, "ward-00000000-2", ["lab"]) == [], "it declined all of them"
    page = markdown({"unit": "none", "claim": "the claim", "other_runs": said})
    assert "- stroke-11111111: 1 of the nodes, epsilon 3.5 per record\n" in page
    assert (
        "- stroke-22222222: 1 of the nodes, epsilon 8 at delta 0.001 per record, as planned: it is not finished" in page
    )
    assert "- open-33333333: 1 of the nodes, without differential privacy, as planned" in page
