"""Clients that mean harm, over plain sockets: what benchmarks/floods.py sends brokers, dashboards and enrolment servers.

Each attack is a function of (host, port, until): it goes on until `until()` says that it is over, and closes what it opened.
"""

import contextlib
import json
import selectors
import socket
import ssl
import struct
import threading
import time
from typing import Callable, Dict, Iterator, List

Until = Callable[[], bool]

HUGE = b"\xff\xff\xff\x7f"
"""The largest length a packet of MQTT can announce: 256 MiB less one byte."""


def connect_packet(name: str, keep_alive_s: int = 0, clean: bool = True) -> bytes:
    body = b"\x00\x04MQTT\x04" + bytes([2 if clean else 0]) + struct.pack("!H", keep_alive_s) + _text(name)
    return b"\x10" + _length(len(body)) + body


def subscribe_packet(topics: List[str], qos: int = 0) -> bytes:
    body = b"\x00\x01" + b"".join(_text(topic) + bytes([qos]) for topic in topics)
    return b"\x82" + _length(len(body)) + body


def publish_packet(topic: str, payload: bytes, qos: int = 0, retain: bool = False, number: int = 1) -> bytes:
    body = _text(topic) + (struct.pack("!H", number) if qos else b"") + payload
    return bytes([0x30 | qos << 1 | retain]) + _length(len(body)) + body


def _text(text: str) -> bytes:
    return struct.pack("!H", len(text.encode())) + text.encode()


def _length(size: int) -> bytes:
    encoded = b""
    while True:
        size, digit = divmod(size, 128)
        encoded += bytes([digit | (0x80 if size else 0)])
        if not size:
            return encoded


class Crowd:
    """Connections that each send what a generator yields, as fast as the other end reads it; answers are thrown away.

    A connection that ends is opened again at most every `again_s` seconds.
    """

    def __init__(
        self, host: str, port: int, count: int, sends: Callable[[int], Iterator[bytes]], again_s: float = 0.5
    ) -> None:
        """`sends` gets the number of the connection. With addresses in `self.sources` each comes from one of these."""
        self._address, self._sends, self._again_s = (host, port), sends, again_s
        self.sources: List[str] = []
        self.answers: Dict[str, int] = {}  # of HTTP: status -> how often
        self._selector = selectors.DefaultSelector()
        self._due: Dict[int, float] = dict.fromkeys(range(count), 0.0)
        self._left: Dict[socket.socket, bytes] = {}
        self._streams: Dict[socket.socket, Iterator[bytes]] = {}
        self.reads = True
        self.opened = self.ended = self.sent_bytes = 0

    def run(self, until: Until) -> None:
        while not until():
            self._open()
            for key, mask in self._selector.select(0.05):
                self._serve(key.data, key.fileobj, mask)  # type: ignore[arg-type]
        for link in list(self._streams):
            self._close(link)

    def _open(self) -> None:
        now = time.monotonic()
        for number in [n for n, at in self._due.items() if at <= now][:200]:
            link = socket.socket()
            if not self.reads:
                link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            if self.sources:
                link.bind((self.sources[number % len(self.sources)], 0))
            link.setblocking(False)
            link.connect_ex(self._address)
            self._streams[link], self._left[link] = self._sends(number), b""
            self._selector.register(link, selectors.EVENT_READ | selectors.EVENT_WRITE, number)
            del self._due[number]
            self.opened += 1

    def _serve(self, number: int, link: socket.socket, mask: int) -> None:
        try:
            if mask & selectors.EVENT_WRITE:
                self._write(number, link)
            if mask & selectors.EVENT_READ and self.reads:
                came = link.recv(65536)
                if not came:
                    raise ConnectionResetError
                if came.startswith(b"HTTP/1.1 "):
                    status = came[9:12].decode()
                    self.answers[status] = self.answers.get(status, 0) + 1
        except BlockingIOError:
            return
        except OSError:
            self.ended += 1
            self._close(link)
            self._due[number] = time.monotonic() + self._again_s

    def _write(self, number: int, link: socket.socket) -> None:
        left = self._left[link] or next(self._streams[link], None)
        if left == b"":  # not yet
            return
        if left is None:  # nothing more to say: only listens, or does not even do that
            events = selectors.EVENT_READ if self.reads else 0
            if events:
                self._selector.modify(link, events, number)
            else:
                self._selector.unregister(link)
            return
        sent = link.send(left)
        self.sent_bytes += sent
        self._left[link] = left[sent:]

    def _close(self, link: socket.socket) -> None:
        with contextlib.suppress(KeyError, ValueError):  # it may only wait
            self._selector.unregister(link)
        del self._streams[link], self._left[link]
        link.close()


