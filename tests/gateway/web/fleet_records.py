"""Records as a board on a network marks them."""

import hmac
import json
from typing import Any

PLACE = "edgeward/1/test/board"


def marked(secret: bytes, seq: int, boot: str = "b1", **fields: Any) -> bytes:
    head = {"boot": boot, "seq": seq, "model": "d1", "t_us": 7_000_000, "v": 1}
    text = json.dumps({**head, **fields}, separators=(",", ":"))[:-1].encode()
    return text + b',"mac":"' + hmac.new(secret, text, "sha256").hexdigest()[:32].encode() + b'"}'
