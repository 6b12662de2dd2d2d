"""Where the dashboard listens, and whether it may."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from orchestrator.errors import UsageError
from orchestrator.gateway.web.password import Login
from orchestrator.wire.loopback import is_loopback
from orchestrator.wire.pem import check_server_pair

QUIET_S, STAY_S = 15.0, 900.0
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class WebSettings:
    """`host:port`, port 0 for a free one; certificate and key (PEM) for https.

    quiet_s: after so many seconds without news a page says so. stay_s: a gateway's dashboard ends so long after it.
    """

    host: str
    port: int
    certificate: Optional[Path] = None
    key: Optional[Path] = None
    quiet_s: float = QUIET_S
    stay_s: float = STAY_S

    @classmethod
    def parse(cls, text: str, certificate: Optional[Path] = None, key: Optional[Path] = None) -> "WebSettings":
        """`[HOST:]PORT`; without a host, loopback. Raises UsageError."""
        host, _, port = text.rpartition(":")
        if not (port.isdecimal() and len(port) <= 5) or not 0 <= int(port) <= 65535:
            raise UsageError(f"dashboard {text!r}: expected [HOST:]PORT, such as 8080 or 0.0.0.0:8080")
        if (certificate is None) != (key is None):
            raise UsageError("--dashboard-cert and --dashboard-key go together")
        return cls(host.strip("[]") or "127.0.0.1", int(port), certificate, key)

    @property
    def loopback(self) -> bool:
        return is_loopback(self.host)

    @property
    def tls(self) -> bool:
        return self.certificate is not None

    def check(self, out: Path) -> Optional[str]:
        """A warning for people, or None. Raises UsageError for what is refused: strangers without a password, bad TLS."""
        if self.certificate is not None:
            assert self.key is not None, "they go together"
            check_server_pair(self.certificate, self.key)
        if self.loopback:
            return None
        if not Login(out).configured:
            raise UsageError(
                f"the dashboard on {self.host} could be opened by everyone who can reach this machine: set a password first "
                f"with `edgeward gateway password {shlex.quote(str(out))}`, or listen on 127.0.0.1"
            )
        if not self.tls:
            return (
                f"the dashboard on {self.host} is not encrypted: password and figures can be read on the network. Give it "
                "--dashboard-cert and --dashboard-key"
            )
        return None
