"""A stored run, a dashboard that shows it in its own process, and a client of it."""

import http.client
import json
import ssl
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, Optional, Tuple

import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from orchestrator.gateway.store import Store
from orchestrator.gateway.web.child import DashboardProcess
from orchestrator.gateway.web.settings import WebSettings
from orchestrator.rounds.events import Aggregated, Arrived, Declined, Joined, Started
from orchestrator.wire.link import BrokerAddress
from orchestrator.wire.protection import Privacy
from orchestrator.wire.schema import Feature, Schema
from orchestrator.wire.task import Rounds, Task, task_to_dict
from orchestrator.wire.training import Training

MAIN = [sys.executable, "-m", "orchestrator.cli.main"]
NOWHERE = BrokerAddress("127.0.0.1", 1)
PASSWORD = "correct horse battery"
RUN = "heart-0123abcd"


def make_store(
    out: Path,
    rounds: int = 3,
    begun: int = 2,
    privacy: Optional[Privacy] = None,
    at: float = 1000.0,
    run: str = RUN,
    relay: bool = False,
) -> None:
    """A run in round `begun`: a has answered, b is awaited, c declined; as the gateway would have journalled it, from `at` on.

    begun: -1 before any round. relay: whether the gateway above begins rounds.
    """
    schema = Schema("table", "sick", ("no", "yes"), {"0": 0, "1": 1}, (Feature("age", 0, 110),))
    rules = Rounds(nodes=2, quorum=2, deadline_s=60.0, provided=relay)
    task = Task(
        "heart", schema, {"kind": "mlp", "hidden": [4]}, Training(rounds=rounds), privacy or Privacy("none"), rules
    )
    store = Store(out / "gateway.sqlite")
    store.create_run(run, task_to_dict(task), b"graph", np.zeros(5, np.float32))
    store.append(run, Started(at))
    store.append(run, Joined(at + 1.0, "a", 120))
    store.append(run, Declined(at + 2.0, "c", "no column 'age'"))
    store.append(run, Joined(at + 3.0, "b", 80))
    for number in range(begun + 1):
        store.append(run, Arrived(at + 4.0 + number, "a", number, "d", 120.0))
        if number == begun:
            store.put_update(run, number, "a", b"x" * 77)
            break
        store.append(run, Arrived(at + 4.5 + number, "b", number, "d", 80.0))
        figures = {"bytes_up": 200, "bytes_down": 300, "seconds": 0.5, "codec_error": None, "nodes": ["a", "b"]}
        scores = {"accuracy": 0.8, "loss": float("nan"), "auc": 0.9} if number else {}
        store.put_result(run, number, {"round": number, "updates": 2, **figures, **scores})
        store.append(run, Aggregated(at + 4.7 + number, number))
    store.close()


class Client:
    """Plain requests, so that a test can say anything a stranger could."""

    def __init__(self, port: int, tls: bool = False, host: str = "127.0.0.1", source: str = "") -> None:
        """source: an address of this machine from which to ask."""
        self.port, self.tls, self.host = port, tls, host
        self._source = (source, 0) if source else None
        self.cookie = ""

    def ask(
        self, path: str, method: str = "GET", body: Optional[str] = None, **headers: str
    ) -> Tuple[int, Dict[str, str], str]:
        if self.tls:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            link: Any = http.client.HTTPSConnection(self.host, self.port, timeout=600, context=context)
        else:
            link = http.client.HTTPConnection(self.host, self.port, timeout=600, source_address=self._source)
        told = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.cookie:
            told.setdefault("Cookie", self.cookie)
        link.request(method, path, body, told)
        answer = link.getresponse()
        text = answer.read().decode()
        link.close()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, text

    def json(self, path: str) -> Any:
        status, _, text = self.ask(path)
        assert status == 200, text
        return json.loads(text)

    def log_in(self, password: str) -> Tuple[int, Dict[str, str], str]:
        answer = self.ask("/api/login", "POST", json.dumps({"password": password}), Content_Type="application/json")
        self.cookie = answer[1].get("set-cookie", "").split(";")[0]
        return answer

    def wait(self) -> "Client":
        deadline = time.monotonic() + 600
        while True:
            try:
                assert self.ask("/healthz")[0] == 200
                return self
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.05)


@contextmanager
def dashboard(
    out: Path, host: str = "127.0.0.1", broker: BrokerAddress = NOWHERE, **given: Any
) -> Iterator[Tuple[Client, DashboardProcess]]:
    settings = WebSettings(host, 0, **{"stay_s": 0.0, **given})
    with DashboardProcess(out, settings, "test", broker) as process:
        port = int(process.url.rstrip("/").rpartition(":")[2])
        yield Client(port, settings.tls).wait(), process


def parse_metrics(client: Client) -> Dict[str, float]:
    status, headers, text = client.ask("/metrics")
    assert status == 200
    assert headers["content-type"].startswith("text/plain; version=0.0.4")
    samples = [s for family in text_string_to_metric_families(text) for s in family.samples]
    return {sample.name: sample.value for sample in samples if sample.labels.get("direction") != "sent"}
