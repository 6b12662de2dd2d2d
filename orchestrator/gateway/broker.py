"""The broker a gateway runs for itself: amqtt from PyPI by default, mosquitto where it is installed and asked for.

It is a child process that ends with the gateway, and is started again if it dies. Both listen on loopback unless asked
otherwise and let anyone on that interface in: a broker for other machines is set up as docs/design.md section 4 says.
"""

import contextlib
import logging
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Set

from orchestrator.errors import BrokerError, writing
from orchestrator.gateway import leftover
from orchestrator.wire.link import BrokerAddress
from orchestrator.wire.process import ends_with, own_program

if TYPE_CHECKING:
    from orchestrator.gateway.authority import Authority

log = logging.getLogger("edgeward.gateway")

KINDS = ("embedded", "mosquitto")
NOTE = "broker.pid"
_START_TIMEOUT_S = 30.0
_PORT_TIMEOUT_S = 3.0
"""The broker of a gateway that was killed a moment ago may still be ending."""


LOOK_S = 5.0
"""Between two looks at who was enrolled."""


class OwnBroker:
    """A broker process on `host:port`; port 0 takes a free one."""

    def __init__(
        self,
        kind: str,
        host: str = "127.0.0.1",
        port: int = 0,
        authority: "Optional[Authority]" = None,
        state: Optional[Path] = None,
    ) -> None:
        """`state`: folder in which the process is noted, so that one that outlives its gateway is ended by the next."""
        if kind not in KINDS:
            raise BrokerError(f"broker {kind!r}: expected {', '.join(KINDS)} or mqtt://HOST:PORT")
        if authority is not None and kind != "mosquitto":
            raise BrokerError(
                "the embedded broker cannot check certificates and rights by name; with an identity use "
                'broker = "mosquitto", or one of your own set up with `edgeward gateway broker-config`'
            )
        self.kind = kind
        self._authority = authority
        self._host = host
        self._noted = None if state is None else state / NOTE
        self._folder = tempfile.TemporaryDirectory(prefix="edgeward-broker-")
        self.process: Optional[subprocess.Popen[bytes]] = None
        self.address = BrokerAddress(host, port or free_port(host))
        if authority is not None:
            # The certificate names addresses one can connect to, and this one always.
            at = "127.0.0.1" if host in ("0.0.0.0", "::") else host
            self.address = authority.secure(BrokerAddress(at, self.address.port))
        self._outside: Set[str] = set()
        self._beside: Set[str] = set()
        self._looked = -LOOK_S
        self.restarts = 0

    def start(self) -> None:
        """Starts the process and waits until it accepts connections."""
        host, port = self.address.host, self.address.port
        if self._noted is not None and leftover.end(self._noted) is not None:
            log.warning("ended the broker of a gateway that was killed")
        if not _free_within(host, port, _PORT_TIMEOUT_S):
            raise BrokerError(
                f"{host}:{port} is in use by another program. If it is a broker, use it with --broker mqtt://{host}:{port}; "
                "otherwise choose another --port"
            )
        log_path = Path(self._folder.name) / "broker.log"
        with log_path.open("ab") as log_file:
            command = self._command()
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log_file,
                stderr=log_file,
                preexec_fn=ends_with(os.getpid()),
                **self._user(),
            )
        if self._noted is not None:
            leftover.note(self._noted, self.process.pid)
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not _accepts(host, port):
            if self.process.poll() is not None or time.monotonic() > deadline:
                tail = log_path.read_text(errors="replace").strip().splitlines()[-3:]
                self.stop()
                raise BrokerError(
                    f"the {self.kind} broker did not start on {host}:{port}: {' / '.join(tail) or 'no word'}"
                )
            time.sleep(0.05)

    def _command(self) -> List[str]:
        host, port = self.address.host, self.address.port
        if self.kind == "embedded":
            return own_program("orchestrator.gateway.embedded_broker", host, str(port))
        program = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
        if program is None:
            raise BrokerError(
                "mosquitto is not installed here (Debian: apt install mosquitto); or use --broker embedded"
            )
        if self._authority is not None:
            from orchestrator.gateway.mosquitto import write_configuration

            path = write_configuration(self._authority, port, self._host, self._outside)
            return [program, "-c", str(path)]
        from orchestrator.gateway.mosquitto import LIMITS, MOST_CONNECTIONS

        config = Path(self._folder.name) / "mosquitto.conf"
        with writing(config):
            config.write_text(
                f"listener {port} {host}\nmax_connections {MOST_CONNECTIONS}\nallow_anonymous true\n"
                f"{LIMITS}set_tcp_nodelay true\n",
                encoding="utf-8",
            )
        if self._user():
            Path(self._folder.name).chmod(0o755)  # there is nothing else in it
            config.chmod(0o644)
        return [program, "-c", str(config)]

    def _user(self) -> Dict[str, Any]:
        """As whom the broker begins: root's mosquitto would change its user itself, and then outlive a gateway that is killed.

        With an identity it keeps the user, who alone may read its key.
        """
        if self.kind != "mosquitto" or self._authority is not None or os.geteuid() != 0 or sys.version_info < (3, 9):
            return {}  # Python 3.8, which gateways do not run on, starts nothing as another user
        for name in ("mosquitto", "nobody"):
            with contextlib.suppress(KeyError):
                known = pwd.getpwnam(name)
                return {"user": known.pw_uid, "group": known.pw_gid, "extra_groups": []}
        return {}

    @property
    def pid(self) -> Optional[int]:
        return self.process.pid if self.process else None

    def restart_if_dead(self) -> bool:
        """Starts it again if it died; True if it had."""
        if self.process is None or self.process.poll() is None:
            return False
        self.restarts += 1
        self.start()
        return True

    def keep_out(self, nodes: Set[str]) -> None:
        """From now on these nodes, and no others, read nothing of what is for all: they declined the run. And who is no node, and
        was enrolled since it was looked last, a board for example, has its rights.

        A broker without an identity does not know who reads.
        """
        if self._authority is None:
            return
        beside = self._enrolled_beside(self._authority)
        if nodes == self._outside and beside == self._beside:
            return
        from orchestrator.gateway.mosquitto import write_access_list

        self._outside, self._beside = set(nodes), beside
        write_access_list(self._authority, self._outside)
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGHUP)

    def _enrolled_beside(self, authority: "Authority") -> Set[str]:
        """Monitors, boards and fleets: nodes have their rights by a pattern."""
        now = time.monotonic()
        if now - self._looked < LOOK_S:
            return self._beside
        self._looked = now
        return {name for name in authority.active() if ":" in name}

    def restart(self) -> None:
        """Ends every connection and starts with the configuration as it is now; clients come back by themselves."""
        if self.process is not None:
            self.restarts += 1
            self.stop()
            self.start()

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process = None
        if self._noted is not None:
            self._noted.unlink(missing_ok=True)

    def close(self) -> None:
        self.stop()
        self._folder.cleanup()

    def __enter__(self) -> "OwnBroker":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def free_port(host: str = "127.0.0.1") -> int:
    """A port that is free now. Where possible none that the system gives to outgoing connections: one of these could have it
    before its user does."""
    ports = range(20_000, _first_outgoing_port())
    tried = random.SystemRandom().sample(ports, min(100, len(ports)))
    for port in (*tried, 0):
        with socket.socket() as probe:
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise BrokerError(f"{host} has no free port, or is no address of this machine")


def _first_outgoing_port() -> int:
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError, IndexError):  # not Linux
        return 0


def _accepts(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False


def _free_within(host: str, port: int, timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while _accepts(host, port):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