# Against a broker


def announced(host: str, port: int, until: Until) -> Crowd:
    """50 packets that announce 256 MB and come: half of them as the first packet, half after a CONNECT."""

    def sends(number: int) -> Iterator[bytes]:
        if number % 2:
            yield connect_packet(f"announced-{number}") + b"\x30" + HUGE + b"\x00\x04floo"
        else:
            yield b"\x10" + HUGE
        while True:
            yield bytes(65536)

    return _run(Crowd(host, port, 50, sends), until)


def deaf(host: str, port: int, until: Until) -> Crowd:
    """20 readers of everything, of QoS 0 and 1, that never read."""

    def sends(number: int) -> Iterator[bytes]:
        yield connect_packet(f"deaf-{number}") + subscribe_packet(["#"], number % 2)

    crowd = Crowd(host, port, 20, sends)
    crowd.reads = False
    return _run(crowd, until)


MALFORMED = (
    b"\x00\x00",  # a reserved type
    b"\xf0\x02\x00\x00",
    b"\x30\xff\xff\xff\xff\xff",  # a length without an end
    b"\x30\x03\xff\xffx",  # a topic longer than its packet
    b"\x30\x05\x00\x03a/\xff",  # no UTF-8
    b"\x36\x05\x00\x01t\x00\x01",  # QoS 3
    b"\x82\x02\x00\x01",  # no filter
    b"\x82\x06\x00\x01\x00\x09#/",
    b"\x62\x00",
    b"\x40\x00",
    b"\x40\x02\x12\x34",  # an acknowledgement of nothing
    b"\x10\x02\x00\x00",  # a second CONNECT
    b"\x30\x05\x00\x03a/#",  # a wildcard to publish to
)


def malformed(host: str, port: int, until: Until) -> Crowd:
    """Ten connections that send packets which are none, as fast as they are read."""

    def sends(number: int) -> Iterator[bytes]:
        yield connect_packet(f"malformed-{number}")
        for kind in range(number, 10**9):
            yield MALFORMED[kind % len(MALFORMED)] * 500

    return _run(Crowd(host, port, 10, sends, again_s=0.0), until)


def silent(host: str, port: int, until: Until, count: int = 1100) -> Crowd:
    """1,100 connections that never send a whole CONNECT."""

    def sends(number: int) -> Iterator[bytes]:
        if number % 2:
            yield connect_packet(f"silent-{number}")[:9]

    return _run(Crowd(host, port, count, sends), until)


def publisher(host: str, port: int, until: Until) -> Crowd:
    """Four connections that publish 256 KiB at a time to a topic the gateway reads."""

    def sends(number: int) -> Iterator[bytes]:
        yield connect_packet(f"publisher-{number}")
        packet = publish_packet(f"edgeward/1/benchmark/node/flood-{number}/up", bytes(256 << 10))
        while True:
            yield packet

    return _run(Crowd(host, port, 4, sends), until)


def unreleased(host: str, port: int, until: Until) -> Crowd:
    """Two connections that publish at QoS 2 and never release, and two that never acknowledge what they read."""

    def sends(number: int) -> Iterator[bytes]:
        yield connect_packet(f"unreleased-{number}")
        if number % 2:
            yield subscribe_packet(["#"], 1)
            return
        for message in range(1, 10**9):
            yield publish_packet("t", bytes(64 << 10), 2, number=message % 65535 + 1)

    return _run(Crowd(host, port, 4, sends), until)


def subscriptions(host: str, port: int, until: Until) -> Crowd:
    """Four connections that subscribe to ever more filters, and leave a retained message on ever more topics."""

    def sends(number: int) -> Iterator[bytes]:
        yield connect_packet(f"subscriptions-{number}")
        for part in range(10**9):
            if number % 2:
                yield subscribe_packet([f"f/{number}/{part}/{i}/+" for i in range(100)])
            else:
                yield publish_packet(f"r/{number}/{part}", bytes(4096), retain=True)

    return _run(Crowd(host, port, 4, sends), until)


def connects(host: str, port: int, until: Until) -> Crowd:
    """50 clients that connect, say something and go, again and again."""

    def sends(number: int) -> Iterator[bytes]:
        yield connect_packet(f"connects-{number}-{time.monotonic_ns()}") + publish_packet("t", b"x") + b"\xe0\x00"

    return _run(Crowd(host, port, 50, sends, again_s=0.0), until)


