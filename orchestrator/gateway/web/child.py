"""The dashboard beside a running gateway: a child process, so that whatever it does, the rounds go on."""

import errno
import json
import logging
import os
import signal
import socket
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Dict, Optional, Sequence

from orchestrator.errors import UsageError, why_not_listening
from orchestrator.gateway.web.password import Login
from orchestrator.gateway.web.settings import WebSettings
from orchestrator.gateway.web.standing import ALIVE, ALIVE_S, ENDED, FAILED, FINISHED, STOPPED
from orchestrator.gateway.web.staying import PROGRAM, ask_to_leave
from orchestrator.mishaps import sentence
from orchestrator.wire.json_text import from_json
from orchestrator.wire.link import BrokerAddress
from orchestrator.wire.process import own_program

log = logging.getLogger("edgeward.gateway")

_MOST_MESSAGE_BYTES = 60 << 10
_UNREAD_BYTES = 16 << 10
"""Of a connection, in the kernel: all of it may be read at once, and held while an answer waits for its reader."""
_MOST_ASKED_BYTES = 4096
STOP = "stop"
"""What a dashboard may ask of its gateway."""
_RESTART_S = 2.0
_WAY_S = 10.0
"""A dashboard that is asked to make way has ended by then."""
SMALL = {"MALLOC_ARENA_MAX": "2", "OPENBLAS_NUM_THREADS": "1"}
"""Against memory that glibc and BLAS set aside for every thread; the dashboard computes nothing."""


def listen(settings: WebSettings) -> socket.socket:
    """A listening socket; UsageError where the address cannot be had. A dashboard that stayed there makes way."""
    deadline, stayed = time.monotonic() + _WAY_S, True
    while True:
        try:
            return _listen(settings)
        except OSError as error:
            asked = error.errno == errno.EADDRINUSE and time.monotonic() < deadline and ask_to_leave(settings.port)
            if not asked and not (stayed and error.errno == errno.EADDRINUSE):
                raise UsageError(f"dashboard {settings.host}:{settings.port}: {why_not_listening(error)}") from error
            stayed = asked  # one that went before it could be asked has left the address free
        time.sleep(0.1)


def _listen(settings: WebSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _UNREAD_BYTES)
    try:
        listening.bind((settings.host, settings.port))
        listening.listen(128)
    except OSError:
        listening.close()
        raise
    return listening


def url_of(settings: WebSettings, listening: socket.socket) -> str:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"{'https' if settings.tls else 'http'}://{host}:{listening.getsockname()[1]}/"


