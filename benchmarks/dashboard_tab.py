"""An open tab of the dashboard over a long federation: what the first view takes, and what grows while rounds go on.

python benchmarks/dashboard_tab.py [--nodes 40] [--rounds 2000] [--runs 62] [--before 100] [--events 600] [--json]

A store of --runs runs, the newest with --rounds rounds done by --nodes nodes (tests/gateway/web/crowd.py writes it as a gateway
would), the real dashboard process on loopback, and Chromium. First view: opened by the first viewer of a fresh dashboard (cold),
and again (warm). Then rounds go on: each ends, half of the nodes answer the next one, and so every row of a node, the charts and
the open round change; the next comes when the page shows it. After that every view and page is opened, and sees a few rounds.

Of the tab: JavaScript heap, DOM nodes and listeners after a forced garbage collection; resident memory of its renderer process
(which has Chromium's own code in it), the private part of that (/proc: RssAnon), and its proportional share, in which what
several processes hold counts for each in part (Pss); long tasks as the page's own PerformanceObserver sees them (over 50 ms of
wall time), and processor time of the longest task, from a trace. Of the dashboard: bytes of the largest event and of all events
of a round, as another client of the stream counts them, and its processor time.
"""

import argparse
import contextlib
import json
import os
import platform
import statistics
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import numpy as np
from long_run import sizes

from orchestrator.gateway.running import Held
from orchestrator.gateway.web.child import DashboardProcess
from orchestrator.gateway.web.settings import WebSettings
from orchestrator.wire.link import BrokerAddress
from orchestrator.wire.process import resident_memory_mib
from orchestrator.wire.protection import Privacy

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "gateway" / "web"))
from chromium import Browser
from crowd import ROUND_S, Course, make_crowd

PRIVACY = Privacy(
    epsilon=8.0, delta=1e-3, noise_multiplier=3.0, statistics_noise_multiplier=5.0, statistics_clip_norm=0.5
)
AUDIT_ENTRIES = 20_000
REPEATS = 3
"""Openings of a view of which the smallest figures are given: other work on the machine only adds."""
SEEN = 3
"""Rounds each view sees."""
TASK = "ThreadControllerImpl::RunTask"
"""A task of a thread, in a trace of Chromium."""
WATCHED = """
window.longTasks = [];
new PerformanceObserver((list) => longTasks.push(...list.getEntries().map((e) => e.duration)))
    .observe({type: 'longtask', buffered: true});
document.addEventListener('DOMContentLoaded', () => new MutationObserver((_, watcher) => {
    if (!document.querySelector('#round')) return;
    window.firstView = performance.now();
    watcher.disconnect();
}).observe(document, {subtree: true, childList: true}));"""
FILE_BYTES = """['navigation', 'resource'].flatMap((kind) => performance.getEntriesByType(kind))
    .reduce((sum, entry) => sum + entry.transferSize, 0)"""


class Tab(Browser):
    """A page whose renderer process and tasks can be looked at."""

    def __init__(self) -> None:
        super().__init__()
        self._traced: List[Dict[str, Any]] = []
        self._tracing = False
        for domain in ("Performance", "HeapProfiler"):
            self.ask(f"{domain}.enable")
        self.ask("Page.addScriptToEvaluateOnNewDocument", source=WATCHED)
        self.size(1280, 900)

    def _note(self, event: Dict[str, Any]) -> None:
        if event.get("method") == "Tracing.dataCollected":
            self._traced += [e for e in event["params"]["value"] if e["name"] in (TASK, "thread_name")]
        elif event.get("method") == "Tracing.tracingComplete":
            self._tracing = False
        else:
            super()._note(event)

    def _ask_browser(self, method: str, **given: Any) -> Dict[str, Any]:
        page, self._session = self._session, None
        try:
            return self.ask(method, **given)
        finally:
            self._session = page

    def renderer(self) -> int:
        """Process id of what shows the page: the renderer that is busy when the page is."""
        before = self._renderers()
        self.evaluate("(() => { const end = performance.now() + 500; while (performance.now() < end); })()")
        after = self._renderers()
        return max(after, key=lambda pid: after[pid] - before.get(pid, 0.0))

    def _renderers(self) -> Dict[int, float]:
        found = self._ask_browser("SystemInfo.getProcessInfo")["processInfo"]
        return {p["id"]: p["cpuTime"] for p in found if p["type"] == "renderer"}

    def tasks_of(self, action: Callable[[], None]) -> Dict[str, float]:
        """The longest task of the page during an action: milliseconds by the wall clock and of processor time."""
        self._traced.clear()
        self.evaluate("longTasks.length = 0")
        config = {"includedCategories": ["toplevel"], "excludedCategories": ["*"]}
        self._ask_browser("Tracing.start", traceConfig=config, transferMode="ReportEvents")
        self._tracing = True
        action()
        time.sleep(0.2)  # the observer is called after the task
        seen: List[float] = self.evaluate("longTasks")
        self._ask_browser("Tracing.end")
        while self._tracing:
            self._note(json.loads(self._socket.recv(timeout=120)))
        mains = {(e["pid"], e["tid"]) for e in self._traced if e.get("args", {}).get("name") == "CrRendererMain"}
        used = [e["tdur"] / 1000 for e in self._traced if "tdur" in e and (e["pid"], e["tid"]) in mains]
        return {"task_cpu_ms": max(used), "task_wall_ms": max(seen, default=0.0)}

    def memory(self, pid: int) -> Dict[str, float]:
        """After a forced collection: MiB, and counts."""
        for _ in range(2):  # what a finalizer lets go is collected by the second
            self.ask("HeapProfiler.collectGarbage")
        found = {m["name"]: m["value"] for m in self.ask("Performance.getMetrics")["metrics"]}
        return {
            "heap_mib": found["JSHeapUsedSize"] / 2**20,
            "dom_nodes": found["Nodes"],
            "listeners": found["JSEventListeners"],
            "renderer_mib": resident_memory_mib(str(pid)),
            "private_mib": status_kib(pid, "RssAnon") / 1024,
            "share_mib": proportional_kib(pid) / 1024,
        }


