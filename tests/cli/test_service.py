"""systemd units: what systemd itself says of them, and that the command in them is the one asked for."""

import logging
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.cli.main import build_parser, main
from orchestrator.cli.service import unit

NODE = ["--broker", "mqtts://gw", "--name", "icu-1", "--data"]


def exec_start(text: str) -> str:
    (line,) = [line for line in text.splitlines() if line.startswith("ExecStart=")]
    return line[len("ExecStart=") :]


@pytest.mark.parametrize("part", ["gateway", "node"])
def test_systemd_finds_nothing_wrong(part: str, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not on this machine")
    options = [str(tmp_path / "e.toml")] if part == "gateway" else [*NODE, str(tmp_path / "a b.csv")]
    assert main([part, "service", "--user", "root", "--write", str(tmp_path), "--", *options]) == 0
    path = tmp_path / f"edgeward-{part}.service"

    def verify() -> str:
        done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(path)], capture_output=True, text=True)
        return "\n".join(line for line in done.stderr.splitlines() if f"edgeward-{part}" in line)

    assert verify() == ""
    path.write_text(path.read_text().replace("ProtectSystem=strict", "ProtectSystm=strict"))
    assert "ProtectSystm" in verify(), "the check must see a mistake"


def test_the_command_in_the_unit_is_the_one_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = shlex.split(exec_start(unit("node", [*NODE, "a b.csv", "--state=st"], "edgeward")).replace("%%", "%"))
    parsed = build_parser().parse_args(words[words.index("node") :])
    assert parsed.data == tmp_path / "a b.csv"
    assert parsed.state == tmp_path / "st"
    assert parsed.name == "icu-1"
    web = exec_start(unit("gateway", ["e.toml", "--dashboard-key", "k.pem"], "edgeward"))
    assert f"run {tmp_path}/e.toml --dashboard-key {tmp_path}/k.pem --out" in web


def test_state_is_where_the_unit_may_write(tmp_path: Path) -> None:
    usual = unit("gateway", ["/etc/e.toml"], "edgeward")
    assert exec_start(usual).endswith("gateway run /etc/e.toml --out /var/lib/edgeward-gateway")
    assert "StateDirectory=edgeward-gateway" in usual
    assert "ReadWritePaths" not in usual
    own = unit("gateway", ["/etc/e.toml", "--out", "/srv/ew", "--log-file", "/var/log/ew/g.log"], "edgeward")
    assert "ReadWritePaths=/srv/ew\n" in own
    assert "ReadWritePaths=/var/log/ew\n" in own


def test_a_node_begins_when_its_data_are_mounted() -> None:
    """What it is given must be there: a file that is missing ends it with 2, after which systemd does not start it again."""
    assert "RequiresMountsFor=/srv/wards\n" in unit("node", [*NODE, "/srv/wards/icu.csv"], "edgeward")
    assert "RequiresMountsFor" not in unit("gateway", ["/etc/e.toml"], "edgeward")


def test_what_systemd_would_expand_is_escaped() -> None:
    assert "%%h $$HOME" in exec_start(unit("node", [*NODE, "/data/%h $HOME.csv"], "edgeward"))


def test_wrong_options_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["node", "service", "--write", str(tmp_path), "--", "--broker", "mqtt://gw"])
    assert stopped.value.code == 2
    assert list(tmp_path.iterdir()) == []
    assert main(["gateway", "service", "--write", str(tmp_path / "none"), "--", "/etc/e.toml"]) == 2


def test_the_log_file_stays_bounded(tmp_path: Path) -> None:
    program = (
        "import argparse, logging; from pathlib import Path; from orchestrator.cli import logs;"
        f"logs.configure(argparse.Namespace(log_file=Path({str(tmp_path / 'd' / 'x.log')!r}), log_mib=0.001));"
        "log = logging.getLogger('edgeward.node');"
        "[log.info('line %d', i) for i in range(500)]; log.warning('seen')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "seen" in done.stderr
    assert "line 1" not in done.stderr
    files = sorted(path.name for path in (tmp_path / "d").iterdir())
    assert files == ["x.log", *(f"x.log.{i}" for i in range(1, 6))]
    assert all(path.stat().st_size <= 1048 for path in (tmp_path / "d").iterdir())
    assert "line 499" in (tmp_path / "d" / "x.log").read_text() + (tmp_path / "d" / "x.log.1").read_text()
    assert logging.getLogger("edgeward.node").handlers == []
