"""What a gateway does while its broker, its dashboard or its enrolment server is attacked.

python benchmarks/floods.py [--part broker|dashboard|enrolment] [--broker embedded|mosquitto] [--attack NAME]
                            [--seconds 15] [--json]

Gateway, broker, dashboard and attackers are processes of their own on loopback; nodes are real and train nothing.
"""

import argparse
import http.client
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Dict, List

import attackers
import numpy as np
from rounds import make_task, start_node

from orchestrator.gateway.audit import AUDIT_FILE
from orchestrator.gateway.authority import Authority
from orchestrator.gateway.broker import OwnBroker
from orchestrator.gateway.gateway import Gateway
from orchestrator.gateway.store import Store
from orchestrator.gateway.web.child import DashboardProcess
from orchestrator.gateway.web.password import Login
from orchestrator.gateway.web.settings import WebSettings
from orchestrator.node.identity import enroll
from orchestrator.wire.process import peak_memory_mib, resident_memory_mib
from orchestrator.wire.task import task_to_dict

FEDERATION = "benchmark"
PASSWORD = "correct horse battery"
DESCRIPTORS = 1024
PARTS = {
    "broker": tuple(attackers.BROKER_ATTACKS),
    "dashboard": tuple(attackers.DASHBOARD_ATTACKS),
    "enrolment": ("strangers at enrolment",),
}
SAID = ("broker_silent", "broker_restarted", "broker_lost", "broker_back")