class Viewer:
    """Another client of the stream, which counts bytes."""

    def __init__(self, url: str) -> None:
        self.first = self.largest = self.total = 0
        self._url = f"{url}api/events"
        threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self) -> None:
        with contextlib.suppress(OSError), urllib.request.urlopen(self._url) as answer:
            begun = time.monotonic()
            for size in sizes(answer):
                if time.monotonic() - begun < 2.0:
                    self.first += size
                self.largest = max(self.largest, size)
                self.total += size


def status_kib(pid: int, field: str) -> int:
    """A field of /proc/PID/status."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    return 0


def proportional_kib(pid: int) -> int:
    """Pss of /proc/PID/smaps_rollup: memory of its own, and its share of what it has in common with other processes."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0


def cpu_s(pid: int) -> float:
    """Processor seconds of a process, its ended children not included."""
    used = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return sum(map(int, used)) / os.sysconf("SC_CLK_TCK")


def wait_until_up(url: str) -> None:
    while True:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"{url}healthz").close()
            return
        time.sleep(0.05)


def measure_first_view(tab: Tab, url: str) -> Dict[str, float]:
    tab.open("about:blank")
    tab.open(url)
    tab.wait("window.firstView", 600)
    return {"first_view_s": tab.evaluate("firstView") / 1000, "files_bytes": tab.evaluate(FILE_BYTES)}


def shows(tab: Tab, number: int) -> None:
    tab.wait(f"document.querySelector('#round')?.textContent.startsWith('Round {number} ')")


