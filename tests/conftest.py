"""What many tests need: the shared data, a Python 3.8 as nodes have it, real brokers."""

import contextlib
import fcntl
import os
import shutil
import subprocess
from pathlib import Path
from typing import Callable, Iterator, List

import pytest
from hypothesis import settings
from required import pytest_make_collect_report, pytest_runtest_makereport, pytest_terminal_summary  # noqa: F401
from series import of_cases
from slow import pytest_collection_modifyitems, pytest_ignore_collect  # noqa: F401

with contextlib.suppress(ImportError):
    import tenseal  # noqa: F401  # before TensorFlow (orchestrator/privacy/ckks_blocks.py)

settings.register_profile("edgeward", deadline=None, max_examples=of_cases(100))  # a busy machine is no failure
settings.load_profile("edgeward")

os.environ["COLUMNS"] = (
    "200"  # tables whose cells wrap or not by the length of a random number hold no text to look for
)

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("EDGEWARD_SHARED", ROOT.parent / "shared"))


@pytest.fixture(autouse=True)
def _same_umask() -> Iterator[None]:
    """Commands that keep files private change it for their process, which here is everybody's."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """A file or folder below `data/` of the shared folder beside the checkout; skips where it is absent."""

    def find(relative: str) -> Path:
        path = SHARED / "data" / relative
        if not path.exists():
            pytest.skip(f"{relative} is absent: put it beside the checkout or set EDGEWARD_SHARED")
        return path

    return find


@pytest.fixture(scope="session")
def python38() -> List[str]:
    """The command of a Python 3.8 that has edgeward[node] (tflite-runtime 2.13), as nodes on JetPack 4.6 and 5 have it.

    EDGEWARD_PYTHON38 names one; otherwise build/python38 is made with a python3.8 found on this machine.
    """
    given = os.environ.get("EDGEWARD_PYTHON38")
    if given:
        return [given]
    interpreter = _find_python38()
    if interpreter is None:
        pytest.skip("no Python 3.8 on this machine (looked for python3.8 and pyenv's)")
    venv = ROOT / "build" / "python38"
    python = venv / "bin" / "python"
    stamp = venv / ".installed"
    venv.parent.mkdir(exist_ok=True)
    with (venv.parent / "python38.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several test processes may want it at once; one makes it
        if not stamp.exists() or stamp.read_text() != (ROOT / "pyproject.toml").read_text():
            shutil.rmtree(venv, ignore_errors=True)
            subprocess.run([interpreter, "-m", "venv", str(venv)], check=True)
            packages = ["-e", f"{ROOT}[node]", "pytest", "pytest-timeout", "hypothesis"]
            install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
            subprocess.run([*install, "--upgrade", "pip"], check=True)
            subprocess.run([*install, *packages], check=True)
            stamp.write_text((ROOT / "pyproject.toml").read_text())
    return [str(python)]


def _find_python38() -> "str | None":
    candidates = [shutil.which("python3.8")]
    candidates += [str(p) for p in sorted((Path.home() / ".pyenv" / "versions").glob("3.8*/bin/python3.8"))]
    for candidate in candidates:
        if candidate is None:
            continue
        found = subprocess.run(
            [candidate, "-c", "import sys; print(sys.version_info[:2])"], capture_output=True, text=True
        )
        if found.stdout.strip() == "(3, 8)":
            return candidate
    return None


@pytest.fixture(params=["embedded", "mosquitto"])
def broker(request: pytest.FixtureRequest) -> Iterator[object]:
    """A real broker of each kind."""
    from orchestrator.gateway.broker import OwnBroker

    if request.param == "embedded":
        pytest.importorskip("amqtt", reason="amqtt comes with the gateway, not on a node")
    if request.param == "mosquitto" and not shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin"):
        pytest.skip("mosquitto is not installed")
    with OwnBroker(request.param) as running:
        yield running