class DashboardProcess:
    """Beside the gateway from `with` to its end; after a run that ended by itself, or a kill, it stays for settings.stay_s.

    One that dies is started again; one that hangs loses progress messages, never a round.
    """

    def __init__(
        self, out: Path, settings: WebSettings, federation: str, broker: BrokerAddress, again: Sequence[str] = ()
    ) -> None:
        """Raises UsageError where the address is in use or must not be used; `warning` is for people.

        again: the command that starts this gateway again from this process's folder; empty where no page may.
        """
        self.warning = settings.check(out)
        self._given: Dict[str, Any] = {
            "out": str(out),
            "host": settings.host,
            "port": settings.port,
            "certificate": str(settings.certificate or ""),
            "key": str(settings.key or ""),
            "federation": federation,
            "broker": asdict(broker),
            "quiet_s": settings.quiet_s,
            "stay_s": settings.stay_s,
            "again": list(again),
            "folder": os.getcwd(),
            "replaced": {name: os.environ[name] for name in SMALL if name in os.environ},
        }
        self._stay_s = settings.stay_s
        self._login = Login(out)
        self._listening = listen(settings)
        self.url = url_of(settings, self._listening)
        self._channel: Optional[socket.socket] = None
        self._process: Optional[subprocess.Popen[str]] = None
        self._closing = threading.Event()
        self._starting = threading.Lock()
        self._watcher = threading.Thread(target=self._watch, name="dashboard", daemon=True)
        self.restarts = 0
        self.stayed = False
        self._asked_to_stop = False  # from a page, whose readers then see how the run stands and may start it again

    @property
    def pid(self) -> Optional[int]:
        return self._process.pid if self._process else None

    def __enter__(self) -> "DashboardProcess":
        self._start()
        self._watcher.start()
        threading.Thread(target=self._say_alive, name="alive", daemon=True).start()
        return self

    def __exit__(self, _: object, error: Optional[BaseException], __: object) -> None:
        with self._starting:
            self._closing.set()
        how = FINISHED if error is None else FAILED if isinstance(error, Exception) else STOPPED
        stays = how != STOPPED or self._asked_to_stop  # who stops a gateway elsewhere stops its dashboard
        self.tell({"event": ENDED, "how": how, "reason": str(error) if how == FAILED else "", "stays": stays})
        if self._channel is not None:
            with suppress(OSError):  # it is gone already
                self._channel.shutdown(socket.SHUT_RDWR)  # it ends, or stays on its own, when its channel does
            self._channel.close()
        self._listening.close()
        assert self._process is not None
        if self._stay_s > 0 and stays and self._process.poll() is None:
            self.stayed = True
            return
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._watcher.join()

    def tell(self, event: Dict[str, Any]) -> None:
        """Passes progress on, without ever waiting."""
        message = json.dumps(event).encode()
        channel = self._channel
        if channel is None or len(message) > _MOST_MESSAGE_BYTES:
            return
        try:
            channel.send(message, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except OSError:  # it is not reading, or gone: the rounds do not depend on it
            log.debug("the dashboard did not take %s", event["event"])

    def _say_alive(self) -> None:
        while not self._closing.wait(ALIVE_S):
            self.tell({"event": ALIVE})

    def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        given = {**self._given, "listening_fd": self._listening.fileno(), "channel_fd": theirs.fileno()}
        given["login_needed"] = self._login.needed  # remembered here: the child, or the file, may be gone in between
        threading.Thread(target=self._heed, args=(ours,), name="asked", daemon=True).start()  # or no process is started
        self._process = subprocess.Popen(
            own_program(PROGRAM, str(os.getpid())),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            pass_fds=(self._listening.fileno(), theirs.fileno()),
            text=True,
            env={**os.environ, **SMALL},
        )
        theirs.close()
        before, self._channel = self._channel, ours
        if before is not None:
            before.close()
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(given) + "\n")
            self._process.stdin.close()
        except OSError:
            log.warning("the dashboard ended before it began")

    def _heed(self, channel: socket.socket) -> None:
        """Until the dashboard is gone: what it asks of this gateway, for one of those who logged in."""
        while True:
            try:
                message = channel.recv(_MOST_ASKED_BYTES)
            except OSError:  # closed here
                return
            if not message:
                return
            if asked(message) == STOP:
                log.warning(
                    "somebody who logged in to the dashboard stops this gateway; the same command continues its run"
                )
                self._asked_to_stop = True
                os.kill(os.getpid(), signal.SIGTERM)

    def _watch(self) -> None:
        while True:
            assert self._process is not None
            code = self._process.wait()
            if self._closing.is_set():
                return
            log.warning("the dashboard ended with %d; starting it again", code)
            self._closing.wait(_RESTART_S)
            with self._starting:
                if self._closing.is_set():
                    return
                try:
                    self._start()
                    self.restarts += 1
                except (OSError, RuntimeError) as error:  # no memory, process, thread or descriptor now: perhaps later
                    log.error("the dashboard cannot be started: %s; trying again", sentence(error))


def asked(message: bytes) -> str:
    """What a dashboard asks: STOP; empty for everything else."""
    try:
        return STOP if from_json(message) == {"ask": STOP} else ""
    except ValueError:
        return ""