def measure_live(tab: Tab, course: Course, dashboard: int, viewer: Viewer, events: int) -> Dict[str, Any]:
    """So many rounds, of which memory is looked at ten times."""
    pid, every = tab.renderer(), max(1, events // 10)
    arrived = len(course.names) // 2
    tab.evaluate("longTasks.length = 0")
    looks: List[Dict[str, float]] = []
    began, used, sent = time.monotonic(), cpu_s(dashboard), viewer.total
    for number in range(events + 1):
        if number % every == 0:
            looks.append({"events": number, **tab.memory(pid)})
        if number < events:
            shows(tab, course.next_round(arrived))
    seen: List[float] = tab.evaluate("longTasks")
    slopes = {f"{name}_per_event": slope(looks, name) for name in looks[0] if name != "events"}
    return {
        "looks": looks,
        **slopes,
        "long_tasks": len(seen),
        "long_task_wall_ms": max(seen, default=0.0),
        "seconds": time.monotonic() - began,
        "event_bytes": viewer.largest,
        "bytes_per_round": (viewer.total - sent) / events,
        "dashboard_cpu_ms_per_event": 1000 * (cpu_s(dashboard) - used) / events,
        "dashboard_mib": resident_memory_mib(str(dashboard)),
    }


def slope(looks: List[Dict[str, float]], name: str) -> float:
    """Growth an event, by least squares over the second half of the looks: caches have filled by then."""
    later = looks[len(looks) // 2 :]
    return float(np.polyfit([look["events"] for look in later], [look[name] for look in later], 1)[0])


def views_of(course: Course, runs: int) -> Dict[str, Tuple[str, str]]:
    """Name of a view -> (its address, an expression that holds once it is drawn)."""
    chosen = ",".join([course.run, *(f"sepsis-{number:08x}" for number in range(runs - 1, max(0, runs - 6), -1))])
    node = f"node/{course.run}/{course.names[0]}"
    return {
        "overview": ("#overview", "document.querySelector('#nodes tbody tr')"),
        "overview, all nodes": (
            "#overview?nodes.all=1",
            f"document.querySelectorAll('#nodes tbody tr').length === {len(course.names)}",
        ),
        "runs, six chosen": (
            f"#runs?choose={chosen}",
            "document.querySelector('#compared') && document.querySelectorAll('#compare-accuracy path.line').length > 5",
        ),
        "runs, all runs and settings": (
            f"#runs?choose={chosen}&runs.all=1&every=1",
            f"document.querySelectorAll('#all-runs tbody tr').length === {runs} && document.querySelector('#compared')",
        ),
        "log": ("#log", "document.querySelectorAll('#audit li').length === 200"),
        "a node's page": (node, "document.querySelectorAll('#node .chart svg[role]').length > 1"),
        "a node's page, all rounds": (
            f"{node}#?rounds.all=1",
            "document.querySelectorAll('#node-rounds tbody tr').length > 50",
        ),
        "statement": (f"statement/{course.run}", "document.querySelector('#statement .identity')"),
    }


def measure_views(tab: Tab, url: str, course: Course, runs: int) -> Dict[str, Dict[str, float]]:
    found = {}
    for name, (address, ready) in views_of(course, runs).items():

        def look(address: str = address, ready: str = ready) -> None:
            tab.open("about:blank")
            tab.open(f"{url}{address}")
            tab.wait(ready, 600)
            for _ in range(SEEN):
                shown = course.next_round(len(course.names) // 2)
                if address.startswith("#overview"):
                    shows(tab, shown)
                else:
                    time.sleep(1.0)

        tries = [tab.tasks_of(look) for _ in range(REPEATS)]
        found[name] = {figure: min(each[figure] for each in tries) for figure in tries[0]}
        found[name].update({k: v for k, v in tab.memory(tab.renderer()).items() if k != "listeners"})
    return found


def measure(arguments: argparse.Namespace, out: Path) -> Dict[str, Any]:
    with Held(out):  # as the gateway does
        size = {name: getattr(arguments, name) for name in ("nodes", "rounds", "runs", "before")}
        course = make_crowd(out, PRIVACY, **size, more=arguments.events + 1000)
        entries = ({"n": n, "at": 1.79e9 + n, "event": "joined", "node": "a"} for n in range(AUDIT_ENTRIES))
        (out / "audit.jsonl").write_text("".join(f"{json.dumps(entry)}\n" for entry in entries))
        settings = WebSettings("127.0.0.1", 0, stay_s=0.0)
        with DashboardProcess(out, settings, "benchmark", BrokerAddress("127.0.0.1", 1)) as dashboard, Tab() as tab:
            assert dashboard.pid is not None
            wait_until_up(dashboard.url)
            empty = tab.memory(tab.renderer())
            cold = measure_first_view(tab, dashboard.url)
            tab.wait("document.querySelector('#privacy .chart svg[role]')", 600)  # the accountant is done
            warm = [measure_first_view(tab, dashboard.url) for _ in range(REPEATS)]
            viewer = Viewer(dashboard.url)
            live = measure_live(tab, course, dashboard.pid, viewer, arguments.events)
            views = measure_views(tab, dashboard.url, course, arguments.runs)
            assert tab.errors == [], tab.errors
    seconds = [each["first_view_s"] for each in warm]
    return {
        "empty": empty,
        "first_view_cold_s": cold["first_view_s"],
        "first_view_s": min(seconds),
        "first_view_median_s": statistics.median(seconds),
        "first_view_bytes": cold["files_bytes"] + viewer.first,
        "files_bytes": cold["files_bytes"],
        "live": live,
        "views": views,
    }


def print_tables(found: Dict[str, Any], events: int) -> None:
    live = found["live"]
    times = {"warm": found["first_view_s"], "median": found["first_view_median_s"], "cold": found["first_view_cold_s"]}
    print("\nFirst view: " + ", ".join(f"{name} {seconds:.2f} s" for name, seconds in times.items()))
    sizes_ = {
        "files and values": found["first_view_bytes"],
        "files": found["files_bytes"],
        "largest event": live["event_bytes"],
    }
    print(", ".join(f"{name} {size:,} bytes" for name, size in sizes_.items()))
    print("An empty tab: " + ", ".join(f"{name} {value:.4g}" for name, value in found["empty"].items()))
    hours = events * ROUND_S / 3600
    print(f"\n{events} rounds in {live['seconds']:.0f} s: {hours:.2g} hours of a round every {ROUND_S:g} s\n")
    print_table(live["looks"])
    for name, value in live.items():
        if name != "looks":
            print(f"{name}: {value:,.4g}")
    print("\nEach view, the smallest of so many openings:", REPEATS, "\n")
    print_table([{"view": name, **figures} for name, figures in found["views"].items()])


def print_table(rows: List[Dict[str, Any]]) -> None:
    print("| " + " | ".join(rows[0]) + " |\n" + "|---" * len(rows[0]) + "|")
    for row in rows:
        print("| " + " | ".join(f"{v:.4g}" if isinstance(v, float) else str(v) for v in row.values()) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=2000)
    parser.add_argument("--runs", type=int, default=62)
    parser.add_argument("--before", type=int, default=100, help="rounds of each run before the newest")
    parser.add_argument("--events", type=int, default=600)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(arguments, Path(folder))
    if arguments.json:
        print(json.dumps(found))
        return
    print(f"{platform.machine()} {platform.system()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print_tables(found, arguments.events)


if __name__ == "__main__":
    main()
