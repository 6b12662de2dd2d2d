"""The dashboard's password and the token of its metrics: hashes in OUT/dashboard-login.json, readable by the owner alone.

scrypt with N = 2^13, r = 8, p = 10: 8 MiB for one try, of the strength OWASP's password storage cheat sheet recommends.
"""

import base64
import hashlib
import hmac
import json
import secrets
import stat
import threading
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

from orchestrator.errors import EdgewardError, UsageError
from orchestrator.files import replace_file
from orchestrator.wire.json_text import from_json
from orchestrator.wire.plain import plain

FILE_NAME = "dashboard-login.json"
LEAST_CHARACTERS = 10
_DIGEST = "digest"
_COST = {"n": 2**13, "r": 8, "p": 10}
_MAX_MEMORY = 64 << 20
_MOST_BYTES = 64 << 10
_AGAIN = "remove it and `edgeward gateway password` makes it again; until then nobody is let in"
_LOST = (
    "is gone, and there was a password in it; `edgeward gateway password` makes it again, until then nobody is let in"
)
_one_at_a_time = threading.Lock()


class Login:
    """What the file says, read again when it changes, so that a new password counts at once.

    A file that is damaged, or lost after there was a password, opens nothing: EdgewardError says how to make it again.
    """

    def __init__(self, out: Path, needed: bool = False) -> None:
        """needed: there was a password, as far as the caller knows."""
        self._path = out / FILE_NAME
        self._read_at: Optional[Tuple[int, int, int]] = None
        self._data: Dict[str, Any] = {}
        self._was_configured = needed

    @property
    def configured(self) -> bool:
        """Whether there is a password. EdgewardError where the file is damaged or lost."""
        found = "password" in self._load()
        if self._was_configured and not found:
            raise EdgewardError(f"{self._path}: {_LOST}")
        self._was_configured = found
        return found

    @property
    def needed(self) -> bool:
        """`configured`, or the file says nothing that can be used: then nobody is let in."""
        try:
            return self.configured
        except EdgewardError:
            return True

    @property
    def key(self) -> bytes:
        """A secret that changes with the password and with nothing else; empty without one."""
        try:
            stored = self._load().get("password")
        except EdgewardError:
            return b""
        return b"" if stored is None else base64.b64decode(stored["hash"])

    @property
    def version(self) -> str:
        """Another text after every change of the password; a token for metrics changes nothing."""
        return json.dumps(self._load().get("password"), sort_keys=True)

    def accepts(self, password: str) -> bool:
        stored = self._load().get("password")
        if stored is None:
            return False
        with _one_at_a_time:  # memory for one try, however many come
            found = _scrypt(password, base64.b64decode(stored["salt"]), stored["n"], stored["r"], stored["p"])
        return hmac.compare_digest(found, base64.b64decode(stored["hash"]))

    def accepts_token(self, token: str) -> bool:
        stored = self._load().get("metrics_token_sha256")
        return isinstance(stored, str) and hmac.compare_digest(_digest(token), stored)

    def set_password(self, password: str) -> None:
        """Raises UsageError for one that is too short."""
        if len(password) < LEAST_CHARACTERS:
            raise UsageError(f"a password of {len(password)} characters: at least {LEAST_CHARACTERS} are needed")
        salt = secrets.token_bytes(16)
        hashed = _scrypt(password, salt, **_COST)
        entry = {**_COST, "salt": base64.b64encode(salt).decode(), "hash": base64.b64encode(hashed).decode()}
        self._write({**self._load(), "password": entry})

    def new_token(self) -> str:
        """Draws the token for `Authorization: Bearer`; only its hash is kept."""
        token = secrets.token_urlsafe(32)
        self._write({**self._load(), "metrics_token_sha256": _digest(token)})
        return token

    def _load(self) -> Dict[str, Any]:
        try:
            status = self._path.stat()
            changed = status.st_mtime_ns, status.st_size, status.st_ino
        except OSError as error:
            if isinstance(error, FileNotFoundError) and not self._path.is_symlink():
                self._read_at, self._data = None, {}
                return self._data
            raise EdgewardError(f"{self._path}: {plain(error, 200)}; {_AGAIN}") from error
        if changed != self._read_at:
            if not stat.S_ISREG(status.st_mode) or status.st_size > _MOST_BYTES:
                raise EdgewardError(f"{self._path}: is no login file; {_AGAIN}")
            try:
                data = from_json(self._path.read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise EdgewardError(f"{self._path}: {plain(error, 200)}; {_AGAIN}") from error
            if not _whole(data):
                raise EdgewardError(f"{self._path}: is damaged; {_AGAIN}")
            self._read_at, self._data = changed, data
        return self._data

    def _write(self, data: Dict[str, Any]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        written = {name: value for name, value in data.items() if name != _DIGEST}
        replace_file(self._path, json.dumps({**written, _DIGEST: _digest_of(written)}).encode(), 0o600)


def _scrypt(password: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    text = password.encode("utf-8", "surrogatepass")
    return hashlib.scrypt(text, salt=salt, n=n, r=r, p=p, maxmem=_MAX_MEMORY, dklen=32)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _digest_of(data: Dict[str, Any]) -> str:
    """Of what the file says, against disks: anyone who can write the file can write this as well."""
    return _digest(json.dumps(data, sort_keys=True))


def _whole(data: Any) -> bool:
    """Whether the file is one of ours, as it was written: a password's hash, a token's, or both.

    An empty table does not say "open". Files of earlier versions have no digest.
    """
    if not isinstance(data, dict):
        return False
    data = dict(data)
    digest = data.pop(_DIGEST, None)
    if not data or set(data) - {"password", "metrics_token_sha256"} or digest not in (None, _digest_of(data)):
        return False
    token = data.get("metrics_token_sha256", "0" * 64)
    return isinstance(token, str) and len(token) == 64 and ("password" not in data or _whole_hash(data["password"]))


def _whole_hash(stored: Any) -> bool:
    if not isinstance(stored, dict) or {name: stored.get(name) for name in _COST} != _COST:
        return False
    try:
        return min(len(base64.b64decode(stored[name], validate=True)) for name in ("salt", "hash")) >= 16
    except (KeyError, TypeError, ValueError):
        return False
