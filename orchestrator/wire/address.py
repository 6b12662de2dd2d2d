"""Where a broker is, by what name and how secured one connects to it, and what a connection carried."""

import hashlib
import os
import secrets
import socket
import ssl
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Optional, Tuple, Type, TypeVar
from urllib.parse import SplitResult, parse_qs, urlsplit

from orchestrator.errors import BrokerError, UsageError
from orchestrator.wire.bounds import host_name, near
from orchestrator.wire.pem import authorities
from orchestrator.wire.plain import plain
from orchestrator.wire.secrets_file import read_secret

A = TypeVar("A", bound="Address")


@dataclass(frozen=True)
class Address:
    """`mqtt://[user[:password]@]host[:port][?password_file=/path]`, or `mqtts://` for TLS with the system's or a given CA."""

    host: str
    port: int
    tls: bool = False
    username: Optional[str] = None
    password: Optional[str] = None
    ca_file: Optional[str] = None
    cert_file: Optional[str] = None
    key_file: Optional[str] = None

    def secured(self: A, ca_file: str, cert_file: str, key_file: str) -> A:
        """The same place over TLS, with a certificate of our own."""
        return replace(self, tls=True, ca_file=ca_file, cert_file=cert_file, key_file=key_file)

    @classmethod
    def parse(cls: Type[A], url: str, ca_file: Optional[str] = None) -> A:
        parts = urlsplit(url if "://" in url else f"mqtt://{url}")
        try:
            port = parts.port
        except ValueError as error:
            raise UsageError(f"broker address {url!r}: {error}") from error
        if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or host_name("host", parts.hostname):
            meant = near(parts.scheme, ("mqtt", "mqtts")) if parts.scheme not in ("mqtt", "mqtts") else ""
            raise UsageError(f"broker address {url!r}: expected mqtt://HOST[:PORT] or mqtts://HOST[:PORT]{meant}")
        tls = parts.scheme == "mqtts"
        password = _password(parts)
        check_ca(ca_file)
        return cls(parts.hostname, port or (8883 if tls else 1883), tls, parts.username, password, ca_file)

    def __str__(self) -> str:
        return f"{'mqtts' if self.tls else 'mqtt'}://{self.host}:{self.port}"


def check_ca(ca_file: Optional[str]) -> None:
    """Raises UsageError where a file, if one is named, has no certificate (PEM) to check a broker's by."""
    if ca_file is not None:
        authorities(Path(ca_file))


def _password(parts: SplitResult) -> Optional[str]:
    """The one in the address, or in the file it names; without a scheme the address never gets here."""
    try:
        options = parse_qs(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query), max_num_fields=1)
    except ValueError as error:
        raise UsageError(f"broker address: after '?' only password_file=/PATH is known: {plain(error)}") from error
    if parts.path.strip("/") or parts.fragment or set(options) - {"password_file"}:
        raise UsageError("broker address: after the port only ?password_file=/PATH is known")
    if not options:
        return parts.password
    (name,) = options["password_file"]
    if parts.username is None or parts.password is not None or not os.path.isabs(name):
        raise UsageError("broker address: password_file goes with a user and no password, and is a whole path: /...")
    return read_secret(name, "password of the broker")


def tls_context(address: Address) -> ssl.SSLContext:
    """What a connection to an `mqtts://` address is made with; BrokerError where its files cannot be used."""
    try:
        context = ssl.create_default_context(cafile=address.ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if address.cert_file is not None:
            context.load_cert_chain(address.cert_file, address.key_file)
    except OSError as error:  # ssl.SSLError is one
        files = ", ".join(filter(None, (address.ca_file, address.cert_file, address.key_file)))
        raise BrokerError(f"{address}: these certificates and keys cannot be used: {files}: {error}") from error
    return context


def client_id(what: str, secret: Optional[bytes] = None) -> str:
    """A name for a connection that nobody else can guess: who connects under a name in use throws its owner out.

    With a secret of the owner's it is the same every time, so that the broker ends what is left of the connection before.
    """
    unknown = secrets.token_hex(8) if secret is None else hashlib.sha256(b"client" + secret).hexdigest()[:16]
    return f"edgeward-{what}-{unknown}"


def tcp_bytes(sock: Any) -> Tuple[int, int]:
    """(sent and acknowledged, received) payload bytes of a TCP socket, from Linux's `struct tcp_info`.

    Offsets of tcpi_bytes_acked and tcpi_bytes_received: 120 and 128 (linux/tcp.h, since Linux 4.1).
    """
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192)
    if len(info) < 136:
        return 0, 0
    acked, received = struct.unpack_from("=QQ", info, 120)
    return acked, received
