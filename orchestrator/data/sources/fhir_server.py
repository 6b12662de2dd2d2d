"""The resources of a FHIR R4 server: its search, page by page (hl7.org/fhir/R4/search.html, http.html#paging).

A server may be wrong or lie: where it leads, how much it sends and how long it takes are bounded. Redirects are not followed, no
proxy is used, and the token goes to the server's own address only.
"""

import http.client
import io
import re
import socket
import ssl
import time
from functools import partial
from typing import Any, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple
from urllib.parse import SplitResult, urljoin, urlsplit

from orchestrator.data.cells import shown
from orchestrator.data.sources.fhir_folder import Found
from orchestrator.data.sources.fhir_values import Resource, listed, parsed, table, word

MOST_PAGE_BYTES = 1 << 24
_MOST_URL = 1 << 14
_CHUNK = 1 << 16
WAITS_S = (1.0, 5.0, 20.0)
"""Before a page is asked for again, where the server said that it is busy."""
_BUSY = (429, 502, 503, 504)
_WRONG = {
    401: "asks who is asking; `token` names the file with a bearer token",
    403: "does not let this token read that",
    404: "has no such search; is `server` the base address of its FHIR R4 interface?",
}


class ServerError(OSError):
    """What a server answered, or that it did not: another time it may be otherwise."""


