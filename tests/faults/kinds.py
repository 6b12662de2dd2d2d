"""The faults: what each does to a process while it runs, and how it is lifted again.

`hit` returns when the fault has been there for long enough; `lift` takes it away. What a process says meanwhile, and whether it
ended, is looked at by cells.py.
"""

import contextlib
import errno
import os
import signal
import socket
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Tuple

from . import checks
from .federation import DEADLINE_S, Federation
from .processes import until

BROKERS = ("embedded", "mosquitto")
DAY_S = 86_400
DESCRIPTORS = 64
FILLER = "filler"


class Fault(ABC):
    """A row of the matrix. `name` for --only, `title` for people."""

    name = title = ""
    on_disk = False

    def __init__(self, federation: Federation, kind: str) -> None:
        self.f, self.kind = federation, kind
        self.process = federation.of_kind(kind)
        self.wrong: List[str] = []
        self.read: List[str] = []
        """What a user read who gave the command during the fault."""
        self.refused = False
        self.last = ""

    @abstractmethod
    def hit(self) -> None:
        """Does it, and returns when the fault has been there for long enough."""

    def lift(self) -> None:  # noqa: B027 - most faults end by themselves
        """Nothing, unless the fault stays by itself."""

    # Pieces

    @property
    def broker(self) -> bool:
        return self.kind in BROKERS

    def wait(self, deadlines: float) -> None:
        time.sleep(deadlines * DEADLINE_S)

    def ended(self, within_s: float) -> bool:
        """Whether the process ends by itself within so many seconds."""
        deadline = time.monotonic() + within_s
        while self.process.alive and time.monotonic() < deadline:
            time.sleep(0.05)
        return not self.process.alive

    def refuses(self) -> None:
        """It ended by itself: it says why, and leaves nothing behind."""
        self.refused = True
        self.wrong += [*checks.says_why(self.process), *checks.speaks_clearly(self.process)]
        self.wrong += checks.nothing_is_left(self.process)
        self.last = checks.advice(self.process)
        self.read.append(self.last)
        self.process.mark()

    def works(self, deadlines: float = 60.0) -> bool:
        """Whether rounds are done with this process in them; False as soon as it ended instead."""
        begun = self.f.round()
        deadline = time.monotonic() + deadlines * DEADLINE_S
        while self.process.alive and time.monotonic() < deadline:
            if checks.is_well(self.f, self.kind, begun):
                return True
            time.sleep(0.05)
        return False


class Killed(Fault):
    name, title = "kill", "SIGKILL"

    def hit(self) -> None:
        if self.broker:
            os.kill(self.f.broker_pid(), signal.SIGKILL)
            return
        self.process.kill()
        self.wrong += checks.nothing_is_left(self.process)


class Stopped(Fault):
    name, title = "stop", "SIGSTOP for two deadlines"

    def hit(self) -> None:
        self.pid = self.f.broker_pid() if self.broker else self.process.pid
        os.kill(self.pid, signal.SIGSTOP)
        self.wait(2)

    def lift(self) -> None:
        with contextlib.suppress(ProcessLookupError):  # its gateway may have ended it
            os.kill(self.pid, signal.SIGCONT)


class Full(Fault):
    name, title = "full", "full disk"
    on_disk = True

    def hit(self) -> None:
        self._fill()
        if self.kind == "dashboard" and self.process.state in self.f.mounts:  # it is the gateway's disk, who ends
            until(lambda: not self.f.gateway.alive, self.f.logs)
        if self.ended(2 * DEADLINE_S):
            self.refuses()
            self.process.start()  # the same command, with no room yet
            if self.ended(10 * DEADLINE_S):
                self.refuses()

    def _fill(self) -> None:
        folder = self.process.state
        if folder not in self.f.mounts:
            self.f.controls[self.process.name].error = errno.ENOSPC
            return
        with (folder / FILLER).open("wb", buffering=0) as file, contextlib.suppress(OSError):
            for size in (1 << 16, 1 << 12, 1):
                with contextlib.suppress(OSError):
                    while file.write(bytes(size)) == size:
                        pass

    def lift(self) -> None:
        self.f.controls[self.process.name].error = 0
        with contextlib.suppress(FileNotFoundError):
            (self.process.state / FILLER).unlink()


