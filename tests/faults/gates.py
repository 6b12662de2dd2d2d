"""A network between a process and its broker, which can be cut: a TCP proxy on loopback."""

import contextlib
import socket
import threading
import time
from typing import List, Tuple

_PIECE = 64 << 10


class Gate:
    """Passes connections on to `target` from `with` to its end. While it is `cut`, nothing passes and nobody is told."""

    def __init__(self, target: Tuple[str, int]) -> None:
        self._target = target
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self._open = threading.Event()
        self._open.set()
        self._closed = False
        self._sockets: List[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        self._open.clear()

    def restore(self) -> None:
        self._open.set()

    def close(self) -> None:
        self._closed = True
        self._open.set()
        for one in [self._listening, *self._sockets]:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        while not self._closed:
            try:
                inside, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._connect, args=(inside,), daemon=True).start()

    def _connect(self, inside: socket.socket) -> None:
        self._open.wait()
        try:
            outside = socket.create_connection(self._target, timeout=5)
        except OSError:
            inside.close()
            return
        outside.settimeout(None)
        for one in (inside, outside):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sockets = [s for s in self._sockets if s.fileno() >= 0] + [inside, outside]
        for source, sink in ((inside, outside), (outside, inside)):
            threading.Thread(target=self._pass, args=(source, sink), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_PIECE):
                self._open.wait()
                sink.sendall(data)
        self._open.wait()  # the end of a connection does not pass either
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        time.sleep(0.05)
        for one in (source, sink):
            one.close()
