"""The power is cut at every flash operation of settings, orders and updates over the network: nothing is obeyed twice."""

import struct
import subprocess
from dataclasses import replace
from pathlib import Path

from network_talk import MAKER, NEW, OLD, OWNER, PLACE, UPDATE, begins, order, program

from model_export.signing import raw_public
from orchestrator.boards.host_engine import build
from orchestrator.boards.keys import key_sector


def test_settings_orders_and_updates_after_every_cut(tmp_path: Path) -> None:
    (tmp_path / "old.bin").write_bytes(OLD)
    (tmp_path / "new.bin").write_bytes(NEW)
    old_program, new_program = program(b"old" * 1000), program(b"new" * 3000)
    brings = begins(new_program.content)
    a, b = replace(PLACE, federation="a"), replace(PLACE, federation="b", secret=bytes(32))
    written = [
        key_sector([raw_public(OWNER.public_key())], program=raw_public(MAKER.public_key())),
        a.packed(),
        b.packed(),
        order(10**6, UPDATE, federation="a"),
        *(order(number, "metrics", federation="a") for number in range(1, 2 * 128 + 4)),
        *(each.content for each in (old_program, new_program)),
        *(order(10**6 + 1 + n, each, federation="a") for n, each in enumerate((brings, "metrics", brings, "metrics"))),
    ]
    (tmp_path / "parts").write_bytes(b"".join(struct.pack("<I", len(each)) + each for each in written))
    command = [str(build("network-power-cut")), *(str(tmp_path / name) for name in ("old.bin", "new.bin", "parts"))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=850, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    cuts = {scenario: int(count) for scenario, count in (line.split() for line in done.stdout.splitlines())}
    settings = {f"{which}-settings" for which in ("first", "other", "same", "no")}
    failed = {"failed-order": 2, "failed-settings": 3}
    assert set(cuts) == {*settings, "order", "full-sector", "full-log", "update", "program", "trial", *failed}
    assert {name: cuts[name] for name in failed} == failed
    assert min(cuts[name] for name in settings) >= 8
    assert cuts["full-log"] >= cuts["full-sector"] > cuts["order"] >= 8
    assert cuts["update"] > 60
    assert cuts["program"] > 100
    assert cuts["trial"] >= 20