def _run(crowd: Crowd, until: Until) -> Crowd:
    crowd.run(until)
    return crowd


BROKER_ATTACKS = {
    "announced packets": announced,
    "deaf readers": deaf,
    "malformed packets": malformed,
    "silent connections": silent,
    "publishers": publisher,
    "unreleased messages": unreleased,
    "subscriptions": subscriptions,
    "connects": connects,
}


# Against a dashboard


def _request(path: str, body: bytes = b"", more: str = "") -> bytes:
    head = f"{'POST' if body else 'GET'} {path} HTTP/1.1\r\nHost: localhost\r\n{more}"
    if body:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return f"{head}\r\n".encode() + body


GUESS = _request("/api/login", b'{"password": "wrong guess"}', "Connection: close\r\n")


def held_guesses(host: str, port: int, until: Until) -> Crowd:
    """190 guesses whose last byte is held back until all others are there."""
    whole = time.monotonic() + 3

    def sends(number: int) -> Iterator[bytes]:
        yield GUESS[:-1]
        while time.monotonic() < whole:
            yield b""
        yield GUESS[-1:]

    return _run(Crowd(host, port, 190, sends, again_s=3600), until)


def guesses(host: str, port: int, until: Until) -> Crowd:
    """50 connections that guess, again and again."""
    return _run(Crowd(host, port, 50, lambda number: iter([GUESS]), again_s=0.0), until)


def many_guess(host: str, port: int, until: Until) -> Crowd:
    """The same from 200 addresses."""
    crowd = Crowd(host, port, 200, lambda number: iter([GUESS]), again_s=0.0)
    crowd.sources = [f"127.0.1.{i}" for i in range(1, 201)]
    return _run(crowd, until)


def half_requests(host: str, port: int, until: Until) -> Crowd:
    """200 requests without an end."""
    return _run(Crowd(host, port, 200, lambda number: iter([_request("/healthz")[:-9]])), until)


def half_after_whole(host: str, port: int, until: Until) -> Crowd:
    """600 connections that ask once and then for half of something."""
    return _run(Crowd(host, port, 600, lambda number: iter([_request("/healthz"), _request("/healthz")[:-9]])), until)


def held_bodies(host: str, port: int, until: Until) -> Crowd:
    """600 logins whose bodies never come."""
    return _run(Crowd(host, port, 600, lambda number: iter([GUESS[:-5]])), until)


def nothing(host: str, port: int, until: Until) -> Crowd:
    """1,100 connections that say nothing."""
    return _run(Crowd(host, port, 1100, lambda number: iter([])), until)


def unread(host: str, port: int, until: Until) -> Crowd:
    """100 connections that ask for the largest page without end and read nothing."""

    def sends(number: int) -> Iterator[bytes]:
        while True:
            yield _request("/static/app.js") * 50

    crowd = Crowd(host, port, 100, sends)
    crowd.reads = False
    return _run(crowd, until)


DASHBOARD_ATTACKS = {
    "held guesses": held_guesses,
    "guesses": guesses,
    "guesses of 200 addresses": many_guess,
    "half requests": half_requests,
    "half after whole requests": half_after_whole,
    "held bodies": held_bodies,
    "silent browsers": nothing,
    "unread answers": unread,
}


# Against an enrolment server


def strangers(host: str, port: int, until: Until) -> Dict[str, int]:
    """Four that ask with invented tokens, 30 that trickle a request, and one that opens connections and says nothing."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    count = {"refused": 0, "lost": 0}
    body = json.dumps({"name": "x" * 60, "secret": "y" * 30_000, "request": "z"}).encode()

    def ask() -> None:
        while not until():
            try:
                with context.wrap_socket(socket.create_connection((host, port), timeout=5)) as link:
                    link.sendall(b"POST /enroll HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
                    count["refused"] += link.recv(12).endswith(b"403")
            except OSError:
                count["lost"] += 1

    def trickle() -> None:
        while not until():
            with contextlib.suppress(OSError):
                link = context.wrap_socket(socket.create_connection((host, port), timeout=5))
                link.sendall(b"POST /enroll HTTP/1.0\r\nContent-Length: 1000\r\n\r\n")
                while not until():
                    link.sendall(b"x")
                    time.sleep(0.5)

    def say_nothing() -> None:
        held = []
        while not until():
            with contextlib.suppress(OSError):
                held.append(socket.create_connection((host, port), timeout=5))
            time.sleep(0.02)

    threads = [threading.Thread(target=each) for each in [ask] * 4 + [trickle] * 30 + [say_nothing]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return count
