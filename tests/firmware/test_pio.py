"""`pio run -e native` and `pio test -e native` where PlatformIO's registry is out of reach: local platform, SCons from PyPI."""

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Dict

import pytest

from orchestrator.boards.client import BoardClient
from orchestrator.boards.host_engine import PROGRAMS
from orchestrator.boards.partitions import FLASH_BYTES

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "firmware/pio/tool-scons"


def installed(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{package} is not installed (it comes with the dev extra)")


@pytest.fixture(scope="module")
def offline(tmp_path_factory: pytest.TempPathFactory) -> Dict[str, str]:
    """An environment in which pio knows no packages but ours, and reaches no registry."""
    installed("platformio")
    # The name PlatformIO gives a version of SCons: 4.8.1 is 4.40801.0.
    major, minor, patch = (int(part) for part in installed("scons").split("."))
    assert json.loads((TOOL / "package.json").read_text())["version"] == f"4.{major}{minor:02d}{patch:02d}.0"
    core = tmp_path_factory.mktemp("pio")
    shutil.copytree(TOOL, core / "packages/tool-scons")
    out_of_reach = {name: "http://127.0.0.1:9" for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")}
    return {
        **os.environ,
        **out_of_reach,
        "PLATFORMIO_CORE_DIR": str(core),
        "PLATFORMIO_WORKSPACE_DIR": str(core / "work"),
        "PLATFORMIO_SETTING_ENABLE_TELEMETRY": "no",
    }


def pio(environment: Dict[str, str], *words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "platformio", *words, "--project-dir", str(ROOT)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=850)


def test_run_builds_the_virtual_board(offline: Dict[str, str], tmp_path: Path) -> None:
    done = pio(offline, "run", "-e", "native")
    assert done.returncode == 0, done.stdout + done.stderr
    program = Path(offline["PLATFORMIO_WORKSPACE_DIR"]) / "build/native/program"
    flash = tmp_path / "flash.bin"
    flash.write_bytes(b"\xff" * FLASH_BYTES)
    board = subprocess.Popen(
        [str(program), "--flash", str(flash), "--until-stdin-closes"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert board.stdout is not None
        port = board.stdout.readline().decode().split()[1]
        with BoardClient(port) as client:
            assert client.info()["chip"] == "host"
    finally:
        board.kill()
        board.communicate()


def test_test_runs_the_unit_tests(offline: Dict[str, str]) -> None:
    done = pio(offline, "test", "-e", "native")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 test cases: 1 succeeded" in done.stdout


def test_pio_builds_the_sources_the_other_build_has() -> None:
    folder = ROOT / "firmware/test/pio/test_core"
    included = {name for path in folder.glob("*.cpp") for name in re.findall(r'#include "(.*\.cpp)"', path.read_text())}
    assert included == set(PROGRAMS["unit"])
    config = (ROOT / "platformio.ini").read_text()
    native = config[config.index("[env:native]") :]
    for pattern in PROGRAMS["edgeward-board"]:
        assert f"+<{pattern.replace('*.cpp', '')}>" in native
