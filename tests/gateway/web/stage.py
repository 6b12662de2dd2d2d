"""One dashboard and one browser for all tests of pages: each test puts its own store, clock and boards on the stage.

The server is the product's, in this process; what a test changes is the model it asks. A gateway "at work" is a process that
holds the folder's lock, and dies with the test.
"""

import json
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator, Optional

import uvicorn
from chromium import Browser
from dashboards import Client

from orchestrator.gateway.doorkeeper import Doorkeeper
from orchestrator.gateway.running import LOCK_NAME
from orchestrator.gateway.web.app import Dashboard
from orchestrator.gateway.web.child import listen
from orchestrator.gateway.web.listener import Listener
from orchestrator.gateway.web.model import DashboardModel
from orchestrator.gateway.web.password import Login
from orchestrator.gateway.web.settings import WebSettings
from orchestrator.wire.body import encode_body
from orchestrator.wire.link import Message
from orchestrator.wire.topics import Topics

_HOLD = """
import sys; from pathlib import Path; from orchestrator.gateway.running import Held
with Held(Path(sys.argv[1])): print("held", flush=True); sys.stdin.read()
"""


class Scene(DashboardModel):
    """A model whose clock is ahead by `skipped` seconds, and which may be held up."""

    def __init__(self, out: Path) -> None:
        self.skipped = 0.0
        self.goes_on = threading.Event()
        self.goes_on.set()
        super().__init__(out, "test", Listener(None, "test"), lambda: time.time() + self.skipped)

    def sections(self) -> Any:
        self.goes_on.wait(600)
        return super().sections()

    def board_says(self, board: str, kind: str, at: Optional[float] = None, **record: Any) -> None:
        record = {"boot": "b", "model": "m1", "t_us": 5, "kind": kind, **record}
        message = Message(Topics("test").board_record(board), json.dumps(record).encode())
        self.listener.take(message, self.now() if at is None else at)

    def node_says(self, node: str, **presence: Any) -> None:
        self.listener.take(Message(Topics("test").presence(node), encode_body(presence)), self.now())


class Stage:
    def __init__(self, folder: Path, browser: Browser, kept: Path) -> None:
        """kept: a folder for what further tests can use again."""
        self.browser, self.kept = browser, kept
        self._empty = Scene(folder)
        self.scene = self._empty
        settings = WebSettings("127.0.0.1", 0)
        listening = listen(settings)
        self.url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        self.client = Client(listening.getsockname()[1])
        self.dashboard = Dashboard(_Current(self), settings, Doorkeeper(), Login(folder))  # type: ignore[arg-type]
        self._server = uvicorn.Server(
            uvicorn.Config(self.dashboard.asgi, log_config=None, ws="none", timeout_graceful_shutdown=1)
        )
        self.dashboard.stopping = lambda: self._server.should_exit
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listening]}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.browser.open("about:blank")
        self._server.should_exit = True
        self._thread.join(60)

    @contextmanager
    def showing(self, out: Path, view: str = "", **size: Any) -> Iterator[Scene]:
        """A page that shows the folder `out`; afterwards it must have complained of nothing."""
        browser = self.browser
        browser.open("about:blank")
        browser.errors.clear()
        self.scene = scene = Scene(out)
        self.dashboard.news.forget()  # of the scene before
        browser.size(**{"width": 1280, "height": 900, **size})
        browser.open(f"{self.url}#{view}")
        browser.wait(
            "document.querySelector('#link') && !['', 'connecting'].includes(document.querySelector('#link').innerText)"
        )
        try:
            yield scene
            assert browser.errors == []
        finally:
            scene.goes_on.set()
            self.scene = self._empty
            browser.open("about:blank")
            scene.close()

    @contextmanager
    def offline(self) -> Iterator[None]:
        """The browser reaches nothing; what it then complains of is forgotten."""
        speed = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
        self.browser.ask("Network.enable")
        self.browser.ask("Network.emulateNetworkConditions", offline=True, **speed)
        try:
            yield
        finally:
            self.browser.ask("Network.emulateNetworkConditions", offline=False, **speed)
            self.browser.ask("Network.disable")
            self.browser.errors[:] = [error for error in self.browser.errors if "ERR_INTERNET" not in error]

    def skip(self, seconds: float) -> None:
        """For the page so much time passes at once. Nothing else does: what it last heard is older by so much."""
        self.browser.evaluate(
            "(() => { const before = performance.now.bind(performance);"
            f"performance.now = () => before() + {1000 * seconds}; }})()"
        )


class _Current:
    """Asks whatever scene is on."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stage.scene, name)


@contextmanager
def gateway_at_work(out: Path) -> Iterator["subprocess.Popen[str]"]:
    """A process that holds the folder as a gateway does, until it is killed; the lock was taken before what the store has."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(out)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert (out / LOCK_NAME).exists()
        yield process
    finally:
        process.kill()
        process.communicate()
