"""A small HTTP server of threads that no crowd of connections exhausts: for enrolment, and for a monitor's metrics."""

import errno
import itertools
import logging
import resource
import socket
import ssl
import sys
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Dict, Tuple

from orchestrator.mishaps import sentence

TIMEOUT_S = 20.0
"""Of a whole connection, however its bytes trickle in."""
MOST_CONNECTIONS = 30
_BACKLOG = 16
_NO_SUCH_PATH = (404, "text/plain; charset=utf-8", b"no such path\n")
_NO_DESCRIPTORS_S = 0.1


class BoundedServer(ThreadingHTTPServer):
    """A thread for each connection, of which there are MOST_CONNECTIONS, or fewer where the process may open few files.

    The oldest makes room for one more.

    `log` gets a line for a request that could not be answered; a client that goes away, or speaks something else, is no news.
    """

    daemon_threads = True
    request_queue_size = _BACKLOG

    def __init__(self, address: Tuple[str, int], handler: Any, log: logging.Logger) -> None:
        self.log = log
        self._open: Dict[int, Tuple[float, socket.socket]] = {}  # by a number of their own, the oldest first
        self._most = min(MOST_CONNECTIONS, max(8, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4))
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, handler)

    def hold(self, connection: socket.socket) -> int:
        """From now on it is ended in time; `let_go` with the number that is returned."""
        with self._lock:
            number = next(self._numbers)
            self._open[number] = time.monotonic(), connection
            if len(self._open) > self._most:
                self._end(next(iter(self._open)))
            return number

    def let_go(self, number: int) -> None:
        with self._lock:
            self._open.pop(number, None)

    def service_actions(self) -> None:
        """Between two connections, at least twice a second."""
        with self._lock:
            late = [n for n, (since, _) in self._open.items() if time.monotonic() - since > TIMEOUT_S]
            for number in late:
                self._end(number)

    def get_request(self) -> Tuple[Any, Any]:
        try:
            return super().get_request()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS):
                self.log.warning("no connection can be accepted: %s", error.strerror)
                time.sleep(_NO_DESCRIPTORS_S)  # those that are open end in time; until then there is nothing else to do
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request(request, client_address)
        except RuntimeError as error:  # this machine gives no further thread
            self.shutdown_request(request)
            self.log.warning("a request of %s was not answered: %s", client_address[0], error)

    def _end(self, number: int) -> None:
        with suppress(OSError):  # it went by itself
            # Of the bare socket: its own thread still uses a TLS object.
            socket.socket.shutdown(self._open.pop(number)[1], socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exc_info()[1]
        if isinstance(error, (OSError, ValueError)):
            self.log.debug("lost the connection of %s: %s", client_address[0], error)
        elif error is not None:
            self.log.error("a request of %s was not answered: %s", client_address[0], sentence(error))


class Handler(BaseHTTPRequestHandler):
    """Answers GET and POST with what `get` and `post` return; what they raise is logged, and the client learns that it was."""

    server: BoundedServer

    def setup(self) -> None:
        self.request.settimeout(TIMEOUT_S)
        self._number = self.server.hold(self.request)
        super().setup()

    def finish(self) -> None:
        try:
            super().finish()
        finally:
            self.server.let_go(self._number)

    def get(self) -> Tuple[int, str, bytes]:
        """(status, content type, body)."""
        return _NO_SUCH_PATH

    def post(self) -> Tuple[int, str, bytes]:
        return _NO_SUCH_PATH

    def do_GET(self) -> None:
        self._answer(self.get)

    def do_POST(self) -> None:
        self._answer(self.post)

    def _answer(self, question: Any) -> None:
        try:
            status, kind, body = question()
        except (ConnectionError, TimeoutError, ssl.SSLError):
            raise  # of the client
        except Exception as error:
            self.server.log.error("a request of %s was not answered: %s", self.client_address[0], sentence(error))
            status, kind, body = 500, "text/plain; charset=utf-8", b"this cannot be answered now; its log says why\n"
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        self.server.log.debug("%s %s", self.client_address[0], format % arguments)
