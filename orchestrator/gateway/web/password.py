"""The dashboard's password and the token of its metrics: hashes in OUT/dashboard-login.json, readable by the owner alone.

scrypt with N = 2^13, r = 8, p = 10: 8 MiB for one try, of the strength OWASP's password storage cheat sheet recommends.
"""

import base64
import hashlib
import hmac
import json
import os
import secrets
import threading
from pathlib import Path
from typing import Any, Dict, Optional

from orchestrator.errors import EdgewardError, UsageError

FILE_NAME = "dashboard-login.json"
LEAST_CHARACTERS = 10
_COST = {"n": 2**13, "r": 8, "p": 10}
_MAX_MEMORY = 64 << 20
_one_at_a_time = threading.Lock()


class Login:
    """What the file says, read again when it changes, so that a new password counts at once."""

    def __init__(self, out: Path) -> None:
        self._path = out / FILE_NAME
        self._read_at: Optional[int] = None
        self._data: Dict[str, Any] = {}

    @property
    def configured(self) -> bool:
        return "password" in self._load()

    @property
    def version(self) -> Optional[int]:
        """Another number after every change of the file."""
        self._load()
        return self._read_at

    def accepts(self, password: str) -> bool:
        stored = self._load().get("password")
        if not isinstance(stored, dict):
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
            changed = self._path.stat().st_mtime_ns
        except FileNotFoundError:
            self._read_at, self._data = None, {}
            return self._data
        if changed != self._read_at:
            try:
                data = json.loads(self._path.read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise EdgewardError(f"{self._path}: {error}; `edgeward gateway password` makes it again") from error
            self._read_at, self._data = changed, data if isinstance(data, dict) else {}
        return self._data

    def _write(self, data: Dict[str, Any]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_suffix(f".{secrets.token_hex(4)}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(data, file)
        os.replace(temporary, self._path)


def _scrypt(password: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=n, r=r, p=p, maxmem=_MAX_MEMORY, dklen=32)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