class Broken(Fault):
    name, title = "eio", "EIO on write and fsync"
    on_disk = True

    def hit(self) -> None:
        self.f.controls[self.process.name].error = errno.EIO
        if self.ended(2 * DEADLINE_S):
            self.refuses()
            self.process.start()
            if self.ended(10 * DEADLINE_S):
                self.refuses()

    def lift(self) -> None:
        self.f.controls[self.process.name].error = 0


class Damaged(Fault):
    name, title = "damage", "a damaged byte in each store"

    def hit(self) -> None:
        for path in stores_of(self.f, self.kind):
            for place in (0.001, 0.4, 0.8) if path.suffix in (".sqlite", ".jsonl") else (0.4,):
                if self.kind == "dashboard":
                    self._damage_what_is_shown(path, place)
                else:
                    self._damage(path, place)

    def _damage_what_is_shown(self, path: Path, place: float) -> None:
        """A dashboard reads the gateway's store, which nobody writes to meanwhile: it shows the rounds, or says what is wrong."""
        self.f.gateway.stop()
        self.process.stop()
        at, good = self._flip(path, place)
        self.process.mark()
        self.process.start()
        page = until(lambda: checks.overview(self.f), lambda: f"a page with byte {at} damaged\n{self.f.logs()}")
        said = page if path.name in page else self.process.said()  # the page may name the log
        if path.name in said:
            self.read.append(said[said.index(path.name) - 40 :][:200])
        elif '"rounds_done":' not in page:
            self.wrong.append(f"{path.name}, byte {at}: the page neither shows rounds nor names it: {page[:500]}")
        self.wrong += checks.speaks_clearly(self.process)
        self.process.stop()
        _write_byte(path, at, good)
        self.process.start()
        self.f.gateway.start()

    def _flip(self, path: Path, place: float) -> Tuple[int, int]:
        """Where a bit was flipped, and the byte that was there."""
        data = path.read_bytes()
        wanted = int(len(data) * place)
        at = next(i % len(data) for i in range(wanted, wanted + len(data)) if data[i % len(data)])
        _write_byte(path, at, data[at] ^ 0x10)
        return at, data[at]

    def _damage(self, path: Path, place: float) -> None:
        self.process.stop()
        at, good = self._flip(path, place)
        self.process.mark()
        self.process.start()
        if self.works():
            self.process.stop()
        elif self.process.alive:
            self.wrong.append(f"{path.name}, byte {at}: it neither works nor ends: {checks.advice(self.process)!r}")
            self.process.stop()
        else:
            self.refuses()
            if path.name not in self.last:
                self.wrong.append(f"{path.name}, byte {at}: not named in {self.last!r}")
        self.process.mark()
        if path.exists() and path.stat().st_size > at and path.read_bytes()[at] == good ^ 0x10:
            _write_byte(path, at, good)
        self.process.start()
        if not self.works():
            self.wrong.append(f"{path.name}, byte {at}: with the byte back it does not work\n{self.f.logs()}")


