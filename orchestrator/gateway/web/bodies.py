"""The body of a request that changes something: one small JSON object, and no waiting for those who hold it back."""

import asyncio
from typing import Any, Dict, Optional

from starlette.requests import ClientDisconnect, Request

from orchestrator.wire.json_text import from_json

MOST_BODY_BYTES = 4096
BODY_S = 20.0
"""A body has come by then, or is not waited for."""


async def json_body(request: Request) -> Optional[Dict[str, Any]]:
    """The object in the body; None for anything else, and for bodies that are too long or held back."""
    try:
        found = from_json(await asyncio.wait_for(_body(request), BODY_S))
    except (ValueError, asyncio.TimeoutError, ClientDisconnect):
        return None
    return found if isinstance(found, dict) else None


async def _body(request: Request) -> bytes:
    """ValueError for one that is too long."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MOST_BODY_BYTES:
            raise ValueError("too long")
    return body
