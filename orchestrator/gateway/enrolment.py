"""The enrolment server: HTTPS with the gateway's certificate, two paths, one small JSON request each."""

import json
import logging
import ssl
import threading
from pathlib import Path
from typing import Tuple

from orchestrator.errors import EdgewardError, EnrolmentError, IdentityError, UsageError, why_not_listening
from orchestrator.gateway.authority import Authority
from orchestrator.http_server import TIMEOUT_S, BoundedServer, Handler
from orchestrator.wire import pki
from orchestrator.wire.enrolling import NodeRequest
from orchestrator.wire.json_text import from_json

log = logging.getLogger("edgeward.enrolment")

DEFAULT_PORT = 8443
_MAX_REQUEST_BYTES = 64 << 10


class EnrolmentServer:
    """Serves an identity folder on `address` until `close`; `broker` is what new nodes connect to."""

    def __init__(self, folder: Path, address: Tuple[str, int], broker: str) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(str(folder / "gateway.crt"), str(folder / "gateway.key"))

        class OfFolder(_Enrolment):
            identity, tls, broker_url = folder, context, broker

        try:
            self._server = BoundedServer(address, OfFolder, log)
        except OSError as error:
            raise EnrolmentError(f"enrolment at {address[0]}:{address[1]}: {why_not_listening(error)}") from error
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, name="enrolment", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Enrolment(Handler):
    identity: Path
    tls: ssl.SSLContext
    broker_url = ""

    def setup(self) -> None:
        """The handshake happens in this connection's own thread, so that a silent client holds nobody up."""
        self.request.settimeout(TIMEOUT_S)
        self.request = self.tls.wrap_socket(self.request, server_side=True, do_handshake_on_connect=False)
        super().setup()
        try:
            self.request.do_handshake()
        except BaseException:
            self.server.let_go(self._number)
            self.request.close()  # nobody else has it
            raise

    def finish(self) -> None:
        try:
            super().finish()
        finally:
            self.request.close()

    def get(self) -> Tuple[int, str, bytes]:
        if self.path != "/ca":
            return super().get()
        return 200, "application/x-pem-file", (self.identity / pki.CA_FILE).read_bytes()

    def post(self) -> Tuple[int, str, bytes]:
        if self.path != "/enroll":
            return super().post()
        try:
            asked = self._asked()
            authority = self._authority()
            try:
                answer = authority.enroll(asked.name, asked.secret, asked.request.encode())
            finally:
                authority.close()
        except (IdentityError, UsageError) as error:
            log.warning("refused an enrolment from %s: %s", self.client_address[0], error)
            return 403, "text/plain; charset=utf-8", f"{error}\n".encode()
        return 200, "application/json", json.dumps(answer._replace(broker=self.broker_url).written()).encode()

    def _authority(self) -> Authority:
        """SQLite: one connection a thread. What is wrong with the folder is for the log, and nothing a stranger did."""
        try:
            return Authority(self.identity)
        except (IdentityError, UsageError) as error:
            raise EdgewardError(str(error)) from error

    def _asked(self) -> NodeRequest:
        length = self.headers.get("Content-Length", "")
        if not (length.isdecimal() and len(length) <= 9) or int(length) > _MAX_REQUEST_BYTES:
            raise IdentityError(f"a request must state its length, at most {_MAX_REQUEST_BYTES} bytes")
        try:
            held = from_json(self.rfile.read(int(length)))
        except ValueError as error:
            raise IdentityError("the request is not JSON") from error
        return NodeRequest.read(held)
