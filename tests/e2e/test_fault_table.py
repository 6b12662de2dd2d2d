"""The fault table: everything that goes wrong in the field, at once. `fault_run.py` is the long run by hand."""

import shutil
from pathlib import Path
from statistics import median

import pytest
from fault_run import NODES, FaultRun
from harness import BROKER_PATH

pytestmark = [
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not shutil.which("mosquitto", path=BROKER_PATH), reason="mosquitto is not installed"),
]


def test_twenty_rounds_survive_everything_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """SIGKILLs of nodes, gateway and broker, damaged, repeated and lost messages, a straggler, a wrong clock."""
    run = FaultRun(tmp_path, rounds=20, seed=1, kill_every_s=2.0, timeout_s=1500)
    run.run()
    run.check()
    with capsys.disabled():
        print("\n" + "\n".join(run.schedule) + "\n\n" + run.table())
    assert min(run.kills.values()) > 0, f"seed {run.seed} does not kill every kind: {run.kills}"
    assert sum(run.faults().values()) > 0


def test_memory_stays_flat(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same without SIGKILLs, so that processes live long: last rounds against first ones, after 10 to warm up."""
    run = FaultRun(tmp_path, rounds=40, seed=2, kill_every_s=0, timeout_s=600, delay_s=0.02)
    run.run()
    run.check()
    for name in ["gateway", *NODES]:
        first = median(m[name] for m in run.memory[10:20])
        last = median(m[name] for m in run.memory[-10:] if name in m)
        with capsys.disabled():
            print(f"\n{name}: {first:.1f} MiB in rounds 11-20, {last:.1f} MiB in the last ten", end="")
        assert last < 1.1 * first, name