class Server(NamedTuple):
    base: str  # without a slash at its end
    token: str  # "" for none
    trusted: Optional[ssl.SSLContext]  # of https
    timeout_s: float  # for a whole page, however slowly it comes
    pages: int  # of one search, at most

    def found(self, kind: str, query: str) -> Iterator[Found]:
        """All resources of a type that a search finds. Raises ServerError."""
        url, number = f"{self.base}/{kind}?{query}", 0
        seen: Set[str] = set()
        for page in range(1, self.pages + 1):
            if url in seen:
                raise ServerError(f"{_brief(url)}: its `next` leads back to a page that was read; its paging is broken")
            seen.add(url)
            bundle = self._page(url)
            try:
                for found in _entries(bundle, kind, page, number):
                    number = found.number
                    yield found
                following = _next(bundle)
            except ValueError as error:
                raise ServerError(f"{_brief(url)}: {error}") from error
            if not following:
                return
            url = self._same_origin(url, following)
        raise ServerError(f"{self.base}/{kind}: more than {self.pages} pages; raise `pages` if there are so many")

    def _same_origin(self, url: str, following: str) -> str:
        whole = following
        try:
            whole = urljoin(url, following)
            same = _origin(urlsplit(whole)) == _origin(urlsplit(self.base))
        except ValueError:
            same = False
        if not same or not re.fullmatch(r"[!-~]+", whole):
            raise ServerError(
                f"{_brief(url)}: its `next` leads to {shown(whole)}, which is not {self.base}; nothing is sent there. Is "
                "`server` the address that the server itself believes to have?"
            )
        return whole

    def _page(self, url: str) -> Resource:
        for wait_s in (*WAITS_S, None):
            status, content = self._answer(url)
            if status not in _BUSY or wait_s is None:
                break
            time.sleep(wait_s)
        if status != 200:
            raise ServerError(f"{_brief(url)}: answered {status}{_why(status, content)}")
        try:
            bundle = parsed(content)
            if bundle.get("resourceType") != "Bundle":
                raise ValueError(f"is {shown(str(bundle.get('resourceType')))}, expected a Bundle")
            if bundle.get("type") != "searchset":
                raise ValueError(f"is a Bundle of type {shown(str(bundle.get('type')))}, expected searchset")
        except ValueError as error:
            raise ServerError(f"{_brief(url)}: the page {error}") from error
        return bundle

    def _answer(self, url: str) -> Tuple[int, bytes]:
        """(status, content) of one page; of a redirect its address as content."""
        parts = urlsplit(url)
        until = time.monotonic() + self.timeout_s
        connection = _connection(parts, self.trusted, self.timeout_s)
        connection.response_class = partial(_Response, until=until)  # type: ignore[assignment]
        # A page in JSON packs well, and a packed one may hold any number of bytes.
        headers = {"Accept": "application/fhir+json", "Accept-Encoding": "identity", "Connection": "close"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        try:
            path = parts.path or "/"
            connection.request("GET", f"{path}?{parts.query}" if parts.query else path, headers=headers)
            response = connection.getresponse()
            if 300 <= response.status < 400:
                return response.status, response.getheader("Location", "").encode("utf-8", "replace")
            return response.status, _content(response)
        except socket.timeout as error:
            raise ServerError(f"{_brief(url)}: no whole page within {self.timeout_s:g} s (timeout_s)") from error
        except ssl.SSLError as error:
            raise ServerError(f"{_brief(url)}: {error.reason or error}; `ca_file` names another authority") from error
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise ServerError(f"{_brief(url)}: {str(error) or type(error).__name__}") from error
        finally:
            connection.close()


def _entries(bundle: Resource, kind: str, page: int, before: int) -> Iterator[Found]:
    """before: how many were on the pages before."""
    for number, entry in enumerate(listed(bundle.get("entry"), "entry"), before + 1):
        place = f"/{kind}: page {page}, entry {number - before}"
        try:
            said = table(entry, "entry")
            resource = table(said.get("resource"), "resource")
            mode = word(table(said.get("search"), "search").get("mode"), "search.mode")
        except ValueError as error:
            yield Found(place, number, None, str(error))
            continue
        if mode == "outcome" or resource.get("resourceType") == "OperationOutcome":
            if _failed(resource):
                raise ValueError(f"reports a failure in its page{_outcome(resource)}")
        elif mode != "include":
            yield Found(place, number, resource)


def _failed(outcome: Resource) -> bool:
    issues = [table(each, "issue") for each in listed(outcome.get("issue"), "issue")]
    return any(each.get("severity") not in ("warning", "information") for each in issues)


def _next(bundle: Resource) -> str:
    links = [table(each, "link") for each in listed(bundle.get("link"), "link")]
    found = [each.get("url") for each in links if each.get("relation") == "next"]
    if len(found) > 1:
        raise ValueError("has several links `next`")
    if not found:
        return ""
    if not isinstance(found[0], str) or not 0 < len(found[0]) <= _MOST_URL:
        raise ValueError(f"has a link `next` that is no address of at most {_MOST_URL} characters")
    return found[0]


def _origin(parts: SplitResult) -> Tuple[str, str, Optional[int], Optional[str]]:
    return (
        parts.scheme,
        parts.hostname or "",
        parts.port or {"https": 443, "http": 80}.get(parts.scheme),
        parts.username,
    )


def _connection(parts: SplitResult, trusted: Optional[ssl.SSLContext], timeout_s: float) -> http.client.HTTPConnection:
    host = parts.hostname or ""
    if parts.scheme == "https":
        return http.client.HTTPSConnection(host, parts.port, timeout=timeout_s, context=trusted)
    return http.client.HTTPConnection(host, parts.port, timeout=timeout_s)


class _Response(http.client.HTTPResponse):
    """An answer that is whole by a moment (time.monotonic), or a timeout: its bytes may come one by one."""

    def __init__(self, sock: socket.socket, *arguments: Any, until: float, **named: Any) -> None:
        super().__init__(sock, *arguments, **named)
        self.fp.close()
        self.fp = io.BufferedReader(_Timed(sock, until))


class _Timed(io.RawIOBase):
    """The bytes of a socket until a moment."""

    def __init__(self, sock: socket.socket, until: float) -> None:
        self._socket, self._until = sock, until
        self._raw = sock.makefile("rb", 0)  # keeps the socket open after its connection is closed

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> Optional[int]:
        left_s = self._until - time.monotonic()
        if left_s <= 0:
            raise socket.timeout("timed out")
        self._socket.settimeout(left_s)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


def _content(response: http.client.HTTPResponse) -> bytes:
    packed = response.getheader("Content-Encoding", "identity").strip().lower()
    if packed not in ("", "identity"):
        raise ServerError(f"a page packed with {shown(packed)}, which was not asked for, is not unpacked")
    parts: List[bytes] = []
    size = 0
    while True:
        part = response.read(_CHUNK)
        if not part:
            break
        parts.append(part)
        size += len(part)
        if size > MOST_PAGE_BYTES:
            raise ServerError(f"a page of more than {MOST_PAGE_BYTES >> 20} MiB; lower `page_size`")
    if response.length:
        raise ServerError(f"the page ends {response.length} bytes early")
    return b"".join(parts)


def _why(status: int, content: bytes) -> str:
    if 300 <= status < 400:
        return f": it leads to {shown(content.decode('utf-8', 'replace'))}; if that is right, name it as `server`"
    why = f": {_WRONG[status]}" if status in _WRONG else ""
    try:
        return why + _outcome(parsed(content))
    except ValueError:
        return why


def _outcome(resource: Resource) -> str:
    """The first reason that an OperationOutcome gives, quoted: it is the server's text."""
    issues: Sequence[Any] = listed(resource.get("issue"), "issue")
    first = table(issues[0], "issue") if issues else {}
    said = first.get("diagnostics") or table(first.get("details"), "details").get("text")
    return f" ({shown(said)})" if isinstance(said, str) and said else ""


def _brief(url: str) -> str:
    return url if len(url) <= 160 else f"{url[:160]}..."
