"""The door of the dashboard: host names, logins, headers. An ASGI layer round everything, so no route can forget it."""

import hashlib
import logging
from typing import List, Optional
from urllib.parse import quote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orchestrator.errors import EdgewardError
from orchestrator.gateway.doorkeeper import Doorkeeper
from orchestrator.gateway.web.browsers import AGE_S, browser_of, new_browser
from orchestrator.gateway.web.password import Login
from orchestrator.gateway.web.sessions import SESSION_S, Sessions
from orchestrator.gateway.web.settings import LOOPBACK_NAMES, WebSettings
from orchestrator.mishaps import sentence

log = logging.getLogger("edgeward.dashboard")

OPEN_PATHS = ("/healthz", "/login", "/api/login", "/api/session")
"""What a stranger may ask; `/static/` too, which is the same on every installation."""

PAGES = ("/statement/", "/node/", "/fleet")
"""Pages that a login leads back to. Where else it leads is behind the #, which a browser keeps for itself."""

_MOST_COOKIES = 8
"""Of one name that are looked at."""

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}


class Guard:
    """With a password everything but OPEN_PATHS needs a login; without one only loopback may ask (see WebSettings.check)."""

    def __init__(
        self, app: ASGIApp, settings: WebSettings, login: Login, sessions: Sessions, doorkeeper: Doorkeeper
    ) -> None:
        self._app, self._settings, self._login, self._sessions = app, settings, login, sessions
        self._doorkeeper = doorkeeper
        self._version: Optional[str] = None
        self._noted = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        peer = scope.get("client")
        if scope["method"] in ("GET", "HEAD"):
            self._doorkeeper.asks(peer)

        async def whole() -> Message:
            message = await receive()
            if not message.get("more_body"):  # who holds a body back has not asked for anything
                self._doorkeeper.asks(peer)
            return message

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)
            self._doorkeeper.asks(peer)  # a part of the answer was accepted

        try:
            refusal = self._refusal(HTTPConnection(scope), scope["method"])
        except EdgewardError as error:  # of a login file that is no use: nobody is let in
            self._note(str(error))
            refusal = PlainTextResponse("the login file of this dashboard is of no use; its log says more\n", 503)
        try:
            await (refusal or self._app)(scope, whole, with_headers)
        except Exception as error:  # a fault of ours: the client has its answer, or its stream just ends
            self._note(f"a page could not be answered: {sentence(error)}")
        finally:
            self._doorkeeper.answered(peer)

    def _note(self, problem: str) -> None:
        if problem != self._noted:
            log.error("%s", problem)
        self._noted = problem

    def _refusal(self, request: HTTPConnection, method: str) -> Optional[Response]:
        if self._settings.loopback and host_name(request.headers) not in (*LOOPBACK_NAMES, self._settings.host):
            # Another site's name that resolves to this machine would read us with this browser's rights.
            return PlainTextResponse("this dashboard answers to localhost only\n", 421)
        if method not in ("GET", "HEAD") and not same_origin(request.headers):
            return PlainTextResponse("only the dashboard's own pages may send this\n", 403)
        path = request.scope["path"]  # request.url is made of the Host header too, which a client chooses
        if path == "/healthz" or path.startswith("/static/"):
            return None
        login_needed = self._login.configured  # raises where the file cannot tell
        self._follow_password()
        if self._settings.loopback and not login_needed:
            return None
        if path in OPEN_PATHS or self.knows(request):
            return None
        if path == "/metrics" and self._knows_token(request.headers):
            return None
        if path.startswith("/api/"):
            return JSONResponse({"error": "log in first"}, 401)
        if path == "/metrics":
            return PlainTextResponse("a bearer token or a login is needed\n", 401, {"WWW-Authenticate": "Bearer"})
        return RedirectResponse(f"/login#{quote(path)}" if path.startswith(PAGES) else "/login", 303)

    def knows(self, request: HTTPConnection) -> bool:
        """Whether a login is not needed, or there."""
        if self._login.needed and not self._login.key:
            return False
        self._follow_password()
        if not self._login.configured:
            return self._settings.loopback
        tokens = session_tokens(request, self._settings, self._login.key)
        return any(self._sessions.valid(token) for token in tokens)

    def _follow_password(self) -> None:
        """A new password ends the sessions of the old one."""
        version = self._login.version
        if version != self._version:
            self._sessions.end_all()
        self._version = version

    def _knows_token(self, headers: Headers) -> bool:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and self._login.accepts_token(token.strip())


def cookie_name(settings: WebSettings, key: bytes) -> str:
    """Another one for every password, so for every dashboard: a browser has one set of cookies for all ports of a host."""
    mark = hashlib.sha256(b"edgeward dashboard cookie 1\n" + key).hexdigest()[:8]
    return f"{'__Host-' if settings.tls else ''}edgeward-{mark}"


def browser_name(settings: WebSettings, key: bytes) -> str:
    return f"{cookie_name(settings, key)}-browser"


def session_tokens(request: HTTPConnection, settings: WebSettings, key: bytes) -> List[str]:
    """Of the session: more than one where another program of this host gave the browser a cookie of the same name."""
    return _cookies(request, cookie_name(settings, key))


def known_browser(request: HTTPConnection, settings: WebSettings, key: bytes) -> str:
    """The name of a browser that logged in before, "" for another; see browsers.py."""
    names = (browser_of(cookie, key) for cookie in _cookies(request, browser_name(settings, key)))
    return next((name for name in names if name), "")


def _cookies(request: HTTPConnection, name: str) -> List[str]:
    """The values of this name, whatever cookies of other programs stand before it: http.cookies would read none of them then."""
    pairs = (part.strip().partition("=") for header in request.headers.getlist("cookie") for part in header.split(";"))
    return [value for found, _, value in pairs if found == name][:_MOST_COOKIES]


def set_browser(response: Response, key: bytes, settings: WebSettings) -> None:
    response.set_cookie(
        browser_name(settings, key),
        new_browser(key),
        max_age=AGE_S,
        path="/",
        secure=settings.tls,
        httponly=True,
        samesite="strict",
    )


def set_session(response: Response, token: str, key: bytes, settings: WebSettings) -> None:
    response.set_cookie(
        cookie_name(settings, key),
        token,
        max_age=int(SESSION_S) if token else 0,
        path="/",
        secure=settings.tls,
        httponly=True,
        samesite="strict",
    )


def host_name(headers: Headers) -> str:
    """The name in the Host header, without port and brackets."""
    try:
        return (urlsplit(f"//{headers.get('host', '')}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def same_origin(headers: Headers) -> bool:
    """Whether a request that changes something comes from our own page: JSON, and no other site's Origin."""
    if headers.get("content-type", "").split(";")[0].strip() != "application/json":
        return False
    origin = headers.get("origin")
    return origin is None or origin.partition("://")[1:] == ("://", headers.get("host", ""))
