"""A headless Chromium driven over its DevTools protocol: open, evaluate, take a picture. Nothing but `websockets`."""

import base64
import contextlib
import json
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, TypeVar

import pytest

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--disable-features=BackForwardCache",  # pages that were left would be kept, and counted
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)
_START_S = 120.0


def find_chromium() -> str:
    """The program, or a skip that says what is missing."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        found = shutil.which(name)
        if found:
            return found
    pytest.skip("no Chromium on this machine (Debian: apt install chromium)")


class ProtocolError(Exception):
    """Chromium could not do it, for example because the page was just left."""


Opened = TypeVar("Opened", bound="Browser")


class Browser:
    """One page. `errors` gathers what the console or the page complained of."""

    def __init__(self) -> None:
        from websockets.sync.client import connect

        self._profile = tempfile.TemporaryDirectory(prefix="edgeward-chromium-", ignore_cleanup_errors=True)
        command = [find_chromium(), *FLAGS, f"--user-data-dir={self._profile.name}", "about:blank"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.errors: List[str] = []
        self._number = 0
        try:
            browser, target = self._address()
            self._socket = connect(f"{browser}{target}", max_size=None, compression=None, ping_interval=None)
            page = self.ask("Target.createTarget", url="about:blank")["targetId"]
            self._session: Optional[str] = self.ask("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        except BaseException:
            self._end()
            raise
        for domain in ("Page", "Runtime", "Log"):
            self.ask(f"{domain}.enable")

    def _address(self) -> Any:
        path = Path(self._profile.name) / "DevToolsActivePort"
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise AssertionError(f"Chromium ended with {self._process.returncode}")
            with contextlib.suppress(FileNotFoundError, ValueError):
                port, target = path.read_text().split("\n")[:2]
                return f"ws://127.0.0.1:{port}", target
            time.sleep(0.05)
        raise AssertionError("Chromium did not say where to reach it")

    @contextlib.contextmanager
    def second_tab(self) -> Iterator[None]:
        """All that is asked meanwhile is asked of another tab of the same browser, which is closed afterwards."""
        first, self._session = self._session, None
        page = self.ask("Target.createTarget", url="about:blank", background=False)["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        try:
            for domain in ("Page", "Runtime", "Log"):
                self.ask(f"{domain}.enable")
            yield
        finally:
            self._session = None
            self.ask("Target.closeTarget", targetId=page)
            self._session = first

    def __enter__(self: Opened) -> Opened:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self._end()

    def _end(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._profile.cleanup()

    def ask(self, method: str, **parameters: Any) -> Dict[str, Any]:
        self._number += 1
        message: Dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if getattr(self, "_session", None):
            message["sessionId"] = self._session
        self._socket.send(json.dumps(message))
        while True:
            answer = json.loads(self._socket.recv(timeout=120))
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise ProtocolError(f"{method}: {answer['error']}")
                result: Dict[str, Any] = answer["result"]
                return result
            self._note(answer)

    def _note(self, event: Dict[str, Any]) -> None:
        kind, told = event.get("method"), event.get("params", {})
        if kind == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(told["exceptionDetails"])[:600])
        elif kind == "Runtime.consoleAPICalled" and told["type"] in ("error", "assert"):
            self.errors.append(json.dumps(told["args"])[:600])
        elif kind == "Log.entryAdded" and told["entry"]["level"] == "error":
            self.errors.append(f"{told['entry']['text']} {told['entry'].get('url', '')}")

    def size(self, width: int, height: int, scale: float = 1.0, mobile: bool = False) -> None:
        self.ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=mobile
        )

    def dark(self, wanted: bool) -> None:
        features = [{"name": "prefers-color-scheme", "value": "dark" if wanted else "light"}]
        self.ask("Emulation.setEmulatedMedia", features=features)

    def open(self, url: str) -> None:
        self.ask("Page.navigate", url=url)

    def reload(self) -> None:
        """Returns when the page before is gone."""
        self.evaluate("window.before = true")
        self.ask("Page.reload")
        self.wait("!window.before")

    def evaluate(self, expression: str) -> Any:
        answer = self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, f"{expression}: {answer['exceptionDetails']}"
        return answer["result"].get("value")

    def wait(self, expression: str, timeout_s: float = 300.0, whole: bool = True) -> None:
        """Returns as soon as the expression gives something; one that throws gives nothing. whole: once all cards are drawn."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            with contextlib.suppress(ProtocolError):
                if self.evaluate(f"(() => {{ try {{ return !!({expression}) }} catch {{ return false }} }})()"):
                    if whole:
                        self.drawn()
                    return
            time.sleep(0.05)
        raise AssertionError(f"not within {timeout_s:g} s: {expression}; the page says {self.text()[:1500]!r}")

    def drawn(self) -> None:
        """Returns when no card of the page waits for its turn."""
        deadline = time.monotonic() + 600
        while self.evaluate("'drawing' in (document.documentElement?.dataset ?? {})"):
            assert time.monotonic() < deadline, "cards wait for their turn for ever"
            time.sleep(0.02)

    def text(self) -> str:
        """What the page says, all of it drawn."""
        self.drawn()
        return str(self.evaluate("document.body ? document.body.innerText : ''"))

    def type(self, text: str) -> None:
        self.ask("Input.insertText", text=text)

    def press(self, key: str) -> None:
        """A key that types nothing, such as ArrowLeft."""
        codes = {"ArrowLeft": 37, "ArrowRight": 39, "Tab": 9, "Escape": 27}
        for kind in ("keyDown", "keyUp"):
            self.ask("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=codes[key])

    def press_enter(self) -> None:
        for kind in ("keyDown", "keyUp"):
            self.ask(
                "Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", text="\r", windowsVirtualKeyCode=13
            )

    def picture(self, path: Path, height: Optional[int] = None) -> None:
        """A PNG of the page, from its top; of all of it without `height` (CSS pixels)."""
        self.drawn()
        size = self.ask("Page.getLayoutMetrics")["cssContentSize"]
        clip = {
            "x": 0,
            "y": 0,
            "width": size["width"],
            "height": min(height or size["height"], size["height"]),
            "scale": 1,
        }
        answer = self.ask("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(answer["data"]))
