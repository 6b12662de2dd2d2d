"""The enrolment server: HTTPS with the gateway's certificate, two paths, one small JSON request each."""

import itertools
import json
import logging
import socket
import ssl
import sys
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Dict, Tuple

from orchestrator.errors import EdgewardError, IdentityError
from orchestrator.gateway.authority import Authority
from orchestrator.wire import pki

log = logging.getLogger("edgeward.enrolment")

DEFAULT_PORT = 8443
_MAX_REQUEST_BYTES = 64 << 10
_TIMEOUT_S = 20.0
"""Of a whole connection, however its bytes trickle in."""
MOST_CONNECTIONS = 30
_BACKLOG = 16


class _Server(ThreadingHTTPServer):
    """A thread for each connection, of which there are MOST_CONNECTIONS: the oldest makes room for one more."""

    daemon_threads = True
    request_queue_size = _BACKLOG

    def __init__(self, address: Tuple[str, int], handler: Any) -> None:
        self._open: Dict[int, Tuple[float, socket.socket]] = {}  # by a number of their own, the oldest first
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        super().__init__(address, handler)

    def hold(self, connection: socket.socket) -> int:
        """From now on it is ended in time; `let_go` with the number that is returned."""
        with self._lock:
            number = next(self._numbers)
            self._open[number] = time.monotonic(), connection
            if len(self._open) > MOST_CONNECTIONS:
                self._end(next(iter(self._open)))
            return number

    def let_go(self, number: int) -> None:
        with self._lock:
            self._open.pop(number, None)

    def service_actions(self) -> None:
        """Between two connections, at least twice a second."""
        with self._lock:
            late = [n for n, (since, _) in self._open.items() if time.monotonic() - since > _TIMEOUT_S]
            for number in late:
                self._end(number)

    def _end(self, number: int) -> None:
        with suppress(OSError):  # it went by itself
            # Of the bare socket: its own thread still uses the TLS object.
            socket.socket.shutdown(self._open.pop(number)[1], socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away, or speaks something else, is no news; a mistake of ours is."""
        error = sys.exc_info()[1]
        if isinstance(error, (OSError, ValueError)):
            log.debug("lost the connection of %s: %s", client_address[0], error)
        else:
            log.error("an enrolment of %s failed", client_address[0], exc_info=True)


class EnrolmentServer:
    """Serves an identity folder on `address` until `close`; `broker` is what new nodes are told to connect to."""

    def __init__(self, folder: Path, address: Tuple[str, int], broker: str) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(str(folder / "gateway.crt"), str(folder / "gateway.key"))

        class Handler(_Handler):
            identity, tls, broker_url = folder, context, broker

        try:
            self._server = _Server(address, Handler)
        except OSError as error:
            raise IdentityError(
                f"{address[0]}:{address[1]}: enrolment cannot listen there: {error.strerror}"
            ) from error
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, name="enrolment", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    identity: Path
    tls: ssl.SSLContext
    broker_url = ""

    def setup(self) -> None:
        """The handshake happens in this connection's own thread, so that a silent client holds nobody up."""
        self.request.settimeout(_TIMEOUT_S)
        self.request = self.tls.wrap_socket(self.request, server_side=True, do_handshake_on_connect=False)
        assert isinstance(self.server, _Server)
        self._number = self.server.hold(self.request)
        try:
            self.request.do_handshake()
        except BaseException:
            self.server.let_go(self._number)
            self.request.close()  # nobody else has it
            raise
        super().setup()

    def finish(self) -> None:
        assert isinstance(self.server, _Server)
        try:
            super().finish()
        finally:
            self.server.let_go(self._number)
            self.request.close()

    def do_GET(self) -> None:
        if self.path == "/ca":
            self._answer(200, (self.identity / pki.CA_FILE).read_bytes())
        else:
            self._answer(404, b"no such path\n")

    def do_POST(self) -> None:
        if self.path != "/enroll":
            self._answer(404, b"no such path\n")
            return
        try:
            name, secret, request = self._fields()
            authority = Authority(self.identity)  # SQLite: one connection a thread
            try:
                answer = authority.enroll(name, secret, request.encode())
            finally:
                authority.close()
        except EdgewardError as error:
            log.warning("refused an enrolment from %s: %s", self.client_address[0], error)
            self._answer(403, f"{error}\n".encode())
            return
        self._answer(200, json.dumps({**answer, "broker": self.broker_url}).encode())

    def _fields(self) -> Tuple[str, str, str]:
        length = self.headers.get("Content-Length", "")
        if not (length.isdecimal() and len(length) <= 9) or int(length) > _MAX_REQUEST_BYTES:
            raise IdentityError(f"a request must state its length, at most {_MAX_REQUEST_BYTES} bytes")
        try:
            fields = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError) as error:
            raise IdentityError("the request is not JSON") from error
        wanted = ("name", "secret", "request")
        if not isinstance(fields, dict) or not all(isinstance(fields.get(k), str) for k in wanted):
            raise IdentityError(f"a request has the fields {', '.join(wanted)}")
        if not all(fields[k].isascii() for k in wanted) or not (fields["name"] + fields["secret"]).isprintable():
            raise IdentityError("name, secret and request of a node are plain ASCII")
        return fields["name"], fields["secret"], fields["request"]

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        log.info("%s %s", self.client_address[0], format % arguments)