def _write_byte(path: Path, at: int, value: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(bytes([value]))


def stores_of(federation: Federation, kind: str) -> List[Path]:
    """Files a process must not lose."""
    state = federation.of_kind(kind).state
    names: Dict[str, List[str]] = {
        "gateway": ["gateway.sqlite", "audit.jsonl"],
        "node": ["node.sqlite", "ledger.sqlite"],
        "key holder": ["keys.sqlite", "node.sqlite"],
        "relay": ["region.sqlite", "node.sqlite"],
        "dashboard": ["gateway.sqlite"],
    }
    stores = [state / name for name in names.get(kind, []) if (state / name).exists()]
    return [*stores, *_identity_of(federation, kind)]


def _identity_of(federation: Federation, kind: str) -> List[Path]:
    """Files a process is known by. Whose messages a node believes (signing.pub) is not to be checked against anything."""
    if not federation.setting.identities:
        return []
    if kind == "gateway":
        names = ("authority.sqlite", "gateway.key", "gateway.crt", "ca.crt", "signing.key", "signing.pub", "crl.pem")
        return [federation.folder / "identity" / name for name in names]
    folder = federation.folder / f"id-{federation.of_kind(kind).name}"
    return [folder / name for name in ("node.key", "node.crt", "ca.crt", "identity.json") if (folder / name).exists()]


class Clock(Fault):
    name, title = "clock", "clock a day forth and back"

    def hit(self) -> None:
        control = self.f.controls[self.process.name]
        for seconds in (DAY_S, -DAY_S):
            control.clock_s = seconds
            if not self.works():
                self.wrong.append(f"with the clock {seconds} s off: {checks.advice(self.process)!r}")
            self.process.stop()
            self.process.mark()
            self.process.start()
            if self.works(4):
                continue
            if self.process.alive:
                self.read.append(checks.advice(self.process))
                self.process.stop()
                self.process.start()
            else:
                self.refuses()
                self.process.start()

    def lift(self) -> None:
        self.f.controls[self.process.name].clock_s = 0


class Descriptors(Fault):
    name, title = "descriptors", "64 descriptors"

    def hit(self) -> None:
        self.process.stop()
        self.process.descriptors = DESCRIPTORS
        self.process.start()
        if not self.works():
            self.wrong.append(f"with {DESCRIPTORS} descriptors: {checks.advice(self.process)!r}")
        port = port_of(self.f, self.kind)
        if port is not None:
            with silent_connections(port, 2 * DESCRIPTORS):
                self.wait(1)

    def lift(self) -> None:
        self.process.descriptors = None
        if self.process.alive:
            if not self.works():
                self.wrong.append(f"after {2 * DESCRIPTORS} connections: {checks.advice(self.process)!r}")
            self.process.stop()
            self.process.start()


@contextlib.contextmanager
def silent_connections(port: int, count: int) -> Iterator[None]:
    """So many connections to a port, on which nothing is said."""
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            with contextlib.suppress(OSError):
                stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=1))
        yield


def port_of(federation: Federation, kind: str) -> Optional[int]:
    """Where others connect to this process; None where nobody does."""
    ports = {"dashboard": federation.web_port, "monitor": federation.metrics_port, "relay": federation.region_port}
    return {**ports, "gateway": federation.port, **dict.fromkeys(BROKERS, federation.port)}.get(kind)


class PortTaken(Fault):
    name, title = "port", "port in use"

    def hit(self) -> None:
        port = port_of(self.f, self.kind)
        assert port is not None
        if not self.broker:
            self.process.stop()
        self._stranger = self._take(port)
        if not self.broker:
            self.process.start()
        if self.ended(10 * DEADLINE_S):
            self.refuses()
            if str(port) not in self.last:
                self.wrong.append(f"port {port} is not named in {self.last!r}")
        elif not self.broker:
            self.wrong.append(f"it does not say that its port is taken: {checks.advice(self.process)!r}")

    def _take(self, port: int) -> socket.socket:
        """A program that listens there and never answers. A broker is killed for it, and again where its gateway was faster."""
        taken: List[socket.socket] = []

        def bound() -> bool:
            if self.broker:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.f.broker_pid(), signal.SIGKILL)
            for _ in range(20):
                one = socket.socket()
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    one.bind(("127.0.0.1", port))
                    one.listen(128)
                except OSError:
                    one.close()
                    time.sleep(0.01)
                    continue
                taken.append(one)
                return True
            return False

        until(bound, lambda: f"port {port}")
        return taken[0]

    def lift(self) -> None:
        self._stranger.close()


class Away(Fault):
    name, title = "network", "network gone for three deadlines"

    def hit(self) -> None:
        gates = self.f.gates
        self._cut = [gates[self.process.name]] if self.process.name in gates else list(gates.values())
        for gate in self._cut:
            gate.cut()
        self.wait(3)

    def lift(self) -> None:
        for gate in self._cut:
            gate.restore()


FAULTS = {one.name: one for one in (Killed, Stopped, Full, Broken, Damaged, Clock, Descriptors, PortTaken, Away)}
