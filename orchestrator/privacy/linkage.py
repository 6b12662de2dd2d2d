"""Persons that two hospitals both have, found without showing the others: private set intersection by Diffie-Hellman on X25519.

Each identifier is hashed to a u-coordinate of Curve25519, multiplied by the secret scalar of one side and then of the other; what
is the same after both was the same before (Meadows 1986; Huberman, Franklin and Hogg 1999). A hash is tried with a counter until
it is on the curve and not on its twist, which would show a bit of it. How often it is tried depends on the identifier, on its own
side.

Two files go from hand to hand. Of parties that follow it, the asked side learns how many identifiers the asking one has; the
asking side how many are shared and, where the asked side says so, which of its own. A party that lies can put in identifiers it
guesses, so small sets are refused.
"""

import hashlib
import json
import secrets
from itertools import count
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Sequence, Set

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from orchestrator.errors import DataError
from orchestrator.wire.special_files import open_file

VERSION = 1
MOST_POINTS = 1_000_000
MOST_BYTES = 80 * MOST_POINTS
LEAST = 10
"""Identifiers of a side: fewer ask for single persons."""

Progress = Callable[[int, int], None]
"""(how many of, how many) points are done."""


def new_key() -> bytes:
    """The secret of one side, for one exchange."""
    return X25519PrivateKey.generate().private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())


_P, _A = (1 << 255) - 19, 486662


def hashed(values: Sequence[str], study: str) -> List[bytes]:
    """The u-coordinate of each; study: the same on both sides, so that nothing fits points of another one."""
    return [_on_curve(b"edgeward link 1\0" + study.encode() + b"\0" + value.encode()) for value in values]


def _on_curve(text: bytes) -> bytes:
    """The first hash that is the u-coordinate of a point: u^3 + A u^2 + u is a square (RFC 7748, section 4.1)."""
    for counter in count():
        digest = hashlib.sha256(counter.to_bytes(4, "big") + text).digest()
        u = int.from_bytes(digest, "little") & ((1 << 255) - 1)
        if pow(u * (u * (u + _A) + 1) % _P, (_P - 1) // 2, _P) == 1:
            return u.to_bytes(32, "little")
    raise RuntimeError("half of all hashes are")


def raised(points: Sequence[bytes], key: bytes, progress: Progress) -> List[bytes]:
    """Each point times the scalar of `key`. DataError for one of small order, which hides nothing and says that somebody lies."""
    scalar, found = X25519PrivateKey.from_private_bytes(key), []
    for number, point in enumerate(points, 1):
        try:
            found.append(scalar.exchange(X25519PublicKey.from_public_bytes(point)))
        except ValueError as error:
            raise DataError(f"point {number}: of small order; who made it does not follow the protocol") from error
        progress(number, len(points))
    return found


def shuffled(points: Sequence[bytes]) -> List[bytes]:
    """In an order that says nothing: their own."""
    return sorted(points)


def question(identifiers: Sequence[str], key: bytes, study: str, progress: Progress) -> Dict[str, Any]:
    """What the asking side gives away: its points, multiplied once. Their order is that of `order_of`, known to it alone."""
    _enough(len(identifiers), "this table")
    points = raised(hashed(identifiers, study), key, progress)
    return {"step": "question", "study": study, "session": secrets.token_hex(16), "points": shuffled(points)}


def order_of(identifiers: Sequence[str], key: bytes, study: str, progress: Progress) -> List[int]:
    """Which identifier stands at each place of one's own question."""
    points = raised(hashed(identifiers, study), key, progress)
    return sorted(range(len(points)), key=points.__getitem__)


def answer(
    asked: Dict[str, Any], identifiers: Sequence[str], study: str, which: bool, progress: Progress
) -> Dict[str, Any]:
    """What the asked side gives away. which: the asking side may learn which of its own are shared, not only how many."""
    _of(asked, "question", study)
    _enough(len(asked["points"]), "the question")
    _enough(len(identifiers), "this table")
    key, total = new_key(), len(asked["points"]) + len(identifiers)
    twice = raised(asked["points"], key, lambda done, _: progress(done, total))
    done = len(twice)
    own = raised(hashed(identifiers, study), key, lambda more, _: progress(done + more, total))
    return {
        "step": "answer",
        "study": study,
        "session": asked["session"],
        "which": which,
        "twice": twice if which else shuffled(twice),
        "points": shuffled(own),
    }


class Shared(NamedTuple):
    """asking, asked: how many identifiers each side has; both: how many are shared; places: which of the asking side's, by their
    place in the question; empty where it may not know."""

    asking: int
    asked: int
    both: int
    places: List[int]


def compared(asked: Dict[str, Any], answered: Dict[str, Any], key: bytes, progress: Progress) -> Shared:
    """What the asking side learns. DataError where the answer is not to its question."""
    _of(answered, "answer", str(asked["study"]))
    if answered["session"] != asked["session"] or len(answered["twice"]) != len(asked["points"]):
        raise DataError("the answer is to another question")
    others: Set[bytes] = set(raised(answered["points"], key, progress))
    places = [place for place, point in enumerate(answered["twice"]) if point in others]
    return Shared(len(asked["points"]), len(others), len(places), places if answered["which"] else [])


_ONE = {"question": "a question", "answer": "an answer"}


def _of(said: Dict[str, Any], step: str, study: str) -> None:
    if said["step"] != step:
        raise DataError(f"this is the file of {_ONE[said['step']]}, and that of {_ONE[step]} is expected")
    if said["study"] != study:
        raise DataError(f"the file is of study {said['study'][:60]!r}, and not of {study!r}")


def _enough(count: int, what: str) -> None:
    if not LEAST <= count <= MOST_POINTS:
        raise DataError(
            f"{what} has {count} identifiers, expected {LEAST} to {MOST_POINTS}: fewer ask for single persons"
        )


_POINTS, _TEXTS = ("points", "twice"), ("step", "study", "session")


def written(said: Dict[str, Any]) -> bytes:
    """A file that goes to the other side."""
    plain = {name: [point.hex() for point in value] if name in _POINTS else value for name, value in said.items()}
    return json.dumps({"edgeward_link": VERSION, **plain}).encode() + b"\n"


def read(path: Path) -> Dict[str, Any]:
    """A file of the other side, or one's own. DataError for anything else."""
    try:
        with open_file(path) as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
    try:
        said = json.loads(content) if len(content) <= MOST_BYTES else None
        if not isinstance(said, dict) or said.get("edgeward_link") != VERSION or not _shaped(said):
            raise ValueError("another shape")
        return {n: [bytes.fromhex(each) for each in v] if n in _POINTS else v for n, v in said.items()}
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: no file of `edgeward link`, or a damaged one") from error


def _shaped(said: Dict[str, Any]) -> bool:
    texts = all(isinstance(said.get(name), str) and said[name].isprintable() for name in _TEXTS)
    lists = [said[name] for name in _POINTS if name in said]
    needed = {"question": {"points"}, "answer": {"points", "twice", "which"}}.get(str(said.get("step")), {"?"})
    return (
        texts
        and needed <= set(said)
        and isinstance(said.get("which", False), bool)
        and all(isinstance(each, list) and len(each) <= MOST_POINTS for each in lists)
        and all(isinstance(point, str) and len(point) == 64 for each in lists for point in each)
    )
