"""Browsers that logged in before: a stranger's guesses do not take the turns of the owner's own browser.

A cookie holds a random name and its HMAC under the stored hash of the password, so nothing is kept here, a restart forgets
nobody, and a new password forgets all. It opens no page: it only says under which name the next try counts.
"""

import hashlib
import hmac
import secrets

_CONTEXT = b"edgeward dashboard browser 1\n"
AGE_S = 365 * 86_400


def new_browser(key: bytes) -> str:
    """The cookie of a browser that just logged in. `key`: of the password, see Login.key."""
    name = secrets.token_urlsafe(18)
    return f"{name}.{_seal(key, name)}"


def browser_of(cookie: str, key: bytes) -> str:
    """The browser's name; "" for a cookie that was not made here, or under another password."""
    name, _, seal = cookie.partition(".")
    known = bool(key and name) and seal.isascii() and hmac.compare_digest(_seal(key, name), seal)
    return name if known else ""


def _seal(key: bytes, name: str) -> str:
    return hmac.new(key, _CONTEXT + name.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()
