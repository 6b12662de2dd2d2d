"""The files of static/, read once, and as small as they get on the way: most of a first view would be their text."""

import gzip
import hashlib
from pathlib import Path
from typing import Dict, Mapping, NamedTuple

from starlette.requests import Request
from starlette.responses import Response

STATIC = Path(__file__).parent / "static"
_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


class StaticFile(NamedTuple):
    body: bytes
    packed: bytes
    kind: str

    def response(self, request: Request, **headers: str) -> Response:
        """Packed for who takes that. Nothing secret is in these files, so their length may be known."""
        takes = {part.split(";")[0].strip() for part in request.headers.get("accept-encoding", "").split(",")}
        every = {"Vary": "Accept-Encoding", **headers}
        if "gzip" not in takes:
            return Response(self.body, media_type=self.kind, headers=every)
        return Response(self.packed, media_type=self.kind, headers={**every, "Content-Encoding": "gzip"})


def read_static() -> Dict[str, StaticFile]:
    """name -> file."""
    bodies = {path: path.read_bytes() for path in STATIC.iterdir() if path.suffix in _TYPES}
    return {
        path.name: StaticFile(body, gzip.compress(body, 9, mtime=0), _TYPES[path.suffix])
        for path, body in bodies.items()
    }


def version_of(files: Mapping[str, StaticFile]) -> str:
    """Another one for other files: a page that is open tells by it that the dashboard was updated."""
    found = hashlib.sha256()
    for name in sorted(files):
        found.update(f"{name} {len(files[name].body)}\n".encode() + files[name].body)
    return found.hexdigest()[:16]