class Victim:
    """A gateway that runs its own broker, and two nodes that answer at once; rounds go on until `close`."""

    def __init__(self, folder: Path, broker: str, params: int) -> None:
        command = [sys.executable, __file__, "--victim", str(folder), "--broker", broker, "--params", str(params)]
        self._log = (folder / "victim.log").open("w")
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self._log, text=True)
        self.events: List[Any] = []  # (when, event)
        self.peaks: Dict[str, float] = {}
        self._closing = threading.Event()
        self._heard = threading.Thread(target=self._hear, daemon=True)
        self._heard.start()
        began = self.wait_for("serving")
        self.address, self.broker_pid = began["broker"], began["pid"]
        host, _, port = self.address[len("mqtt://") :].rpartition(":")
        self.host, self.port = host, int(port)
        data = folder / "data.csv"
        data.write_text("x,y\n0.5,1\n")
        self._nodes = [start_node(self.address, f"node-{i}", data, folder) for i in range(2)]
        self._watch = threading.Thread(target=self._measure, daemon=True)
        self._watch.start()

    def _hear(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.events.append((time.monotonic(), json.loads(line)))

    def _measure(self) -> None:
        while not self._closing.wait(0.2):
            for _, event in self.events[-5:]:
                self.broker_pid = event.get("pid", self.broker_pid)
            dashboard = self.wait_for("dashboard")["dashboard_pid"]
            pids = (("gateway", self._process.pid), ("broker", self.broker_pid), ("dashboard", dashboard))
            for name, pid in pids:
                self.peaks[name] = max(self.peaks.get(name, 0.0), resident_memory_mib(str(pid)))

    def wait_for(self, kind: str, timeout_s: float = 120.0) -> Dict[str, Any]:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            found = next((event for _, event in self.events if event["event"] == kind), None)
            if found is not None:
                return dict(found)
            if self._process.poll() is not None:
                raise SystemExit(f"the gateway ended with {self._process.returncode}: {self._log.name}")
            time.sleep(0.05)
        raise SystemExit(f"the gateway did not say {kind!r} in {timeout_s} s")

    def rounds(self, since: float, until: float) -> int:
        return sum(since <= at < until and event["event"] == "aggregated" for at, event in self.events)

    def said(self, since: float, until: float) -> List[str]:
        return [
            f"{event['event']} after {at - since:.1f} s"
            for at, event in self.events
            if since <= at < until and event["event"] in SAID
        ]

    def goes_on(self, since: float) -> bool:
        """Whether a round ends after `since`, however long the machine takes for it (two minutes at most)."""
        deadline = time.monotonic() + 120
        while not self.rounds(since, deadline) and time.monotonic() < deadline:
            time.sleep(0.1)
        return self.rounds(since, deadline) > 0

    def close(self) -> None:
        self._closing.set()
        processes: List[subprocess.Popen[Any]] = [*self._nodes, self._process]
        for process in processes:
            process.kill()
            process.wait()
        self._watch.join()
        self._log.close()


def serve_victim(folder: Path, kind: str, params: int) -> None:
    """The gateway's process: prints its progress, and its broker's process id with every event that may change it."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
    store = Store(folder / "gateway.sqlite")
    weights = np.random.default_rng(0).normal(0, 0.1, params).astype(np.float32)
    store.create_run("floods", task_to_dict(make_task(2, 1_000_000, "int8")), b"", weights)
    Login(folder).set_password(PASSWORD)
    with OwnBroker(kind) as broker, DashboardProcess(
        folder, WebSettings("127.0.0.1", 0, stay_s=0.0), FEDERATION, broker.address
    ) as dashboard:

        def show(event: Dict[str, Any]) -> None:
            dashboard.tell(event)
            if event["event"] in ("aggregated", *SAID, "joined", "left"):
                print(json.dumps({"event": event["event"], "pid": broker.pid}), flush=True)

        print(json.dumps({"event": "serving", "broker": str(broker.address), "pid": broker.pid}), flush=True)
        print(json.dumps({"event": "dashboard", "url": dashboard.url, "dashboard_pid": dashboard.pid}), flush=True)
        Gateway(store, "floods", FEDERATION, broker.address, broker, progress=show).run()


def attack_broker(kind: str, name: str, seconds: float, params: int) -> Dict[str, Any]:
    """Rounds before, during and after one attack; what the gateway said; peak memory."""
    with tempfile.TemporaryDirectory() as folder:
        victim = Victim(Path(folder), kind, params)
        try:
            victim.wait_for("aggregated")
            time.sleep(1)
            calm = time.monotonic()
            time.sleep(min(5.0, seconds))
            began = time.monotonic()
            command = [sys.executable, __file__, "--send", name, "--host", victim.host, "--port", str(victim.port)]
            process = subprocess.Popen([*command, "--seconds", str(seconds)], stdout=subprocess.PIPE, text=True)
            told, _ = process.communicate(timeout=seconds + 120)
            over = time.monotonic()
            time.sleep(min(5.0, seconds))
            end = time.monotonic()
            recovered = victim.goes_on(over)
            return {
                "broker": kind,
                "attack": name,
                "rounds_per_s_before": victim.rounds(calm, began) / (began - calm),
                "rounds_per_s": victim.rounds(began, over) / (over - began),
                "rounds_per_s_after": victim.rounds(over, end) / (end - over),
                "said": victim.said(began, over),
                "recovered": recovered,
                "dashboard_pid": victim.wait_for("dashboard")["dashboard_pid"],
                "broker_mib": victim.peaks["broker"],
                "gateway_mib": victim.peaks["gateway"],
                "log_bytes": (Path(folder) / "victim.log").stat().st_size,
                **json.loads(told),
            }
        finally:
            victim.close()


class Browser:
    """Asks for a page now and then, and at the end logs in; notes how long each took."""

    def __init__(self, port: int, cookie: str, source: str = "127.0.0.1") -> None:
        self._port, self._cookie, self._source = port, cookie, source
        self.seconds: List[float] = []
        self.failures = 0

    def ask(self, path: str, body: str = "", cookie: "str | None" = None) -> Any:
        link = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60, source_address=(self._source, 0))
        headers = {"Content-Type": "application/json", "Cookie": self._cookie if cookie is None else cookie}
        began = time.monotonic()
        try:
            link.request("POST" if body else "GET", path, body or None, headers)
            answer = link.getresponse()
            answer.read()
            return answer.status, time.monotonic() - began, answer.getheaders()
        except OSError:
            return 0, time.monotonic() - began, []
        finally:
            link.close()

    def look(self, until: float) -> None:
        while time.monotonic() < until:
            for path in ("/healthz", "/login", "/metrics", "/api/overview"):
                status, seconds, _ = self.ask(path)
                self.failures += status not in (200, 303)  # who is logged in needs no login page
                self.seconds.append(seconds)
            time.sleep(0.2)


def attack_dashboard(name: str, seconds: float) -> Dict[str, Any]:
    """Pages before and during one attack, and the right password in the middle of it."""
    with tempfile.TemporaryDirectory() as folder:
        victim = Victim(Path(folder), "embedded", 1000)
        try:
            began = victim.wait_for("dashboard")
            port = int(began["url"].rstrip("/").rpartition(":")[2])
            login = json.dumps({"password": PASSWORD})
            status, _, headers = Browser(port, "").ask("/api/login", login)
            assert status == 200, status
            cookies = [value.split(";")[0] for key, value in headers if key.lower() == "set-cookie"]
            calm, browser = (Browser(port, "; ".join(cookies)) for _ in range(2))
            calm.look(time.monotonic() + 3)
            command = [sys.executable, __file__, "--send", name, "--host", "127.0.0.1", "--port", str(port)]
            process = subprocess.Popen([*command, "--seconds", str(seconds)], stdout=subprocess.PIPE, text=True)
            start = time.monotonic()
            looking = threading.Thread(target=browser.look, args=(start + seconds,))
            looking.start()
            time.sleep(seconds * 0.6)
            known = [cookie for cookie in cookies if "-browser=" in cookie][:1]
            logins = [
                Browser(port, "; ".join(known)).ask("/api/login", login)[:2],
                Browser(port, "", "127.0.0.9").ask("/api/login", login)[:2],
            ]
            looking.join()
            told, _ = process.communicate(timeout=120)
            return {
                "attack": name,
                "page_s_before": [statistics.median(calm.seconds), max(calm.seconds)],
                "page_s": [statistics.median(browser.seconds), max(browser.seconds)],
                "pages": len(browser.seconds),
                "failures": browser.failures,
                "logins": logins,
                "dashboard_mib": victim.peaks["dashboard"],
                "gateway_mib": victim.peaks["gateway"],
                "log_bytes": (Path(folder) / "victim.log").stat().st_size,
                **json.loads(told),
            }
        finally:
            victim.close()


def attack_enrolment(seconds: float) -> Dict[str, Any]:
    """Real enrolments while strangers ask, trickle and say nothing."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        authority = Authority.create(folder / "identity", FEDERATION, ["127.0.0.1"])
        command = [sys.executable, "-m", "orchestrator.cli.main", "gateway", "enroll-server", "--listen", "127.0.0.1:0"]
        with (folder / "log").open("w") as log:
            server = subprocess.Popen(
                [*command, "--identity", str(authority.folder)], stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert server.stdout is not None
        url = server.stdout.readline().split()[-1]
        end = time.monotonic() + seconds
        found: Dict[str, Any] = {}

        def attack() -> None:
            found.update(attackers.strangers("127.0.0.1", int(url.rpartition(":")[2]), lambda: time.monotonic() > end))

        attacking = threading.Thread(target=attack)
        attacking.start()
        taken: List[float] = []
        try:
            while time.monotonic() < end:
                time.sleep(seconds / 6)
                began = time.monotonic()
                enroll(folder / f"node-{len(taken)}", authority.invite(f"node-{len(taken)}", url))
                taken.append(time.monotonic() - began)
            attacking.join()
            return {
                "attack": "strangers at enrolment",
                "enrol_s": [statistics.median(taken), max(taken)],
                "server_mib": peak_memory_mib(str(server.pid)),
                "audit_bytes": (authority.folder / AUDIT_FILE).stat().st_size,
                "log_bytes": (folder / "log").stat().st_size,
                "tracebacks": (folder / "log").read_text().count("Traceback"),
                **found,
            }
        finally:
            server.terminate()
            server.wait()
            authority.close()


def send(name: str, host: str, port: int, seconds: float) -> None:
    """The attacker's process."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    end = time.monotonic() + seconds
    attack = {**attackers.BROKER_ATTACKS, **attackers.DASHBOARD_ATTACKS}[name]
    crowd = attack(host, port, lambda: time.monotonic() > end)
    sent = {"opened": crowd.opened, "ended": crowd.ended, "sent_mib": crowd.sent_bytes / (1 << 20)}
    print(json.dumps({**sent, "answers": crowd.answers}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=("broker", "dashboard", "enrolment"))
    parser.add_argument("--broker", choices=("embedded", "mosquitto"), default="embedded")
    parser.add_argument("--attack", choices=[name for names in PARTS.values() for name in names])
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--params", type=int, default=20_000)
    parser.add_argument("--json", action="store_true")
    for hidden in ("--victim", "--send", "--host"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.victim:
        serve_victim(Path(arguments.victim), arguments.broker, arguments.params)
        return
    if arguments.send:
        send(arguments.send, arguments.host, arguments.port, arguments.seconds)
        return
    wanted = [name for part in ([arguments.part] if arguments.part else PARTS) for name in PARTS[part]]
    found = []
    for name in [arguments.attack] if arguments.attack else wanted:
        found.append(attack(name, arguments))
        if arguments.json:
            print(json.dumps(found[-1]), flush=True)
    if not arguments.json:
        print_tables(found)


def attack(name: str, arguments: argparse.Namespace) -> Dict[str, Any]:
    if name in attackers.BROKER_ATTACKS:
        return attack_broker(arguments.broker, name, arguments.seconds, arguments.params)
    if name in attackers.DASHBOARD_ATTACKS:
        return attack_dashboard(name, arguments.seconds)
    return attack_enrolment(arguments.seconds)


def print_tables(found: List[Dict[str, Any]]) -> None:
    """In Markdown, one table for each kind of victim."""
    print_broker_table([row for row in found if "broker" in row])
    print_dashboard_table([row for row in found if "page_s" in row])
    for row in found:
        if "enrol_s" in row:
            print("| strangers at enrolment | |\n|---|---|")
            for name in ("enrol_s", "refused", "server_mib", "audit_bytes", "log_bytes", "tracebacks"):
                print(f"| {name} | {shown(row[name])} |")


def print_broker_table(rows: List[Dict[str, Any]]) -> None:
    if rows:
        print(f"{rows[0]['broker']} broker\n")
        print(
            "| attack | rounds/s before | during | after | the gateway said | broker, MiB | gateway, MiB | sent, MiB |"
        )
        print("|---|---|---|---|---|---|---|---|")
    for row in rows:
        keys = ("rounds_per_s_before", "rounds_per_s", "rounds_per_s_after")
        cells = [row["attack"], *(shown(row[key]) for key in keys), ", ".join(row["said"]) or "-"]
        cells += [f"{row[key]:.0f}" for key in ("broker_mib", "gateway_mib", "sent_mib")]
        print(f"| {' | '.join(cells)} |")


def print_dashboard_table(rows: List[Dict[str, Any]]) -> None:
    if rows:
        print(
            "\n| attack | page, s: median and most | without it | failed | right password, s: known browser, other address |"
            " answers to guesses | dashboard, MiB | gateway, MiB |"
        )
        print("|---|---|---|---|---|---|---|---|")
    for row in rows:
        logins = [f"{seconds:.1f}{'' if status == 200 else f' ({status})'}" for status, seconds in row["logins"]]
        cells = [row["attack"], shown(row["page_s"]), shown(row["page_s_before"])]
        cells += [f"{row['failures']} of {row['pages']}", ", ".join(logins)]
        cells += [", ".join(f"{n} x {code}" for code, n in sorted(row["answers"].items())) or "-"]
        cells += [f"{row[key]:.0f}" for key in ("dashboard_mib", "gateway_mib")]
        print(f"| {' | '.join(cells)} |")


def shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(shown(item) for item in value)
    return f"{value:.2g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
