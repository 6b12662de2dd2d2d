"""The token of an invitation: one line to paste. Where to go, which authority to trust, and a secret."""

import base64
import binascii
import json
from dataclasses import asdict, dataclass

from orchestrator.errors import IdentityError
from orchestrator.wire.json_text import from_json

_PREFIX = "EW1."


@dataclass(frozen=True)
class Token:
    gateway: str  # https://HOST:PORT; a hint, another may be given
    ca: str  # SHA-256 of the authority's certificate, hex
    federation: str
    name: str
    secret: str

    def __str__(self) -> str:
        return _PREFIX + base64.urlsafe_b64encode(json.dumps(asdict(self)).encode()).decode().rstrip("=")

    @classmethod
    def parse(cls, text: str) -> "Token":
        """Raises IdentityError for what is not a whole token."""
        text = text.strip()
        try:
            if not text.startswith(_PREFIX):
                raise ValueError(f"it does not begin with {_PREFIX}")
            data = text[len(_PREFIX) :]
            fields = from_json(base64.urlsafe_b64decode(data + "=" * (-len(data) % 4)))
            if not isinstance(fields, dict) or not all(isinstance(v, str) for v in fields.values()):
                raise ValueError("it holds something else")
            return cls(**fields)
        except (ValueError, TypeError, binascii.Error) as error:
            raise IdentityError(f"this is not a whole token of `edgeward gateway invite`: {error}") from error
