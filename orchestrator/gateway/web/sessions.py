"""Who is logged in, and how often somebody may try: both in memory, so a restart logs everybody out."""

import hashlib
import ipaddress
import secrets
import time
from typing import Callable, Dict, List, Tuple

SESSION_S = 12 * 3600.0
_MOST_SESSIONS = 1000
FREE_TRIES = 5
"""Failures of one address, each checked at once. From then on one try of it is checked every PAUSE_S."""
PAUSE_S = 4.0
"""Short enough for somebody who has the password and shares an address with a guesser; 21,600 guesses a day."""
_FORGIVEN_S = 3600.0
_MOST_ADDRESSES = 10_000
TRIES_A_MINUTE = 60
"""Failures of all addresses together, beyond which each has one that is checked at once: against guessing from many of them."""


class Sessions:
    """Random tokens of 256 bits; kept as hashes, until they expire."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._ends: Dict[str, float] = {}

    def begin(self) -> str:
        self._drop_expired()
        if len(self._ends) >= _MOST_SESSIONS:
            self._ends.pop(min(self._ends, key=lambda token: self._ends[token]))
        token = secrets.token_urlsafe(32)
        self._ends[_hash(token)] = self._now() + SESSION_S
        return token

    def valid(self, token: str) -> bool:
        return self._ends.get(_hash(token), 0.0) > self._now()

    def end(self, token: str) -> None:
        self._ends.pop(_hash(token), None)

    def end_all(self) -> None:
        self._ends.clear()

    def _drop_expired(self) -> None:
        now = self._now()
        self._ends = {token: end for token, end in self._ends.items() if end > now}


class TryLimit:
    """After FREE_TRIES failures an address waits PAUSE_S from one try to the next; a success forgives it."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._failures: Dict[str, Tuple[int, float]] = {}  # address -> (count, last)
        self._recent: List[float] = []

    def wait_s(self, address: str, known: bool = False) -> float:
        """Seconds until a try of this address may be checked; 0 when it may now.

        known: the name of a browser that logged in before. What strangers do together is not held against it, and against an
        address that has not failed yet neither: who has the password gets in with the first try.
        """
        if not self.over(address, known):
            return 0.0
        return max(0.0, self._failures[address][1] + PAUSE_S - self._now())

    def over(self, address: str, known: bool = False) -> bool:
        """Whether this address has had the tries that are checked at once."""
        now = self._now()
        self._recent = [at for at in self._recent if now - at < 60.0]
        free = FREE_TRIES if known or len(self._recent) < TRIES_A_MINUTE else 1
        count, last = self._failures.get(address, (0, 0.0))
        return count >= free and now - last <= _FORGIVEN_S

    def failed(self, address: str, known: bool = False) -> None:
        now = self._now()
        count, last = self._failures.pop(address, (0, 0.0))
        if len(self._failures) >= _MOST_ADDRESSES:
            self._failures.pop(next(iter(self._failures)))
        self._failures[address] = (1 if now - last > _FORGIVEN_S else count + 1, now)
        if not known:
            self._recent.append(now)

    def succeeded(self, address: str) -> None:
        self._failures.pop(address, None)


def address_of(host: str) -> str:
    """Under which address the tries of a host count: in IPv6 all of its network of 64 bits, which one machine usually has."""
    try:
        found = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if found.version == 4:
        return str(found)
    return str(found.ipv4_mapped or ipaddress.ip_network((found, 64), strict=False))


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
