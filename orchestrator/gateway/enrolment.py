"""The enrolment server: HTTPS with the gateway's certificate, two paths, one small JSON request each."""

import json
import logging
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Tuple

from orchestrator.errors import EdgewardError, IdentityError
from orchestrator.gateway.authority import Authority
from orchestrator.wire import pki

log = logging.getLogger("edgeward.enrolment")

DEFAULT_PORT = 8443
_MAX_REQUEST_BYTES = 64 << 10
_TIMEOUT_S = 20.0


class EnrolmentServer:
    """Serves an identity folder on `address` until `close`; `broker` is what new nodes are told to connect to."""

    def __init__(self, folder: Path, address: Tuple[str, int], broker: str) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(str(folder / "gateway.crt"), str(folder / "gateway.key"))

        class Handler(_Handler):
            identity, tls, broker_url = folder, context, broker

        try:
            self._server = ThreadingHTTPServer(address, Handler)
        except OSError as error:
            raise IdentityError(
                f"{address[0]}:{address[1]}: enrolment cannot listen there: {error.strerror}"
            ) from error
        self._server.daemon_threads = True
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
        self.request = self.tls.wrap_socket(self.request, server_side=True)
        super().setup()

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
        except ValueError as error:
            raise IdentityError(f"the request is not JSON: {error}") from error
        wanted = ("name", "secret", "request")
        if not isinstance(fields, dict) or not all(isinstance(fields.get(k), str) for k in wanted):
            raise IdentityError(f"a request has the fields {', '.join(wanted)}")
        return fields["name"], fields["secret"], fields["request"]

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        log.info("%s %s", self.client_address[0], format % arguments)
